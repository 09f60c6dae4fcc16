package warehouse

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"unsafe"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"
)

// EngineConfig says where the embedded ClickHouse engine and its data are.
type EngineConfig struct {
	// Library is the path of libchdb.so; DefaultLibrary knows where the build keeps it.
	Library string
	// Dir is the engine's data folder. One engine per folder, and one engine per process: the library keeps its state in
	// the process.
	Dir string
}

// Engine is ClickHouse's own engine in this process. It is an http.Handler that speaks the part of ClickHouse's HTTP
// interface that clickhouse-go uses, and safe for concurrent use.
type Engine struct {
	lib  *library
	argv []*byte
	args [][]byte
	conn **byte
	lock *os.File
	tmp  string

	mu     sync.RWMutex // held for reading by each query, for writing by Close
	closed bool
}

// library holds the functions of libchdb.so that are used here.
type library struct {
	connect        func(argc int32, argv unsafe.Pointer) **byte
	closeConn      func(conn **byte)
	queryN         func(conn *byte, query unsafe.Pointer, queryLen uintptr, format unsafe.Pointer, formatLen uintptr) *byte
	destroy        func(result *byte)
	buffer         func(result *byte) unsafe.Pointer
	length         func(result *byte) uintptr
	failure        func(result *byte) string
	signalHandlers func(enabled int32)
}

var (
	loadOnce sync.Mutex
	loaded   = map[string]*library{}
)

// OpenEngine loads the library and opens the data folder. Everything that the library can't survive is checked
// before it is loaded; each of these errors is one line that names the ways on.
func OpenEngine(cfg EngineConfig) (*Engine, error) {
	if err := checkPlatform(); err != nil {
		return nil, err
	}
	if err := checkLibrary(cfg.Library); err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("cannot find the engine's data folder (%s): %w", cfg.Dir, err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, err
	}
	e := &Engine{lock: lock, tmp: filepath.Join(dir, "inserts")}
	if err := e.open(cfg.Library, dir); err != nil {
		lock.Close()
		return nil, err
	}
	return e, nil
}

func (e *Engine) open(path, dir string) error {
	// What an insert left behind when the process ended has not been acknowledged.
	if err := os.RemoveAll(e.tmp); err != nil {
		return fmt.Errorf("cannot clear the engine's insert folder: %w", err)
	}
	if err := os.MkdirAll(e.tmp, 0o700); err != nil {
		return fmt.Errorf("cannot make the engine's insert folder: %w", err)
	}
	var err error
	if e.lib, err = load(path); err != nil {
		return err
	}
	e.lib.signalHandlers(0)
	for _, arg := range []string{"clickhouse", "--path=" + filepath.Join(dir, "data")} {
		e.args = append(e.args, append([]byte(arg), 0))
	}
	for _, arg := range e.args {
		e.argv = append(e.argv, &arg[0])
	}
	e.conn = e.lib.connect(int32(len(e.argv)), unsafe.Pointer(&e.argv[0]))
	if e.conn == nil || *e.conn == nil {
		return fmt.Errorf("cannot open the embedded ClickHouse engine on %s: the engine refuses the folder", dir)
	}
	for _, statement := range []string{"CREATE DATABASE IF NOT EXISTS " + Database, "USE " + Database} {
		if _, err := e.query(statement, "Native"); err != nil {
			e.lib.closeConn(e.conn)
			return fmt.Errorf("cannot open the embedded ClickHouse engine on %s: %w", dir, err)
		}
	}
	return nil
}

func load(path string) (*library, error) {
	loadOnce.Lock()
	defer loadOnce.Unlock()
	if lib := loaded[path]; lib != nil {
		return lib, nil
	}
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_GLOBAL)
	if err != nil {
		return nil, fmt.Errorf("cannot load the embedded ClickHouse engine (%s): %s; %s", path, strings.TrimSpace(err.Error()), waysOn)
	}
	lib := &library{}
	for name, function := range map[string]any{
		"chdb_connect": &lib.connect, "chdb_close_conn": &lib.closeConn, "chdb_query_n": &lib.queryN,
		"chdb_destroy_query_result": &lib.destroy, "chdb_result_buffer": &lib.buffer, "chdb_result_length": &lib.length,
		"chdb_result_error": &lib.failure, "chdb_set_signal_handlers_enabled": &lib.signalHandlers,
	} {
		symbol, err := purego.Dlsym(handle, name)
		if err != nil {
			return nil, fmt.Errorf("cannot use %s: it has no function %s; %s", path, name, waysOn)
		}
		purego.RegisterFunc(function, symbol)
	}
	loaded[path] = lib
	return lib, nil
}

func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the engine's data folder: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the engine's data folder: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("cannot use the engine's data folder %s: another process has it locked", dir)
	}
	return lock, nil
}

// errClosed is returned for a query on a closed engine.
var errClosed = errors.New("the embedded ClickHouse engine is closed")

// exception is an error that ClickHouse itself reports.
type exception struct{ text string }

func (e *exception) Error() string { return e.text }

// query runs one statement and returns its result in the format. The result is a copy and belongs to the caller.
func (e *Engine) query(statement, format string) ([]byte, error) {
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.closed {
		return nil, errClosed
	}
	q, f := []byte(statement+"\x00"), []byte(format+"\x00")
	result := e.lib.queryN(*e.conn, unsafe.Pointer(&q[0]), uintptr(len(q)-1), unsafe.Pointer(&f[0]), uintptr(len(f)-1))
	runtime.KeepAlive(q)
	runtime.KeepAlive(f)
	if result == nil {
		return nil, &exception{"Code: 1001. the embedded engine gave no result"}
	}
	defer e.lib.destroy(result)
	if text := e.lib.failure(result); text != "" {
		return nil, &exception{text}
	}
	n := e.lib.length(result)
	if n == 0 {
		return nil, nil
	}
	return append([]byte(nil), unsafe.Slice((*byte)(e.lib.buffer(result)), n)...), nil
}

// Close waits for running queries and closes the data folder. Another engine may be opened in the process afterwards.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	e.lib.closeConn(e.conn)
	runtime.KeepAlive(e.args)
	runtime.KeepAlive(e.argv)
	return e.lock.Close()
}
