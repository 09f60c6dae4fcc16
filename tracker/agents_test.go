package tracker

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"waymark/tracker/botfilter"
)

// TestAgentsFromManyGoroutines: what is remembered is what would be read, also while slots change hands.
func TestAgentsFromManyGoroutines(t *testing.T) {
	a := newAgents(botfilter.New())
	var texts [][]byte
	for i := range 3 * agentSlots / 2 {
		texts = append(texts, []byte(strings.Repeat([]string{person, "curl/8.9.1", "Twitterbot/1.0", "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15"}[i%4]+" ", 1)+fmt.Sprint(i)))
	}
	texts = append(texts, nil, []byte(strings.Repeat("x", 2000)))
	var group sync.WaitGroup
	for g := range 4 {
		group.Go(func() {
			for i := range 3 * len(texts) {
				ua := texts[(i*7+g)%len(texts)]
				if got, want := a.read(ua), a.parse(ua); got != want {
					t.Errorf("read(%q) = %v, want %v", ua, got, want)
					return
				}
			}
		})
	}
	group.Wait()
}
