package warehouse

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/google/go-cmp/cmp"

	"waymark/schema/ddl"
)

// testLibrary returns the engine's path, and fetches it if it is not there.
func testLibrary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("WAYMARK_ENGINE"); path != "" {
		return path
	}
	fetch := exec.Command("sh", "fetch.sh")
	fetch.Stderr = os.Stderr
	out, err := fetch.Output()
	if err != nil {
		t.Fatalf("the embedded engine is needed and can't be fetched: %v", err)
	}
	return strings.TrimSpace(string(out))
}

func testEngine(t testing.TB, dir string) *Engine {
	t.Helper()
	e, err := OpenEngine(EngineConfig{Library: testLibrary(t), Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

func testConn(t testing.TB, o Options) driver.Conn {
	t.Helper()
	conn, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

type row struct {
	U8     uint8             `ch:"u8"`
	U64    uint64            `ch:"u64"`
	I64    int64             `ch:"i64"`
	S      string            `ch:"s"`
	Low    string            `ch:"low"`
	Fixed  string            `ch:"fixed"`
	At     time.Time         `ch:"at"`
	Second time.Time         `ch:"second"`
	Yes    bool              `ch:"yes"`
	Array  []uint64          `ch:"array"`
	Texts  []string          `ch:"texts"`
	Map    map[string]uint64 `ch:"map"`
}

const rowTable = `CREATE TABLE t (u8 UInt8, u64 UInt64, i64 Int64, s String, low LowCardinality(String), fixed FixedString(4),
	at DateTime64(3, 'UTC'), second DateTime('UTC'), yes Bool, array Array(UInt64), texts Array(String), map Map(String, UInt64)) ENGINE = MergeTree ORDER BY u64`

func exampleRow(n uint64) row {
	return row{255, n, -5, "it's \\ \x00 ☃", "low", "abcd", time.UnixMilli(1790000000123).UTC(), time.Unix(1790000000, 0).UTC(), true, []uint64{1, 1 << 63}, []string{"", "a'b"}, map[string]uint64{"k": 9}}
}

func insertRows(conn driver.Conn, rows ...row) error {
	batch, err := conn.PrepareBatch(context.Background(), "INSERT INTO t")
	if err != nil {
		return err
	}
	for i := range rows {
		if err := batch.AppendStruct(&rows[i]); err != nil {
			return err
		}
	}
	return batch.Send()
}

// roundTrip writes and reads a row of every type that is used, and asks with parameters.
func roundTrip(t *testing.T, conn driver.Conn) {
	t.Helper()
	ctx := t.Context()
	if err := conn.Exec(ctx, rowTable); err != nil {
		t.Fatal(err)
	}
	want := exampleRow(7)
	if err := insertRows(conn, want); err != nil {
		t.Fatal(err)
	}
	var got []row
	if err := conn.Select(ctx, &got, "SELECT * FROM t WHERE u64 = ? AND s = ?", want.U64, want.S); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]row{want}, got); diff != "" {
		t.Errorf("what was read is not what was written (-want +got):\n%s", diff)
	}
	var n uint64
	bound := clickhouse.Context(ctx, clickhouse.WithParameters(clickhouse.Parameters{"text": want.S}))
	if err := conn.QueryRow(bound, "SELECT count() FROM t WHERE s = {text:String}").Scan(&n); err != nil || n != 1 {
		t.Errorf("count by a server-side parameter = %d, %v; want 1", n, err)
	}
	got = nil
	if err := conn.Select(ctx, &got, "SELECT * FROM t WHERE u64 = 8"); err != nil || len(got) != 0 {
		t.Errorf("a query without result = %v, %v", got, err)
	}
}

func TestEngineInProcess(t *testing.T) {
	dir := t.TempDir()
	e := testEngine(t, dir)
	conn := testConn(t, Options{Engine: e})
	roundTrip(t, conn)
	t.Run("errors carry their code", func(t *testing.T) { errorsCarryCodes(t, conn) })
	t.Run("concurrent", func(t *testing.T) { concurrent(t, conn) })
	t.Run("server", func(t *testing.T) { server(t, e) })
	t.Run("migrations", func(t *testing.T) { testMigrations(t, conn) })
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		begin := time.Now()
		if err := conn.Exec(ctx, "SELECT sleepEachRow(0.5) FROM numbers(4)"); err == nil || time.Since(begin) > time.Second {
			t.Errorf("a cancelled statement returned %v after %v; want an error at once", err, time.Since(begin))
		}
	})
	if _, err := OpenEngine(EngineConfig{Library: testLibrary(t), Dir: dir}); err == nil || !strings.Contains(err.Error(), "locked") {
		t.Errorf("a second engine on the folder: %v; want an error that says it is locked", err)
	}
	conn.Close()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	again := testConn(t, Options{Engine: testEngine(t, dir)})
	var n uint64
	if err := again.QueryRow(t.Context(), "SELECT count() FROM t WHERE u64 = 7").Scan(&n); err != nil || n != 1 {
		t.Errorf("after a reopen count() = %d, %v; want 1", n, err)
	}
}

