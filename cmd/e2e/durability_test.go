package e2e

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestKillLosesNothing kills the whole system without warning while clicks are answered, several times over. Each
// answered click must be counted, and counted once; a request that got no answer may have been journaled or not.
func TestKillLosesNothing(t *testing.T) {
	data := t.TempDir()
	args := upArgs(t, data, "--link-scheme=http")
	var answered, unanswered, visitors atomic.Int64
	var p partner
	const kills = 3
	for round := range kills + 1 {
		sys := start(t, args...)
		if round == 0 {
			p = applied(t, sys.Dashboard, sys.Admin)
			eventually(t, 5*time.Second, func() error {
				resp, err := click(sys.Tracker+"/first", person+" first")
				if err == nil && resp.StatusCode != http.StatusFound {
					err = fmt.Errorf("not on the edge yet: %s", resp.Status)
				}
				return err
			})
			answered.Add(1)
		}
		p.api = sys.Dashboard + "/api/v1/programs/acme"
		if round == kills {
			break
		}
		stop := make(chan struct{})
		var clients sync.WaitGroup
		for range 8 {
			clients.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					resp, err := click(sys.Tracker+"/first", fmt.Sprintf("%s visitor/%d", person, visitors.Add(1)))
					switch {
					case err != nil:
						unanswered.Add(1)
					case resp.StatusCode == http.StatusFound:
						answered.Add(1)
					default:
						t.Errorf("a click was answered %s", resp.Status)
					}
				}
			})
		}
		time.Sleep(time.Duration(300+200*round) * time.Millisecond)
		sys.kill()
		close(stop)
		clients.Wait()
	}
	s := settled(t, p)
	low, high := answered.Load(), answered.Load()+unanswered.Load()
	if *s.Gross < low || *s.Gross > high || *s.Clicks != *s.Gross {
		t.Errorf("gross %d, unique %d; want both the same and between %d answered and %d sent", *s.Gross, *s.Clicks, low, high)
	}
	t.Logf("%d answered, %d without answer, %d counted after %d kills", low, high-low, *s.Gross, kills)
	checkLinksAddUp(t, p)
}
