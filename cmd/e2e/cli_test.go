package e2e

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBadInput runs commands that cannot work: each must say why in one line and leave with the right code.
func TestBadInput(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	newer := filepath.Dir(write("newer/version", "99\n"))
	f := func(code int, names string, args ...string) {
		t.Helper()
		got, stdout, stderr := runOnce(t, args...)
		if got != code || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, names) {
			t.Errorf("waymark %s: exit %d, stderr %q; want exit %d and one line that names %q\n%s", strings.Join(args, " "), got, stderr, code, names, stdout)
		}
	}
	f(2, "--nonsense", "up", "--nonsense")
	f(2, "nonsense", "nonsense")
	f(2, "--durability", "up", "--durability=maybe")
	f(2, "tracker-listn", "up", "--config="+write("typo.yaml", "data: x\ntracker-listn: :1\n"))
	f(2, "line 2", "up", "--config="+write("typo2.yaml", "data: x\ntracker-listn: :1\n"))
	f(2, "--config", "up", "--config="+filepath.Join(dir, "absent.yaml"))
	f(2, "--tracker-listen", "up", engineFlag(t), "--data="+filepath.Join(dir, "a"), "--tracker-listen=nonsense")
	f(2, "--secrets-file", "tracker", "--data="+filepath.Join(dir, "b"), "--kafka=127.0.0.1:1")
	f(1, "--tracker-listen", "up", engineFlag(t), "--data="+filepath.Join(dir, "c"), "--tracker-listen="+taken.Addr().String(), "--dashboard-listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0")
	f(1, "newer", upArgs(t, newer)...)
	f(1, "make run ENGINE=", "up", "--engine="+filepath.Join(dir, "absent.so"), "--data="+filepath.Join(dir, "d"), "--tracker-listen=127.0.0.1:0", "--dashboard-listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0")
	f(1, "127.0.0.1:1", "admin", "apply", "-f", programFile(t), "--admin=http://127.0.0.1:1")
	if entries, err := os.ReadDir(newer); err != nil || len(entries) != 1 {
		t.Errorf("the folder of a newer version holds %v, %v; want it untouched", entries, err)
	}
}

// TestLockedDataFolder starts a second system on the data folder of a running one.
func TestLockedDataFolder(t *testing.T) {
	data := t.TempDir()
	sys := start(t, upArgs(t, data)...)
	if !strings.Contains(sys.output.String(), "waymark admin apply") {
		t.Errorf("an empty system does not say what to do next:\n%s", sys.output)
	}
	code, _, stderr := runOnce(t, upArgs(t, data)...)
	if code != 1 || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "locked") {
		t.Errorf("a second process on the folder: exit %d, stderr %q; want exit 1 and one line", code, stderr)
	}

	bad := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(bad, []byte("programs:\n  - key: acme\n    naem: Acme\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := runOnce(t, "admin", "apply", "-f", bad, "--admin", sys.Admin); code != 1 || !strings.Contains(stderr, "line 3") {
		t.Errorf("admin apply of a bad file: exit %d, %q, %q; want exit 1 and the line", code, stdout, stderr)
	}
	for range 2 { // what a dry run shows is not done
		if code, stdout, stderr := runOnce(t, "admin", "apply", "--dry-run", "-f", programFile(t), "--admin", sys.Admin); code != 0 || !strings.Contains(stdout, "create") {
			t.Errorf("dry run: exit %d, %q, %q; want it to create", code, stdout, stderr)
		}
	}
	applied(t, sys.Dashboard, sys.Admin)
	if code, stdout, stderr := runOnce(t, "admin", "apply", "-f", programFile(t), "--admin", sys.Admin); code != 0 || strings.Contains(stdout, "create ") || strings.Contains(stdout, "update ") {
		t.Errorf("applied twice: exit %d, %q, %q; want nothing to change", code, stdout, stderr)
	}
	sys.stop()
}
