package schema

import "time"

// The rows of the ClickHouse tables that schema/ddl makes. Each is a fact: true of the first records of a log's
// partition, whoever writes it, however often and in whatever order.

// ClickRow is a row of clicks: one accepted record. Its key is (log, partition, offset).
type ClickRow struct {
	Log            string    `ch:"log"`
	Partition      uint16    `ch:"partition"`
	Offset         uint64    `ch:"offset"`
	Edge           uint64    `ch:"edge"`
	Epoch          uint64    `ch:"epoch"`
	Number         uint64    `ch:"number"`
	OccurredAt     time.Time `ch:"occurred_at"`
	ReceivedAt     time.Time `ch:"received_at"`
	ProgramID      uint64    `ch:"program_id"`
	PartnerID      uint64    `ch:"partner_id"`
	PartnershipID  uint64    `ch:"partnership_id"`
	LinkID         uint64    `ch:"link_id"`
	ClickID        string    `ch:"click_id"`
	Visitor        string    `ch:"visitor"`
	Identity       uint8     `ch:"identity"`
	WindowMillis   int64     `ch:"window_ms"`
	EdgeVerdict    uint8     `ch:"edge_verdict"`
	EdgeLinkUnique bool      `ch:"edge_link_unique"`
	Verdict        uint8     `ch:"verdict"`
	LinkUnique     bool      `ch:"link_unique"`
	Signals        uint32    `ch:"signals"`
	Country        string    `ch:"country"`
	Region         string    `ch:"region"`
	City           string    `ch:"city"`
	Device         uint8     `ch:"device"`
	Browser        uint8     `ch:"browser"`
	OS             uint8     `ch:"os"`
	ReferrerHost   string    `ch:"referrer_host"`
	SubIDs         []string  `ch:"sub_ids"`
	UTMSource      string    `ch:"utm_source"`
	UTMMedium      string    `ch:"utm_medium"`
	UTMCampaign    string    `ch:"utm_campaign"`
	UTMTerm        string    `ch:"utm_term"`
	UTMContent     string    `ch:"utm_content"`
	Trigger        uint8     `ch:"trigger"`
	UserAgent      string    `ch:"user_agent"`
	FoldVersion    uint16    `ch:"fold_version"`
}

// TotalKind says what a total is counted over.
type TotalKind uint8

// The kinds of totals. The value of a link is its id in decimal, of Sold, Earned and Pending a currency.
const (
	TotalAll TotalKind = iota + 1
	TotalLink
	TotalCountry
	TotalDevice
	TotalBrowser
	TotalOS
	TotalReferrer
	TotalSubID
	TotalUTMSource
	TotalUTMMedium
	TotalUTMCampaign
	TotalReferred
	TotalSold
	TotalEarned
	TotalPending
)

// OtherValue is the value of a total that gathers what lies beyond the cap of distinct values.
const OtherValue = "(other)"

// TotalRow is a row of totals: after the first V records of this partition, this key's counts are these. The
// counts are absolute. Under TotalLink, unique and repeat are in the scope of the link; in all other kinds in
// that of the partnership, so that gross is the same sum in both.
type TotalRow struct {
	PartnershipID uint64    `ch:"partnership_id"`
	Kind          uint8     `ch:"kind"`
	Value         string    `ch:"value"`
	Quarter       time.Time `ch:"quarter"`
	Log           string    `ch:"log"`
	Partition     uint16    `ch:"partition"`
	V             uint64    `ch:"v"`
	// Counts of clicks, indexed by Verdict.
	Clicks []uint64 `ch:"clicks"`
	// Of ledger entries: how many referrals, and the sum of the amounts in minor units.
	Referred int64 `ch:"referred"`
	Amount   int64 `ch:"amount"`
}

// VisitorRow is a row of visitors: where and when a visitor was last counted. LinkID 0 is the scope of the
// partnership.
type VisitorRow struct {
	Log           string    `ch:"log"`
	Partition     uint16    `ch:"partition"`
	PartnershipID uint64    `ch:"partnership_id"`
	Visitor       string    `ch:"visitor"`
	LinkID        uint64    `ch:"link_id"`
	CountedAt     time.Time `ch:"counted_at"`
	// The offset of the record that was counted; the version of the row.
	Position     uint64 `ch:"position"`
	WindowMillis int64  `ch:"window_ms"`
}

// ProgressRow is a row of progress: all facts up to V, exclusive, of this partition are stored. It is written
// last. The arrays run in parallel, sorted by edge and epoch; a gap is (edge, epoch, first, last).
type ProgressRow struct {
	Log         string    `ch:"log"`
	Partition   uint16    `ch:"partition"`
	V           uint64    `ch:"v"`
	FoldVersion uint16    `ch:"fold_version"`
	Edges       []uint64  `ch:"edges"`
	Epochs      []uint64  `ch:"epochs"`
	Lasts       []uint64  `ch:"lasts"`
	GapEdges    []uint64  `ch:"gap_edges"`
	GapEpochs   []uint64  `ch:"gap_epochs"`
	GapFirsts   []uint64  `ch:"gap_firsts"`
	GapLasts    []uint64  `ch:"gap_lasts"`
	TickEdges   []uint64  `ch:"tick_edges"`
	TickMillis  []int64   `ch:"tick_ms"`
	WrittenAt   time.Time `ch:"written_at"`
}
