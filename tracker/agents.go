package tracker

import (
	"hash/maphash"
	"sync"

	"waymark/schema"
	"waymark/tracker/botfilter"
	"waymark/tracker/geo"
)

// agent is all that is read out of a user agent.
type agent struct {
	signals botfilter.Signal
	device  geo.Agent
}

// agents reads user agents and remembers those of late, because few of them make most of the clicks. Its memory is
// fixed: a text that falls into a slot replaces what was there. It is safe for concurrent use and does not allocate.
type agents struct {
	bots  *botfilter.Filter
	seed  maphash.Seed
	slots [agentSlots]agentSlot
}

const agentSlots = 1 << 11

type agentSlot struct {
	mu    sync.Mutex
	size  int
	text  [schema.MaxUserAgent]byte
	agent agent
}

func newAgents(bots *botfilter.Filter) *agents { return &agents{bots: bots, seed: maphash.MakeSeed()} }

// read returns what a user agent says. A slot that is in use by another click is passed over.
func (a *agents) read(ua []byte) agent {
	ua = ua[:min(len(ua), schema.MaxUserAgent)]
	slot := &a.slots[maphash.Bytes(a.seed, ua)%agentSlots]
	if !slot.mu.TryLock() {
		return a.parse(ua)
	}
	defer slot.mu.Unlock()
	if slot.size != len(ua) || string(slot.text[:slot.size]) != string(ua) {
		slot.agent = a.parse(ua)
		slot.size = copy(slot.text[:], ua)
	}
	return slot.agent
}

func (a *agents) parse(ua []byte) agent {
	return agent{a.bots.Match(ua), geo.ParseAgent(ua)}
}