func errorsCarryCodes(t *testing.T, conn driver.Conn) {
	f := func(code int32, statement string) {
		t.Helper()
		err := conn.Exec(t.Context(), statement)
		var ex *clickhouse.Exception
		if !asException(err, &ex) || ex.Code != code {
			t.Errorf("%s: %v; want ClickHouse's code %d", statement, err, code)
		}
	}
	f(60, "SELECT * FROM nothing_here")
	f(62, "SELEC 1")
	if err := insertRows(conn, row{Fixed: "too long for four"}); err == nil {
		t.Error("an insert of a value that does not fit: want an error")
	}
}

func asException(err error, ex **clickhouse.Exception) bool {
	for ; err != nil; err = unwrap(err) {
		if e, ok := err.(*clickhouse.Exception); ok {
			*ex = e
			return true
		}
	}
	return false
}

func unwrap(err error) error {
	u, ok := err.(interface{ Unwrap() error })
	if !ok {
		return nil
	}
	return u.Unwrap()
}

func concurrent(t *testing.T, conn driver.Conn) {
	var before uint64
	if err := conn.QueryRow(t.Context(), "SELECT count() FROM t").Scan(&before); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	const writers, blocks = 4, 5
	for w := range writers {
		all.Go(func() {
			for b := range blocks {
				if err := insertRows(conn, exampleRow(uint64(1000+w*blocks+b))); err != nil {
					t.Error(err)
				}
				var n uint64
				if err := conn.QueryRow(context.Background(), "SELECT count() FROM t").Scan(&n); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	var after uint64
	if err := conn.QueryRow(t.Context(), "SELECT count() FROM t").Scan(&after); err != nil || after != before+writers*blocks {
		t.Errorf("count() = %d, %v; want %d", after, err, before+writers*blocks)
	}
}

// server reaches the engine over TCP, as separate processes do, and sends it garbage.
func server(t *testing.T, e *Engine) {
	srv := httptest.NewServer(e)
	defer srv.Close()
	conn := testConn(t, Options{Address: srv.URL})
	if err := conn.Exec(t.Context(), "DROP TABLE t"); err != nil {
		t.Fatal(err)
	}
	roundTrip(t, conn)
	f := func(method, path, body string, want int) {
		t.Helper()
		req, err := http.NewRequest(method, srv.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s %s %q = %s, want %d", method, path, body, resp.Status, want)
		}
	}
	f("GET", "/ping", "", 200)
	f("GET", "/", "", 405)
	f("POST", "/other", "", 404)
	f("POST", "/", "garbage \x00\xff", 500)
	f("POST", "/", "", 500)
	f("POST", "/?query=INSERT+INTO+t+FORMAT+Native", "garbage", 500)
	f("POST", "/?query=DROP+TABLE+t", "", 500)
	f("POST", "/?database=other", "SELECT 1", 500)
	f("POST", "/?compress=1", "SELECT 1", 500)
}

func testMigrations(t *testing.T, conn driver.Conn) {
	ctx := t.Context()
	if err := Check(ctx, conn, ddl.Files); err == nil {
		t.Error("Check of an empty database = nil, want an error")
	}
	for range 2 {
		if err := Migrate(ctx, conn, ddl.Files); err != nil {
			t.Fatal(err)
		}
	}
	if err := Check(ctx, conn, ddl.Files); err != nil {
		t.Errorf("Check after Migrate = %v", err)
	}
	first, err := ddl.Files.ReadFile("0001_logs.sql")
	if err != nil {
		t.Fatal(err)
	}
	older := fstest.MapFS{"0001_logs.sql": {Data: first}}
	changed := fstest.MapFS{"0001_logs.sql": {Data: append(first, ' ')}}
	for name, files := range map[string]fstest.MapFS{"older program": older, "changed file": changed, "gap": {"0002_x.sql": {}}, "bad name": {"x.sql": {}}} {
		if err := Migrate(ctx, conn, files); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("Migrate by a %s = %v, want one line of error", name, err)
		}
	}
}

func TestOpenEngineBadInput(t *testing.T) {
	dir := t.TempDir()
	text := dir + "/text.so"
	if err := os.WriteFile(text, []byte("not a library"), 0o600); err != nil {
		t.Fatal(err)
	}
	half := dir + "/half.so"
	whole, err := os.Open(testLibrary(t))
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Close()
	head := make([]byte, 1<<20)
	if _, err := whole.Read(head); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(half, head, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"", dir + "/absent.so", text, half, dir} {
		_, err := OpenEngine(EngineConfig{Library: path, Dir: dir + "/data"})
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "ENGINE=") {
			t.Errorf("OpenEngine(%q) = %v, want one line with the ways on", path, err)
		}
	}
}

// TestKillLosesNoAcknowledgedBlock kills a process in mid-insert and counts what it had been told is stored.
func TestKillLosesNoAcknowledgedBlock(t *testing.T) {
	if dir := os.Getenv("WAYMARK_TEST_INSERT_INTO"); dir != "" {
		insertForever(t, dir)
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKillLosesNoAcknowledgedBlock$")
	cmd.Env = append(os.Environ(), "WAYMARK_TEST_INSERT_INTO="+dir, "WAYMARK_ENGINE="+testLibrary(t))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acknowledged := uint64(0)
	for acknowledged < 20 {
		var n uint64
		if _, err := fmt.Fscanln(out, &n); err != nil {
			t.Fatalf("the inserting process said nothing more after %d blocks: %v", acknowledged, err)
		}
		acknowledged = n
	}
	cmd.Process.Kill()
	cmd.Wait()
	conn := testConn(t, Options{Engine: testEngine(t, dir)})
	var blocks, rows uint64
	if err := conn.QueryRow(t.Context(), "SELECT uniqExact(u64), count() FROM t").Scan(&blocks, &rows); err != nil {
		t.Fatal(err)
	}
	if blocks < acknowledged || rows != blocks*blockRows {
		t.Errorf("%d blocks with %d rows are stored, %d blocks were acknowledged", blocks, rows, acknowledged)
	}
}

const blockRows = 1000

func insertForever(t *testing.T, dir string) {
	conn := testConn(t, Options{Engine: testEngine(t, dir)})
	if err := conn.Exec(t.Context(), rowTable+" SETTINGS fsync_after_insert = 1"); err != nil {
		t.Fatal(err)
	}
	for n := uint64(1); ; n++ {
		rows := make([]row, blockRows)
		for i := range rows {
			rows[i] = exampleRow(n)
		}
		if err := insertRows(conn, rows...); err != nil {
			t.Fatal(err)
		}
		fmt.Println(n)
	}
}

func BenchmarkInsert100k(b *testing.B) {
	conn := testConn(b, Options{Engine: testEngine(b, b.TempDir())})
	if err := conn.Exec(b.Context(), rowTable); err != nil {
		b.Fatal(err)
	}
	rows := make([]row, 100_000)
	for i := range rows {
		rows[i] = exampleRow(uint64(i))
	}
	for b.Loop() {
		if err := insertRows(conn, rows...); err != nil {
			b.Fatal(err)
		}
	}
}
