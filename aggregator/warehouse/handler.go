package warehouse

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	chproto "github.com/ClickHouse/ch-go/proto"
	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/column"
	"github.com/ClickHouse/clickhouse-go/v2/lib/proto"
)

// Database is the database that holds Waymark's tables.
const Database = "waymark"

// maxStatement bounds a statement, in bytes; an insert's data is not part of it.
const maxStatement = 8 << 20

// ServeHTTP answers the requests of clickhouse-go: a statement in the body, or an INSERT in the parameter "query" with a
// Native block as the body. Results are in the Native format of revision 0.
func (e *Engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/ping" {
		io.WriteString(w, "Ok.\n")
		return
	}
	if r.URL.Path != "/" && r.URL.Path != "" {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "only POST is answered here", http.StatusMethodNotAllowed)
		return
	}
	result, err := e.answer(r)
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("X-ClickHouse-Format", "Native")
	w.Header().Set("Content-Length", strconv.Itoa(len(result)))
	w.Write(result)
}

func (e *Engine) answer(r *http.Request) ([]byte, error) {
	params := r.URL.Query()
	if db := params.Get("database"); db != "" && db != Database {
		return nil, &exception{fmt.Sprintf("Code: 81. DB::Exception: Database %s does not exist; this engine serves %s. (UNKNOWN_DATABASE)", db, Database)}
	}
	if params.Get("compress") == "1" || params.Get("decompress") == "1" {
		return nil, &exception{"Code: 36. DB::Exception: This engine speaks without compression. (BAD_ARGUMENTS)"}
	}
	if insert := params.Get("query"); insert != "" {
		return nil, e.insert(insert, r.Body)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxStatement+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the statement: %w", err)
	}
	if len(body) > maxStatement {
		return nil, &exception{fmt.Sprintf("Code: 62. DB::Exception: The statement is longer than %d bytes. (SYNTAX_ERROR)", maxStatement)}
	}
	statement := strings.TrimRight(strings.TrimSpace(string(body)), ";")
	switch statement {
	case "":
		return nil, &exception{"Code: 62. DB::Exception: The statement is empty. (SYNTAX_ERROR)"}
	case helloQuery:
		return e.hello()
	}
	return e.query(withSettings(bindParameters(statement, params), params), "Native")
}

// helloQuery is what clickhouse-go asks first. The revision 0 in its answer makes the driver decode all later answers
// as plain Native blocks, which is what the engine writes.
const helloQuery = "SELECT displayName(), version(), revision(), timezone()"

func (e *Engine) hello() ([]byte, error) {
	var block proto.Block
	block.ServerContext = &column.ServerContext{}
	for _, c := range []struct{ name, kind string }{{"displayName()", "String"}, {"version()", "String"}, {"revision()", "UInt32"}, {"timezone()", "String"}} {
		if err := block.AddColumn(c.name, column.Type(c.kind)); err != nil {
			return nil, fmt.Errorf("cannot make the answer to the driver's hello: %w", err)
		}
	}
	if err := block.Append("embedded", EngineVersion, uint32(0), "UTC"); err != nil {
		return nil, fmt.Errorf("cannot make the answer to the driver's hello: %w", err)
	}
	var buffer chproto.Buffer
	if err := block.Encode(&buffer, clickhouse.ClientTCPProtocolVersion); err != nil {
		return nil, fmt.Errorf("cannot encode the answer to the driver's hello: %w", err)
	}
	return buffer.Buf, nil
}

var insertQuery = regexp.MustCompile(`(?is)^\s*(INSERT\s+INTO\s.*?)\s+(?:FORMAT\s+Native|VALUES)\s*;?\s*$`)

// insert stores a Native block. The body goes through a file because the library takes no data beside a statement.
func (e *Engine) insert(query string, body io.Reader) error {
	m := insertQuery.FindStringSubmatch(query)
	if m == nil {
		return &exception{"Code: 62. DB::Exception: Want INSERT INTO ... FORMAT Native in the parameter query. (SYNTAX_ERROR)"}
	}
	f, err := os.CreateTemp(e.tmp, "insert-*.native")
	if err != nil {
		return fmt.Errorf("cannot make a file for an insert: %w", err)
	}
	defer os.Remove(f.Name())
	n, err := io.Copy(f, body)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("cannot write the file of an insert: %w", err)
	}
	if n == 0 {
		return nil
	}
	_, err = e.query(m[1]+" SELECT * FROM file('"+escape(f.Name())+"', 'Native')", "Native")
	return err
}

var parameter = regexp.MustCompile(`\{(\w+):\s*([^{}]+)\}`)

// bindParameters puts the values of {name:Type} parameters into a statement, as typed literals.
func bindParameters(statement string, params url.Values) string {
	return parameter.ReplaceAllStringFunc(statement, func(s string) string {
		m := parameter.FindStringSubmatch(s)
		value, ok := params["param_"+m[1]]
		if !ok || len(value) != 1 {
			return s
		}
		return "CAST('" + escape(value[0]) + "' AS " + m[2] + ")"
	})
}

var quoting = strings.NewReplacer(`\`, `\\`, `'`, `\'`)

func escape(s string) string { return quoting.Replace(s) }

// transport lists the URL parameters that are no settings of a query.
var transport = []string{"database", "default_format", "client_protocol_version", "query", "query_id", "quota_key", "compress", "decompress", "async_insert", "wait_end_of_query"}

var selects = regexp.MustCompile(`(?is)^\s*(SELECT|WITH)\b`)

var hasSettings = regexp.MustCompile(`(?i)\bSETTINGS\b`)

// withSettings adds the settings of the URL to a SELECT that names none of its own. Inserts here are always
// synchronous, which is what the settings that are left out ask for.
func withSettings(statement string, params url.Values) string {
	if !selects.MatchString(statement) || hasSettings.MatchString(statement) {
		return statement
	}
	var settings []string
	for name, value := range params {
		if strings.HasPrefix(name, "param_") || slices.Contains(transport, name) || !isName(name) {
			continue
		}
		settings = append(settings, name+"='"+escape(value[0])+"'")
	}
	if len(settings) == 0 {
		return statement
	}
	slices.Sort(settings)
	return statement + "\nSETTINGS " + strings.Join(settings, ", ")
}

func isName(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

var exceptionCode = regexp.MustCompile(`Code: (\d+)`)

func writeError(w http.ResponseWriter, err error) {
	var ex *exception
	switch {
	case errors.As(err, &ex):
		if m := exceptionCode.FindStringSubmatch(ex.text); m != nil {
			w.Header().Set("X-ClickHouse-Exception-Code", m[1])
		}
		http.Error(w, ex.text, http.StatusInternalServerError)
	case errors.Is(err, errClosed):
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
	default:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}
