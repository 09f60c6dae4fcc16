package store

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"waymark/schema"

	"github.com/google/go-cmp/cmp"
)

func TestCreateLinkRules(t *testing.T) {
	s := open(t)
	apply(t, s, programFile)
	one := partnership(t, s, "one@partner.example", "summit").ID
	const good = "https://shop.example/x"
	for _, c := range []struct{ name, slug, destination, title, field, code string }{
		{"empty slug", "", good, "", "slug", CodeInvalid},
		{"underscore", "a_b", good, "", "slug", CodeInvalid},
		{"slash", "a/b", good, "", "slug", CodeInvalid},
		{"65 characters", strings.Repeat("a", 65), good, "", "slug", CodeInvalid},
		{"reserved in capitals", "V1", good, "", "slug", CodeReserved},
		{"taken by an own link", "SPRING-guide", good, "", "slug", CodeTaken},
		{"taken by a disabled link", "old-page", good, "", "slug", CodeTaken},
		{"taken by another's default link", "two", good, "", "slug", CodeTaken},
		{"no destination", "free", "", "", "destination", CodeInvalid},
		{"script", "free", "javascript:alert(1)", "", "destination", CodeInvalid},
		{"other host", "free", "https://evil.example/", "", "destination", CodeNotAllowed},
		{"plain http", "free", "http://shop.example/", "", "destination", CodeNotAllowed},
		{"other path", "free", "https://eu.shop.example/other", "", "destination", CodeNotAllowed},
		{"long title", "free", good, strings.Repeat("é", 121), "title", CodeInvalid},
		{"title of two lines", "free", good, "a\nb", "title", CodeInvalid},
	} {
		_, err := s.CreateLink(t.Context(), one, NewLink{c.slug, c.destination, c.title})
		var field *FieldError
		if !errors.As(err, &field) || field.Field != c.field || field.Code != c.code || field.Message == "" {
			t.Errorf("%s: CreateLink(%q, %q) = %#v, want %s at %s", c.name, c.slug, c.destination, err, c.code, c.field)
		}
	}
	l, err := s.CreateLink(t.Context(), one, NewLink{"My-Page", good, "  Mine "})
	if err != nil || l.Slug != "my-page" || l.Host != "go.summit.example" || l.Title != "Mine" || !l.Enabled || l.Kind != schema.LinkKind_LINK_CUSTOM {
		t.Fatalf("CreateLink = %+v, %v", l, err)
	}
	got, err := s.Link(t.Context(), one, l.ID)
	l.CreatedAt = got.CreatedAt
	if diff := cmp.Diff(l, got); err != nil || diff != "" {
		t.Errorf("Link: %v (-created +read):\n%s", err, diff)
	}
	two := partnership(t, s, "two@partner.example", "summit").ID
	if _, err := s.Link(t.Context(), two, l.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("another partner's Link: %v, want ErrNotFound", err)
	}
	if _, err := s.UpdateLink(t.Context(), two, l.ID, LinkChange{Enabled: new(bool)}); !errors.Is(err, ErrNotFound) {
		t.Errorf("UpdateLink by another partner: %v, want ErrNotFound", err)
	}
}

func TestLinkLimit(t *testing.T) {
	s := open(t)
	apply(t, s, programFile)
	one := partnership(t, s, "one@partner.example", "summit").ID
	var made Link
	for i := range MaxCustomLinks - 2 {
		var err error
		if made, err = s.CreateLink(t.Context(), one, NewLink{fmt.Sprintf("page-%d", i), "https://shop.example/", ""}); err != nil {
			t.Fatalf("link %d: %v", i+3, err)
		}
	}
	for _, enabled := range []bool{true, false} {
		if _, err := s.UpdateLink(t.Context(), one, made.ID, LinkChange{Enabled: &enabled}); err != nil {
			t.Fatal(err)
		}
		_, err := s.CreateLink(t.Context(), one, NewLink{"one-more", "https://shop.example/", ""})
		var field *FieldError
		if !errors.As(err, &field) || field.Code != CodeLimit {
			t.Errorf("the 51st link with one enabled=%v: %v, want %s", enabled, err, CodeLimit)
		}
	}
}

