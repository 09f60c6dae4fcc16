package store

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"waymark/schema"

	"github.com/google/go-cmp/cmp"
)

func TestApply(t *testing.T) {
	s := open(t)
	want := map[string]int{"create program": 2, "create group": 2, "create partner": 2, "create partnership": 3, "create api key": 1, "create link": 6}
	if diff := cmp.Diff(want, actions(apply(t, s, programFile))); diff != "" {
		t.Errorf("first apply (-want +got):\n%s", diff)
	}
	before, err := s.CatalogVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again := apply(t, s, programFile)
	want = map[string]int{"unchanged program": 2, "unchanged group": 2, "unchanged partner": 2, "unchanged partnership": 3, "unchanged link": 6}
	if diff := cmp.Diff(want, actions(again)); diff != "" {
		t.Errorf("second apply (-want +got):\n%s", diff)
	}
	if len(again.Notes) > 0 {
		t.Errorf("second apply notes %q, want none", again.Notes)
	}
	if after, _ := s.CatalogVersion(t.Context()); after != before {
		t.Errorf("the second apply moved the catalog from %d to %d", before, after)
	}
	checkApplied(t, s)
}

func checkApplied(t *testing.T, s *Store) {
	partner, err := s.PartnerByAPIKey(t.Context(), "wmp_one_0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	members, err := s.Memberships(t.Context(), partner.ID)
	if err != nil || len(members) != 2 || members[0].Program.Key != "harbor" {
		t.Fatalf("Memberships = %+v, %v; want harbor and summit", members, err)
	}
	got := members[1].Program
	got.ID = 0
	want := Program{Key: "summit", Name: "Summit Cloud", State: schema.State_STATE_ACTIVE, LinksEnabled: true,
		Hosts: []string{"go.summit.example", "go2.summit.example"}, AllowedDestinations: []string{"shop.example", "*.shop.example/plans"},
		FallbackURL: "https://shop.example/", HashWindow: 24 * time.Hour, OptOutParam: "nocount", TimeZone: "Europe/Paris",
		ExcludedNetworks: []string{}, Passthrough: []string{}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("program (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"20 % of every payment"}, members[1].Partnership.Offers); diff != "" {
		t.Errorf("offers (-want +got):\n%s", diff)
	}
	links, err := s.Links(t.Context(), members[1].Partnership.ID)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, l := range links {
		lines = append(lines, fmt.Sprintf("%d %s/%s %s %q %v", l.Kind, l.Host, l.Slug, l.Destination, l.Title, l.Enabled))
	}
	wantLines := []string{
		`1 go.summit.example/one https://shop.example/ "Home page" true`,
		`1 go.summit.example/one-2 https://eu.shop.example/plans/all "Plans" true`,
		`2 go.summit.example/spring-guide https://shop.example/spring "Guide" true`,
		`2 go.summit.example/old-page https://shop.example/old "" false`,
	}
	if diff := cmp.Diff(wantLines, lines); diff != "" {
		t.Errorf("links (-want +got):\n%s", diff)
	}
	if _, err := s.Links(t.Context(), members[0].Partnership.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("Links of a program with links off: %v, want ErrNotFound", err)
	}
}

func TestApplyDryRun(t *testing.T) {
	s := open(t)
	report, err := s.Apply(t.Context(), []byte(programFile), ApplyOptions{DryRun: true, Passwords: plain{}})
	if err != nil || actions(report)["create link"] != 6 {
		t.Fatalf("dry run = %v, %v; want 6 links to create", actions(report), err)
	}
	for _, table := range []string{"programs", "partners", "links", "catalog_outbox", "counters"} {
		var n int
		if err := s.reader.QueryRowContext(t.Context(), "SELECT count(*) FROM "+table).Scan(&n); err != nil || n != 0 {
			t.Errorf("%s holds %d rows after a dry run (%v), want 0", table, n, err)
		}
	}
}

func TestApplyChanges(t *testing.T) {
	s := open(t)
	apply(t, s, programFile)
	f := func(old, new string, want map[string]int) {
		t.Helper()
		got := actions(apply(t, s, edit(t, old, new)))
		for key := range got {
			if strings.HasPrefix(key, "unchanged") {
				delete(got, key)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q -> %q (-want +got):\n%s", old, new, diff)
		}
		apply(t, s, programFile)
	}
	f("name: Summit Cloud", "name: Summit", map[string]int{"update program": 1})
	f("features: {links: on}", "features: {links: off}", map[string]int{"update program": 1})
	f("hash: 24h", "hash: 48h", map[string]int{"update program": 1})
	f("name: Creators", "name: Makers", map[string]int{"update group": 1})
	f("title: Home page", "title: Start", map[string]int{"update group": 1, "update link": 2})
	f("password: correct horse", "password: wrong horse", map[string]int{"update partner": 1})
	f("title: Guide", "title: The guide", map[string]int{"update link": 1})
	f("enabled: off", "enabled: on", map[string]int{"update link": 1})
	f("shop.example/spring", "shop.example/summer", map[string]int{"update link": 1})
	f("key: two", "key: two\n        state: disabled", map[string]int{"update partnership": 1})
	f("wmc_summit_0123456789", "wmc_summit_0123456789, wmc_summit_second_key", map[string]int{"update program": 1})
	f("slug: old-page", "slug: new-page", map[string]int{"create link": 1})
	f("{key: advisers, name: Advisers}", "{key: advisers, name: Advisers}\n      - {key: late, name: Late}", map[string]int{"create group": 1})
}

// A change of a group's default links reaches partners that the file does not name.
func TestApplyRedrawsDefaultLinks(t *testing.T) {
	s := open(t)
	apply(t, s, programFile)
	file := edit(t, `          - {title: Plans, destination: "https://eu.shop.example/plans/all"}`,
		`          - {title: Plans, destination: "https://eu.shop.example/plans/new"}
          - {title: Third, destination: "https://shop.example/3"}`)
	cut := strings.Index(file, "      - email: two@")
	end := strings.Index(file, "  - key: harbor")
	report := apply(t, s, file[:cut]+file[end:])
	if got := actions(report); got["update link"] != 2 || got["create link"] != 2 {
		t.Errorf("actions = %v, want 2 links updated and 2 created", got)
	}
	if notes := strings.Join(report.Notes, "\n"); !strings.Contains(notes, "the partner two@partner.example of summit is not in the file") {
		t.Errorf("notes = %q, want the partner that was left out", notes)
	}
	links, err := s.Links(t.Context(), partnership(t, s, "two@partner.example", "summit").ID)
	if err != nil || len(links) != 3 || links[1].Destination != "https://eu.shop.example/plans/new" || links[2].Slug != "two-3" {
		t.Errorf("links = %+v, %v; want the third default link and the new plans", links, err)
	}
}

func TestApplyErrors(t *testing.T) {
	s := open(t)
	f := func(file string, want ...string) {
		t.Helper()
		_, err := s.Apply(t.Context(), []byte(file), ApplyOptions{Passwords: plain{}})
		var errs LineErrors
		if !errors.As(err, &errs) {
			t.Errorf("Apply(%q) = %v, want line errors", file, err)
			return
		}
		text := err.Error()
		if n := strings.Count(text, "\n") + 1; n != len(want) {
			t.Errorf("got %d errors, want %d:\n%s", n, len(want), text)
		}
		for _, w := range want {
			if !strings.Contains("\n"+text, "\n"+w) {
				t.Errorf("got:\n%s\nwant a line that starts with %q", text, w)
			}
		}
	}
	f("", "the file is empty")
	f("programs: []\nprograms: []\n", `line 2: mapping key "programs" already defined`)
	f("a: b\n\t- c", "line 2: ")
	f("program: []", `line 1: unknown key "program" in the file; known are programs`)
	f("programs: 3", "line 1: programs must be a list")
	f("programs:\n  - 3", "line 2: a program must be a mapping")
	f(edit(t, "name: Summit Cloud", "name: 7"), "line 3: name must be text; put it in quotes")
	f(edit(t, "fallback_url", "fallback"), `line 8: unknown key "fallback" in a program`)
	f(edit(t, "features: {links: on}", "features: {links: maybe}"), "line 7: links must be on or off")
	f(edit(t, "name: Summit Cloud", "name:"), `line 3: "name" has no value`)
	f(edit(t, "hosts: [go.summit", "hosts: [go summit"), `line 4: "go summit.example" is not a host name`)
	f(edit(t, "go.harbor.example", "go.summit.example"), "line 35: the host go.summit.example belongs to the program summit")
	f(edit(t, "cookie: lifetime, hash: 24h", "cookie: never, hash: 1d"), "line 6: a window must be", `line 6: a window must be lifetime or a duration such as 24h, up to 87600h, not "1d"`)
	f(edit(t, "Europe/Paris", "Europe/Atlantis"), "line 10: \"Europe/Atlantis\" is not a time zone")
	f(edit(t, "wmc_summit_0123456789", "short"), "line 11: a key has 16 to 256")
	f(edit(t, "key: harbor", "key: summit"), "line 33: the program \"summit\" stands twice")
	f(edit(t, "group: creators\n        key: two", "group: nobody\n        key: two"), `line 31: the program summit has no group "nobody"`)
	f(edit(t, "key: two", "key: one"), "line 32: the partner key one is taken")
	f(edit(t, "key: two", "key: v1"), "line 32: a partner needs a key that can be a slug: the slug \"v1\" is reserved")
	f(edit(t, "key: two", "key: spring-guide"), "line 32: the slug spring-guide is taken on go.summit.example, by line 27")
	f(edit(t, "email: two@partner.example", "email: one@partner.example"), "line 29: the partner one@partner.example stands twice",
		"line 30: one@partner.example has another name in line 21")
	f(edit(t, "slug: old-page", "slug: old_page"), "line 28: A slug is made of letters")
	f(edit(t, "https://shop.example/old", "https://elsewhere.example/"), "line 28: https://elsewhere.example is not among")
	f(edit(t, "https://shop.example/spring", "javascript:alert(1)"), "line 27: A destination is an absolute")
	f(strings.NewReplacer("slug: old-page", "slug: x_y", "Europe/Paris", "Nowhere", "hash: 24h", "hash: no").Replace(programFile), "line 6: ", "line 10: ", "line 28: ")
	var many strings.Builder
	for i := range 51 {
		fmt.Fprintf(&many, "          - {slug: many-%d, destination: \"https://shop.example/%d\"}\n", i, i)
	}
	f(edit(t, "      - email: two", many.String()+"      - email: two"), "line 77: one has more than 50 custom links")
	if v, err := s.CatalogVersion(t.Context()); v != 0 || err != nil {
		t.Errorf("files with errors left the catalog at version %d, %v; want 0", v, err)
	}
}

func FuzzApply(f *testing.F) {
	f.Add(programFile)
	f.Add("programs: [{key: a, groups: [{}], partners: [{links: [{}]}]}]")
	f.Add("programs: &a [*a]")
	s := open(f)
	f.Fuzz(func(t *testing.T, file string) {
		if _, err := s.Apply(context.Background(), []byte(file), ApplyOptions{DryRun: true, Passwords: plain{}}); err != nil {
			var errs LineErrors
			if !errors.As(err, &errs) || len(errs) == 0 {
				t.Errorf("Apply(%q) = %v, want line errors", file, err)
			}
		}
	})
}
