// Package archtest holds the import rule as a test: cmd -> process -> leaf -> schema.
package archtest

import (
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "waymark/"

var processes = []string{"tracker", "aggregator", "dashboard", "bench"}

// exceptions are the edges between processes that exist on purpose: the visitor set is one implementation.
var exceptions = map[string]string{
	"aggregator":      "tracker/dedupe",
	"aggregator/fold": "tracker/dedupe",
}

// owners says which packages may import a library that belongs to one idea.
var owners = map[string][]string{
	"github.com/cockroachdb/pebble/v2":     {"tracker", "tracker/dedupe", "tracker/journal", "tracker/links", "aggregator"},
	"github.com/valyala/fasthttp":          {"tracker", "tracker/visitor", "bench", "bench/stack"},
	"github.com/bits-and-blooms/bloom/v3":  {"tracker/dedupe"},
	"github.com/oschwald/geoip2-golang/v2": {"tracker/geo"},
	"github.com/ebitengine/purego":         {"aggregator/warehouse"},
	"github.com/twmb/franz-go/pkg/kfake":   {"aggregator/broker"},
	"modernc.org/sqlite":                   {"dashboard/store"},
	"github.com/jackc/pgx/v5/stdlib":       {"dashboard/store"},
	"github.com/alecthomas/kong":           {"cmd/waymark", "cmd/internal/settings"},
}

// forbidden returns why a package must not import another, or "". Both are paths within the module, or the imported
// one that of a library.
func forbidden(from, to string) string {
	to, ours := strings.CutPrefix(to, module)
	if !ours {
		return forbiddenLibrary(from, to)
	}
	fromTop, fromLeaf := split(from)
	toTop, toLeaf := split(to)
	switch {
	case fromTop == "cmd":
		return ""
	case toTop == "cmd":
		return "only cmd imports cmd"
	case fromTop == "schema":
		return "schema imports nothing of the project"
	case toTop == "schema", exceptions[from] == to:
		return ""
	case fromTop != toTop:
		return "processes do not import each other"
	case fromLeaf == "" && toLeaf != "", fromLeaf == toLeaf:
		return ""
	case toLeaf == "":
		return "a leaf does not import its process"
	}
	return "siblings do not import each other"
}

func forbiddenLibrary(from, library string) string {
	first, _, _ := strings.Cut(library, "/")
	if top, _ := split(from); top == "schema" && strings.Contains(first, ".") &&
		!strings.HasPrefix(library, "google.golang.org/protobuf") && !strings.HasPrefix(library, "github.com/planetscale/vtprotobuf") {
		return "schema imports only the standard library and protobuf"
	}
	for owned, packages := range owners {
		if (library == owned || strings.HasPrefix(library, owned+"/")) && !slices.Contains(packages, from) {
			return "this library belongs to " + strings.Join(packages, ", ")
		}
	}
	return ""
}

// split returns the top-level folder of a package and the leaf under it.
func split(pkg string) (top, leaf string) {
	top, rest, _ := strings.Cut(pkg, "/")
	leaf, _, _ = strings.Cut(rest, "/")
	return top, leaf
}

func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		from := strings.TrimPrefix(fields[0], module)
		top, _ := split(from)
		seen[top] = true
		if top != "cmd" && top != "schema" && !slices.Contains(processes, top) {
			t.Errorf("package %s lies outside the layout", from)
		}
		for _, to := range fields[1:] {
			if why := forbidden(from, to); why != "" {
				t.Errorf("%s imports %s: %s", from, to, why)
			}
		}
	}
	for _, top := range processes {
		if !seen[top] {
			t.Errorf("go list did not find %s: the test looked at %v", top, fmt.Sprint(seen))
		}
	}
}

func TestForbidden(t *testing.T) {
	f := func(from, to string, want bool) {
		t.Helper()
		if why := forbidden(from, to); (why != "") != want {
			t.Errorf("forbidden(%s, %s) = %q, want forbidden = %v", from, to, why, want)
		}
	}
	f("cmd/waymark", "waymark/tracker", false)
	f("tracker", "waymark/tracker/journal", false)
	f("tracker/journal", "waymark/schema", false)
	f("aggregator/fold", "waymark/tracker/dedupe", false)
	f("aggregator/warehouse/x", "waymark/aggregator/warehouse", false)
	f("aggregator/facts", "waymark/tracker/dedupe", true)
	f("tracker", "waymark/aggregator", true)
	f("tracker/journal", "waymark/tracker/forwarder", true)
	f("tracker/journal", "waymark/tracker", true)
	f("schema", "waymark/tracker", true)
	f("schema", "google.golang.org/protobuf/proto", false)
	f("schema", "github.com/segmentio/kafka-go", true)
	f("dashboard", "waymark/cmd/internal/admin", true)
	f("dashboard/report", "github.com/cockroachdb/pebble/v2/vfs", true)
}
