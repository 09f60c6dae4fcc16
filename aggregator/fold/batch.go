package fold

import "waymark/schema"

// Batch gathers the rows of one flush, of any number of partitions. The zero value is empty.
type Batch struct {
	Clicks      []schema.ClickRow
	Visitors    []schema.VisitorRow
	Totals      []schema.TotalRow
	Progress    []schema.ProgressRow
	DeadLetters []DeadLetter
	Notices     []Notice
	Stats       Stats
}

// Stats counts what became of the records of a batch.
type Stats struct {
	// Records is all of them, ticks and duplicates included.
	Records    int
	Duplicates int
	Entries    int
	// Clicks is indexed by final verdict.
	Clicks [schema.NumVerdicts]int
	// Differences is how many clicks the edge judged otherwise, in either scope.
	Differences int
}

// Reset empties the batch and keeps its memory, unless a flood has made it large.
func (b *Batch) Reset() {
	const keep = 1 << 16
	if cap(b.Clicks) > keep || cap(b.Totals) > 8*keep {
		*b = Batch{}
		return
	}
	clear(b.Clicks)
	clear(b.Visitors)
	clear(b.Totals)
	*b = Batch{Clicks: b.Clicks[:0], Visitors: b.Visitors[:0], Totals: b.Totals[:0]}
}

// NoticeKind says what a notice is about. It is one of a closed set, fit for a metric label.
type NoticeKind string

// The kinds of notices.
const (
	NoticeGap  NoticeKind = "gap"  // numbers are missing
	NoticeHole NoticeKind = "hole" // numbers are declared lost
	NoticeFork NoticeKind = "fork" // an edge's past is not what it was
)

// NoticeKinds returns all kinds.
func NoticeKinds() []NoticeKind { return []NoticeKind{NoticeGap, NoticeHole, NoticeFork} }

// Notice is something that a person should hear of. It changes no fact.
type Notice struct {
	Log       string
	Partition uint16
	Offset    uint64
	Edge      schema.EdgeID
	Epoch     schema.Epoch
	Kind      NoticeKind
	Text      string
}