// A slug stays taken when its link is off, whoever asks, and when the program's file drops it.
func TestSlugIsNeverUsedAgain(t *testing.T) {
	s := open(t)
	apply(t, s, programFile)
	one, two := partnership(t, s, "one@partner.example", "summit").ID, partnership(t, s, "two@partner.example", "summit").ID
	l, err := s.CreateLink(t.Context(), one, NewLink{"once", "https://shop.example/", ""})
	if err != nil {
		t.Fatal(err)
	}
	off := false
	if l, err = s.UpdateLink(t.Context(), one, l.ID, LinkChange{Enabled: &off}); err != nil || l.Enabled {
		t.Fatalf("UpdateLink = %+v, %v; want it off", l, err)
	}
	for _, who := range []uint64{one, two} {
		_, err := s.CreateLink(t.Context(), who, NewLink{"ONCE", "https://shop.example/", ""})
		var field *FieldError
		if !errors.As(err, &field) || field.Code != CodeTaken {
			t.Errorf("CreateLink by partnership %d: %v, want %s", who, err, CodeTaken)
		}
	}
	_, err = s.Apply(t.Context(), []byte(edit(t, "key: two", "key: two\n        links: [{slug: once, destination: \"https://shop.example/\"}]")), ApplyOptions{Passwords: plain{}})
	var errs LineErrors
	if !errors.As(err, &errs) || !strings.Contains(err.Error(), "the slug once is taken") {
		t.Errorf("Apply with the same slug: %v, want it taken", err)
	}
}

func TestUpdateLink(t *testing.T) {
	s := open(t)
	apply(t, s, programFile)
	one := partnership(t, s, "one@partner.example", "summit").ID
	links, err := s.Links(t.Context(), one)
	if err != nil {
		t.Fatal(err)
	}
	byDefault, custom := links[0], links[2]
	off, title := false, "New"
	for _, c := range []LinkChange{{Enabled: &off}, {Title: &title}} {
		_, err := s.UpdateLink(t.Context(), one, byDefault.ID, c)
		var field *FieldError
		if !errors.As(err, &field) || field.Code != CodeNotAllowed {
			t.Errorf("UpdateLink of a default link: %v, want %s", err, CodeNotAllowed)
		}
	}
	same, err := s.UpdateLink(t.Context(), one, custom.ID, LinkChange{Title: &custom.Title})
	if err != nil || same.Version != custom.Version {
		t.Errorf("UpdateLink to the same = version %d, %v; want %d", same.Version, err, custom.Version)
	}
	changed := s.CatalogChanged()
	got, err := s.UpdateLink(t.Context(), one, custom.ID, LinkChange{Enabled: &off, Title: &title})
	if err != nil || got.Enabled || got.Title != "New" || got.Version <= custom.Version {
		t.Fatalf("UpdateLink = %+v, %v", got, err)
	}
	select {
	case <-changed:
	default:
		t.Error("the change of a link woke nobody")
	}
	records, err := s.CatalogAfter(t.Context(), got.Version-1, 10)
	if err != nil || len(records) != 1 {
		t.Fatalf("CatalogAfter = %d records, %v; want 1", len(records), err)
	}
	var record schema.CatalogRecord
	if err := record.UnmarshalVT(records[0].Record); err != nil {
		t.Fatal(err)
	}
	if l := record.GetLink(); record.Version != got.Version || l.GetState() != schema.State_STATE_DISABLED || l.GetSlug() != "spring-guide" || records[0].Key != record.CatalogKey() {
		t.Errorf("record = %v under %s, want the disabled link", &record, records[0].Key)
	}
}

func TestOneSlugFromManyAtOnce(t *testing.T) {
	s := open(t)
	apply(t, s, programFile)
	one := partnership(t, s, "one@partner.example", "summit").ID
	var won, taken atomic.Int32
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			_, err := s.CreateLink(t.Context(), one, NewLink{"race", "https://shop.example/", ""})
			var field *FieldError
			switch {
			case err == nil:
				won.Add(1)
			case errors.As(err, &field) && field.Code == CodeTaken:
				taken.Add(1)
			default:
				t.Errorf("CreateLink: %v", err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || taken.Load() != 31 {
		t.Errorf("%d won and %d found it taken, want 1 and 31", won.Load(), taken.Load())
	}
}
