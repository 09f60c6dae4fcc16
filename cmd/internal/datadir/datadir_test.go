package datadir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOpenLocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "another waymark process") {
		t.Errorf("second Open = %v, want an error that says who holds the folder", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Open(path)
	if err != nil {
		t.Fatalf("Open after Close: %v", err)
	}
	again.Close()
}

func TestOpenRefusesNewerAndTouchesNothing(t *testing.T) {
	for _, version := range []string{"2\n", "99", "x"} {
		path := t.TempDir()
		if err := os.WriteFile(filepath.Join(path, versionName), []byte(version), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("Open of version %q = %v, want one line of error", version, err)
		}
		entries, err := os.ReadDir(path)
		if err != nil || len(entries) != 1 {
			t.Errorf("after a refused Open of version %q the folder holds %v, %v; want the version file alone", version, entries, err)
		}
	}
}

func TestSecretsStay(t *testing.T) {
	path := t.TempDir()
	var files [2]string
	for i := range files {
		d, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Secrets(); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(d.Path(secretsName))
		if err != nil {
			t.Fatal(err)
		}
		files[i] = string(b)
		d.Close()
	}
	if files[0] != files[1] {
		t.Error("a reopened folder has other secrets")
	}
}
