package fold_test

import (
	"math/rand/v2"
	"testing"

	"waymark/aggregator/fold"
	"waymark/aggregator/fold/foldtest"
)

// BenchmarkFold folds clicks with about 30 % new visitors over a day, in batches of 2,000, and emits every batch.
func BenchmarkFold(b *testing.B) {
	const clicks = 100_000
	r := rand.New(rand.NewPCG(1, 1))
	var log []fold.Record
	for len(log) < clicks {
		log = foldtest.Log(r, foldtest.Config{Edges: 1, Clicks: 2 * clicks, Visitors: clicks / 3, Partnerships: 200, Values: 50, Step: 2 * 86400_000 / clicks, Window: 3600_000, Start: 1_790_000_000_000})
	}
	log = log[:clicks]
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		p, err := fold.New(fold.Config{Log: clickLog, Visitors: visitors(b)}, nil)
		if err != nil {
			b.Fatal(err)
		}
		var batch fold.Batch
		b.StartTimer()
		for rest := log; len(rest) > 0; {
			n := min(2000, len(rest))
			if err := p.Stage(rest[:n]); err != nil {
				b.Fatal(err)
			}
			if ids := p.MissingValues(); len(ids) > 0 {
				if err := p.LoadValues(ids, nil); err != nil {
					b.Fatal(err)
				}
			}
			if cells := p.MissingCells(); len(cells) > 0 {
				if err := p.LoadCells(cells, nil); err != nil {
					b.Fatal(err)
				}
			}
			p.Apply(&batch)
			p.Emit(&batch)
			batch.Reset()
			rest = rest[n:]
		}
	}
	b.ReportMetric(float64(clicks)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
