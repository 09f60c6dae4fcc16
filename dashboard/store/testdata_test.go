package store

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
)

const programFile = `programs:
  - key: summit
    name: Summit Cloud
    hosts: [go.summit.example, GO2.summit.example]
    allowed_destinations: [shop.example, "*.shop.example/plans"]
    windows: {cookie: lifetime, hash: 24h}
    features: {links: on}
    fallback_url: https://shop.example/
    opt_out_param: nocount
    timezone: Europe/Paris
    conversion_keys: [wmc_summit_0123456789]
    groups:
      - key: creators
        name: Creators
        offers: [20 % of every payment]
        default_links:
          - {title: Home page, destination: "https://shop.example/"}
          - {title: Plans, destination: "https://eu.shop.example/plans/all"}
    partners:
      - email: One@Partner.example
        name: Partner One
        group: creators
        key: one
        password: correct horse
        api_keys: [wmp_one_0123456789abcdef]
        links:
          - {slug: Spring-Guide, destination: "https://shop.example/spring", title: Guide}
          - {slug: old-page, destination: "https://shop.example/old", enabled: off}
      - email: two@partner.example
        name: Partner Two
        group: creators
        key: two
  - key: harbor
    name: Harbor Pay
    hosts: [go.harbor.example]
    allowed_destinations: [harbor.example]
    features: {links: off}
    groups:
      - {key: advisers, name: Advisers}
    partners:
      - {email: one@partner.example, name: Partner One, group: advisers, key: one}
`

// plain stands in for a real hasher, which is slow on purpose.
type plain struct{}

func (plain) Hash(_ context.Context, password string) (string, error) {
	return "plain " + password, nil
}

func (plain) Verify(_ context.Context, hash, password string) (bool, error) {
	return hash == "plain "+password, nil
}

func open(t testing.TB) *Store {
	t.Helper()
	s, err := Open(context.Background(), Config{URL: location(t, filepath.Join(t.TempDir(), "waymark.db"))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func apply(t testing.TB, s *Store, file string) Report {
	t.Helper()
	report, err := s.Apply(context.Background(), []byte(file), ApplyOptions{Passwords: plain{}})
	if err != nil {
		t.Fatalf("Apply: %v", err)
	}
	return report
}

// actions counts a report's changes.
func actions(r Report) map[string]int {
	n := map[string]int{}
	for _, c := range r.Changes {
		n[c.Action+" "+c.Kind]++
	}
	return n
}

// partnership returns the partnership of a partner in a program.
func partnership(t testing.TB, s *Store, email, program string) Partnership {
	t.Helper()
	p, err := s.PartnerByEmail(context.Background(), email)
	if err != nil {
		t.Fatalf("PartnerByEmail(%s): %v", email, err)
	}
	_, m, err := s.Membership(context.Background(), p.ID, program)
	if err != nil {
		t.Fatalf("Membership(%s, %s): %v", email, program, err)
	}
	return m
}

func edit(t testing.TB, old, new string) string {
	t.Helper()
	if !strings.Contains(programFile, old) {
		t.Fatalf("the program file holds no %q", old)
	}
	return strings.Replace(programFile, old, new, 1)
}
