package dedupe

import "github.com/bits-and-blooms/bloom/v3"

// A filter grows by stages, each twice as large as the one before and with half its rate of false positives, so that the
// rates add up to less than twice the first (Almeida et al., Scalable Bloom Filters, 2007).
const (
	firstStageKeys = 1024
	firstStageRate = 0.002
	leastStageRate = 0.0002
)

// filter says whether a key is certainly not in a shard. It is guarded by the shard's mutex.
type filter struct {
	stages []stage
	keys   uint64
	bytes  uint64
}

type stage struct {
	*bloom.BloomFilter
	keys, capacity uint64
}

// mayHold reports false only for a key that was never added.
func (f *filter) mayHold(key []byte) bool {
	for i := len(f.stages) - 1; i >= 0; i-- {
		if f.stages[i].Test(key) {
			return true
		}
	}
	return false
}

// add adds a key, unless the filter holds it as far as it can tell.
func (f *filter) add(key []byte) {
	if f.mayHold(key) {
		return
	}
	if n := len(f.stages); n == 0 || f.stages[n-1].keys == f.stages[n-1].capacity {
		f.grow()
	}
	last := &f.stages[len(f.stages)-1]
	last.Add(key)
	last.keys++
	f.keys++
}

func (f *filter) grow() {
	capacity, rate := uint64(firstStageKeys), firstStageRate
	for range f.stages {
		capacity, rate = capacity*2, max(rate/2, leastStageRate)
	}
	s := stage{bloom.NewWithEstimates(uint(capacity), rate), 0, capacity}
	f.stages = append(f.stages, s)
	f.bytes += uint64(s.Cap()) / 8
}
