//go:build !race

package schema

import "testing"

func TestMintDoesNotAlloc(t *testing.T) {
	ids := NewClickIDs(testSecrets(t, secretA))
	id := new(RawClickID)
	if n := testing.AllocsPerRun(100, func() { ids.Mint(id, 1, 2, 3, 4) }); n != 0 {
		t.Errorf("Mint allocates %v times, want 0", n)
	}
}
