package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// programFile writes a small program and returns its path.
func programFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program.yaml")
	err := os.WriteFile(path, []byte(`programs:
  - key: acme
    name: Acme
    hosts: [localhost]
    allowed_destinations: [shop.example]
    features: {links: on}
    conversion_keys: [wmc_test_key_of_acme]
    groups:
      - key: all
        name: Everyone
        offers: ["10 % of every sale"]
        default_links: [{title: Home, destination: "https://shop.example/"}]
    partners:
      - {name: First, email: first@partner.example, password: long-enough-password, group: all, key: first, api_keys: [wmp_test_key_of_first]}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// applied applies the small program to a running dashboard and returns its partner.
func applied(t *testing.T, dashboard, admin string) partner {
	t.Helper()
	if code, out, errs := runOnce(t, "admin", "apply", "-f", programFile(t), "--admin", admin); code != 0 {
		t.Fatalf("admin apply left with %d: %s%s", code, out, errs)
	}
	return partner{dashboard + "/api/v1/programs/acme", "wmp_test_key_of_first"}
}

// TestApart runs the three processes apart, against a broker and an engine that a fourth one serves.
func TestApart(t *testing.T) {
	dir := t.TempDir()
	secrets := filepath.Join(dir, "secrets")
	code, secret, errs := runOnce(t, "admin", "secret")
	if code != 0 {
		t.Fatalf("admin secret left with %d: %s", code, errs)
	}
	if err := os.WriteFile(secrets, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	engines := start(t, "engines", engineFlag(t), "--data="+filepath.Join(dir, "engines"), "--kafka-listen=127.0.0.1:0", "--clickhouse-listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0")
	common := func(name string) []string {
		return []string{name, "--data=" + filepath.Join(dir, name), "--secrets-file=" + secrets, "--kafka=" + engines.Kafka, "--admin-listen=127.0.0.1:0"}
	}
	start(t, append(common("aggregator"), "--clickhouse="+engines.Clickhouse)...)
	edge := start(t, append(common("tracker"), "--tracker-listen=127.0.0.1:0")...)
	dash := start(t, append(common("dashboard"), "--clickhouse="+engines.Clickhouse, "--dashboard-listen=127.0.0.1:0",
		"--database="+filepath.Join(dir, "waymark.db"), "--link-scheme=http")...)
	p := applied(t, dash.Dashboard, dash.Admin)
	url := edge.Tracker + "/first"
	eventually(t, 5*time.Second, func() error {
		resp, err := click(url, person)
		if err == nil && resp.StatusCode != http.StatusFound {
			err = fmt.Errorf("GET %s = %s", url, resp.Status)
		}
		return err
	})
	eventually(t, 10*time.Second, func() error {
		if s := p.summary(t); *s.Clicks != 1 || *s.Gross != 1 {
			return fmt.Errorf("clicks %d, gross %d; want 1, 1", *s.Clicks, *s.Gross)
		}
		return nil
	})
	id := clickID(t, mustClick(t, url, person))
	in := map[string]any{"type": "signup", "click_id": id, "customer_key": "one", "idempotency_key": "one"}
	if code, err := call(http.MethodPost, edge.Tracker+"/v1/conversions", "wmc_test_key_of_acme", in, nil); err != nil || code != http.StatusAccepted {
		t.Fatalf("POST signup = %d, %v", code, err)
	}
	eventually(t, 10*time.Second, func() error {
		if s := p.summary(t); s.Referred != 1 {
			return fmt.Errorf("referred %d, want 1", s.Referred)
		}
		return nil
	})

	// The edge needs nothing but its own disk: with everything else gone it redirects and stays ready.
	dash.kill()
	engines.kill()
	for range 5 {
		mustClick(t, url, person)
		if resp, err := noRedirects.Get(edge.Admin + "/readyz"); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("the tracker's /readyz with everything else down = %v, %v; want 200", resp, err)
		} else {
			resp.Body.Close()
		}
		time.Sleep(200 * time.Millisecond)
	}
	edge.stop()
}
