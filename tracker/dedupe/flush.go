package dedupe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"waymark/schema"
)

// maxBatch bounds one Pebble batch, in bytes; a larger flush is made of several, and only the last one moves the position.
const maxBatch = 8 << 20

// Flush stores the lane's marks up to a position, and the position, synced. When it returns an error nothing is lost:
// the marks stay in memory and the next Flush stores them.
func (s *Set) Flush(lane uint16, upTo schema.Position) error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	begin := time.Now()
	current := s.positions[lane]
	if current != nil && schema.Position(current.Load()) >= upTo {
		return nil
	}
	batch := s.db.NewBatch()
	defer func() { batch.Close() }()
	var value []byte
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for k, e := range sh.overlay {
			if k.lane != lane {
				continue
			}
			marks, n := e.durable(upTo)
			if n == 0 {
				continue
			}
			value = appendMarks(value[:0], marks)
			d := k.disk()
			if err := batch.Set(d[:], value, nil); err != nil {
				sh.mu.Unlock()
				return fmt.Errorf("cannot store a visitor: %w", err)
			}
		}
		sh.mu.Unlock()
		if batch.Len() > maxBatch {
			// A crash may leave these marks ahead of the position. The caller's own truth is ahead of it as well (the
			// journal's verdicts, or progress), and it says again what it said: Put keeps the higher position.
			if err := batch.Commit(pebble.NoSync); err != nil {
				return fmt.Errorf("cannot store visitors: %w", err)
			}
			batch.Close()
			batch = s.db.NewBatch()
		}
	}
	if err := batch.Set(positionKey(lane), binary.BigEndian.AppendUint64(nil, uint64(upTo)), nil); err != nil {
		return fmt.Errorf("cannot store the visitor set's position: %w", err)
	}
	if err := batch.Commit(pebble.Sync); err != nil {
		return fmt.Errorf("cannot store the visitor set's position: %w", err)
	}
	if current == nil {
		current = &atomic.Uint64{}
		s.positions[lane] = current
	}
	current.Store(uint64(upTo))
	s.settle(lane, upTo)
	s.metrics.flushSeconds.Observe(time.Since(begin).Seconds())
	return nil
}

// settle drops from memory what is on disk now.
func (s *Set) settle(lane uint16, upTo schema.Position) {
	var keys, bytes uint64
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for k, e := range sh.overlay {
			if k.lane != lane {
				continue
			}
			marks, n := e.durable(upTo)
			if n == 0 {
				continue
			}
			if e.pending = append(e.pending[:0], e.pending[n:]...); len(e.pending) == 0 {
				delete(sh.overlay, k)
				sh.putBackLocked(e)
				continue
			}
			e.base = marks
		}
		keys += sh.filter.keys
		bytes += sh.filter.bytes
		sh.mu.Unlock()
	}
	s.metrics.filterKeys.Set(float64(keys))
	s.metrics.filterBytes.Set(float64(bytes))
}

// Discard empties a lane, in memory and on disk, and sets its position to 0.
func (s *Set) Discard(lane uint16) error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		for k := range sh.overlay {
			if k.lane == lane {
				delete(sh.overlay, k)
			}
		}
		sh.mu.Unlock()
	}
	first := laneKey{lane: lane}.disk()
	end := binary.BigEndian.AppendUint32([]byte{entryPrefix}, uint32(lane)+1)
	batch := s.db.NewBatch()
	defer batch.Close()
	err := batch.DeleteRange(first[:3], []byte{entryPrefix, end[3], end[4]}, nil)
	if lane == 0xffff {
		err = batch.DeleteRange(first[:3], []byte{entryPrefix + 1}, nil)
	}
	if err == nil {
		err = batch.Delete(positionKey(lane), nil)
	}
	if err == nil {
		err = batch.Commit(pebble.Sync)
	}
	if err != nil {
		return fmt.Errorf("cannot discard lane %d of the visitor set: %w", lane, err)
	}
	delete(s.positions, lane)
	return nil
}

func (s *Set) loadPositions() error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{positionPrefix}, UpperBound: []byte{positionPrefix + 1}})
	if err != nil {
		return fmt.Errorf("cannot read the visitor set's positions: %w", err)
	}
	for valid := it.First(); valid; valid = it.Next() {
		key, value := it.Key(), it.Value()
		if len(key) != 3 || len(value) != 8 {
			err = fmt.Errorf("cannot read the visitor set's positions: key %x has value %x", key, value)
			break
		}
		p := &atomic.Uint64{}
		p.Store(binary.BigEndian.Uint64(value))
		s.positions[binary.BigEndian.Uint16(key[1:])] = p
	}
	if err := errors.Join(err, it.Close()); err != nil {
		return fmt.Errorf("cannot read the visitor set's positions: %w", err)
	}
	return nil
}

// rebuildFilter adds every visitor on disk to the filter. Marks that are made meanwhile are added as they are made.
func (s *Set) rebuildFilter() {
	begin := time.Now()
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{entryPrefix}, UpperBound: []byte{entryPrefix + 1}})
	if err != nil {
		s.metrics.readErrors.Inc()
		return // Pebble alone goes on answering
	}
	defer it.Close()
	for valid := it.First(); valid; valid = it.Next() {
		select {
		case <-s.stop:
			return
		default:
		}
		key := it.Key()
		if len(key) != len(diskKey{}) {
			continue
		}
		sh := &s.shards[key[len(key)-1]]
		sh.mu.Lock()
		sh.filter.add(key[1:])
		sh.mu.Unlock()
	}
	if it.Error() != nil {
		s.metrics.readErrors.Inc()
		return
	}
	s.filterReady.Store(true)
	s.metrics.rebuildSeconds.Set(time.Since(begin).Seconds())
}

// FilterReady reports whether the filter answers: the rebuild that Open began is done.
func (s *Set) FilterReady() bool { return s.filterReady.Load() }
