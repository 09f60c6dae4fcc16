package scenario

import (
	"bytes"
	"fmt"
)

// ProgramFile describes the program that a run clicks, for `waymark admin apply`.
type ProgramFile struct {
	Key            string // of the program; no other program's
	Host           string // of the links
	Destination    string // base URL that the links lead to
	ConversionsKey string
	Email          string // of the partner who may read the numbers
	APIKey         string // of the same partner
	Disabled       bool   // the file that ends the program
}

// Program returns the program file of a scenario.
func (s *Scenario) Program(f ProgramFile) []byte {
	var b bytes.Buffer
	state := "active"
	if f.Disabled {
		state = "disabled"
	}
	fmt.Fprintf(&b, "programs:\n  - key: %q\n    name: %q\n    state: %s\n    hosts: [%q]\n    allowed_destinations: [%q]\n", f.Key, "Load test "+s.Name, state, f.Host, f.Destination)
	fmt.Fprintf(&b, "    windows: {cookie: lifetime, hash: 24h}\n    conversion_keys: [%q]\n    groups:\n      - {key: bench, name: Bench}\n    partners:\n", f.ConversionsKey)
	for p := range s.Links.Partners {
		fmt.Fprintf(&b, "      - name: %q\n        email: %q\n        group: bench\n        key: %q\n", fmt.Sprintf("Load test partner %d", p), f.partnerEmail(p), PartnerKey(p))
		if p == 0 && f.APIKey != "" {
			fmt.Fprintf(&b, "        api_keys: [%q]\n", f.APIKey)
		}
		b.WriteString("        links:\n")
		for l := p * s.Links.PerPartner; l < (p+1)*s.Links.PerPartner; l++ {
			fmt.Fprintf(&b, "          - {slug: %s, title: %q, destination: \"%s/landing?link=%d\"}\n", Slug(l), fmt.Sprintf("Link %d", l), f.Destination, l)
		}
	}
	return b.Bytes()
}

func (f ProgramFile) partnerEmail(p int) string {
	if p == 0 {
		return f.Email
	}
	return fmt.Sprintf("%d.%s", p, f.Email)
}
