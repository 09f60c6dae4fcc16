//go:build !race

package geo

import "testing"

func TestParseAgentDoesNotAlloc(t *testing.T) {
	ua := []byte("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36")
	if n := testing.AllocsPerRun(100, func() { ParseAgent(ua) }); n != 0 {
		t.Errorf("ParseAgent allocates %v times, want 0", n)
	}
}
