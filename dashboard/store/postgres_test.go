package store

import (
	"context"
	"strings"
	"testing"

	"waymark/dashboard/store/storetest"
)

// onPostgres makes the databases of the tests under TestPostgres.
var onPostgres func(testing.TB) string

// TestPostgres runs what the other tests do on SQLite against PostgreSQL.
func TestPostgres(t *testing.T) {
	server := storetest.Start(t)
	onPostgres = server.Database
	for name, test := range map[string]func(*testing.T){
		"Apply": TestApply, "DryRun": TestApplyDryRun, "Changes": TestApplyChanges, "Redraw": TestApplyRedrawsDefaultLinks, "Errors": TestApplyErrors,
		"Rules": TestCreateLinkRules, "Limit": TestLinkLimit, "Slugs": TestSlugIsNeverUsedAgain, "Update": TestUpdateLink,
		"Race": TestOneSlugFromManyAtOnce, "Lease": TestLease, "Sessions": TestSessions, "Rollback": TestUpdateRollsBack, "Reopen": TestReopen, "Refusal": testPostgresRefusal,
	} {
		t.Run(name, test)
	}
}

// location returns where a test's new database is.
func location(t testing.TB, sqlite string) string {
	if strings.HasPrefix(t.Name(), "TestPostgres/") {
		return onPostgres(t)
	}
	return sqlite
}

func testPostgresRefusal(t *testing.T) {
	url := location(t, "")
	s, err := Open(context.Background(), Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.writer.ExecContext(t.Context(), `INSERT INTO migrations (number, name, checksum, applied_ms) VALUES (9000, 'x', 'y', 0)`); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if s, err := Open(t.Context(), Config{URL: url}); err == nil || !strings.Contains(err.Error(), "newer version") {
		t.Errorf("Open of a newer version's database = %v", err)
		if err == nil {
			s.Close()
		}
	}
}
