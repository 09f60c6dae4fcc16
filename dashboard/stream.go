package dashboard

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"

	"waymark/dashboard/live"
	"waymark/dashboard/pages"
	"waymark/dashboard/report"
	"waymark/dashboard/store"
)

// connKey is where a connection lies in its requests' context.
type connKey struct{}

func withConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, conn)
}

// The bounds of a stream. A reader that takes nothing fills the small buffer soon and is cut then; one that nobody hears
// of is cut with its age. The browser comes back by itself.
const (
	streamWrite  = 10 * time.Second
	streamBeat   = 10 * time.Second
	streamAge    = 10 * time.Minute
	streamBuffer = 16 << 10
)

// streamed answers with the live parts of a page, again and again. view draws the page for a reading; it is asked only
// when the sheets have changed.
func (d *Dashboard) streamed(w http.ResponseWriter, r *http.Request, p store.Partner, keys []uint64, zone *time.Location, view func(reading) (any, error)) {
	watcher, err := d.hub.Watch(p.ID, keys)
	if errors.Is(err, live.ErrFull) {
		w.Header().Set("Retry-After", "10")
		d.fail(w, r, http.StatusServiceUnavailable, "Too many pages are open.")
		return
	}
	defer watcher.Close()
	if tcp, ok := r.Context().Value(connKey{}).(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(streamBuffer)
	}
	out := &stream{w: w, control: http.NewResponseController(w), limit: d.streamWrite}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no")
	// The request is read; its deadline must not end the answer.
	_ = out.control.SetReadDeadline(time.Time{})
	if out.write([]byte("retry: 1000\n\n")) != nil {
		return
	}
	now := reading{sheets: map[uint64]*report.Sheet{}}
	beat, age := time.NewTicker(streamBeat), time.After(streamAge)
	defer beat.Stop()
	var page any
	for {
		select {
		case <-r.Context().Done():
			return
		case <-age:
			return
		case <-beat.C:
			if out.write([]byte(": still here\n\n")) != nil {
				return
			}
			continue
		case <-watcher.Ready():
		}
		state, changed, ok := watcher.News()
		if !ok {
			continue
		}
		now.standing = state
		for id, sheet := range changed {
			now.sheets[id] = sheet
		}
		whole := len(changed) > 0 && len(now.sheets) == len(keys)
		if whole {
			if page, err = view(now); err != nil {
				d.log.Debug("cannot update a page", "error", err)
				_ = out.write([]byte("event: gone\ndata: \n\n"))
				return
			}
		}
		if err := d.push(out, page, whole, asOfView(state, d.c.Now()), zone); err != nil {
			return
		}
	}
}

// push sends the whole of a page's live parts, or only up to when they are complete.
func (d *Dashboard) push(out *stream, page any, whole bool, asOf pages.AsOf, zone *time.Location) error {
	var view any = &pages.Standing{AsOf: asOf, Zone: zone}
	if whole {
		view = page
	}
	var b bytes.Buffer
	if err := d.pages.RenderLive(&b, view); err != nil {
		return err
	}
	return out.send("page", b.Bytes())
}

// stream writes events, each under a deadline, and drops one that is the same as the last.
type stream struct {
	w       io.Writer
	control *http.ResponseController
	limit   time.Duration
	last    []byte
}

func (s *stream) send(event string, data []byte) error {
	if bytes.Equal(data, s.last) {
		return nil
	}
	s.last = bytes.Clone(data)
	var b bytes.Buffer
	b.WriteString("event: " + event + "\n")
	for line := range bytes.Lines(data) {
		b.WriteString("data: ")
		b.Write(bytes.TrimRight(line, "\r\n"))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	return s.write(b.Bytes())
}

func (s *stream) write(b []byte) error {
	if err := s.control.SetWriteDeadline(time.Now().Add(s.limit)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := s.w.Write(b); err != nil {
		return err
	}
	return s.control.Flush()
}

func (d *Dashboard) homeLive(w http.ResponseWriter, r *http.Request, p store.Partner) {
	members, err := d.c.Store.Memberships(r.Context(), p.ID)
	if err != nil {
		d.broken(w, r, err)
		return
	}
	d.streamed(w, r, p, partnershipsOf(members), time.UTC, func(n reading) (any, error) { return d.homeView(r, p, members, n), nil })
}

func (d *Dashboard) summaryLive(w http.ResponseWriter, r *http.Request, p store.Partner) {
	pr, err := d.programOf(r.Context(), r, p)
	if err != nil {
		d.broken(w, r, err)
		return
	}
	d.streamed(w, r, p, []uint64{pr.Partnership.ID}, zoneOf(pr.Program), func(n reading) (any, error) { return d.summaryView(r, pr, n) })
}

func (d *Dashboard) linksLive(w http.ResponseWriter, r *http.Request, p store.Partner) {
	pr, err := d.programOf(r.Context(), r, p)
	if err == nil && !pr.Program.LinksEnabled {
		err = store.ErrNotFound
	}
	if err != nil {
		d.broken(w, r, err)
		return
	}
	d.streamed(w, r, p, []uint64{pr.Partnership.ID}, zoneOf(pr.Program), func(reading) (any, error) { return d.linksView(r, pr) })
}
