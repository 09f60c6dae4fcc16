package warehouse

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// Options says which ClickHouse to speak to: an engine in this process, or an address.
type Options struct {
	Engine *Engine
	// Address is a server's: clickhouse://user:password@host:9000/database (native protocol), or
	// http://user:password@host:8123/database. The database is "waymark" if the address names none.
	Address string
}

// Open returns a pool of connections, safe for concurrent use. A database that a server does not have yet is made. A
// server that does not answer is no error: it may be down for a while, and the first use of the pool finds out.
//
// Settings that the facts depend on are pinned: async_insert = 0, so that an insert that was answered is stored (it is
// on by default since ClickHouse 26.3).
func Open(ctx context.Context, o Options) (driver.Conn, error) {
	options, err := o.driverOptions()
	if err != nil {
		return nil, err
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		return nil, fmt.Errorf("cannot open ClickHouse (--clickhouse %s): %w", redact(o.Address), err)
	}
	err = conn.Ping(ctx)
	var refused *clickhouse.Exception
	if errors.As(err, &refused) && refused.Code == unknownDatabase {
		err = createDatabase(ctx, *options)
	}
	if errors.As(err, &refused) || err != nil && o.Engine != nil {
		conn.Close()
		return nil, fmt.Errorf("cannot use ClickHouse (--clickhouse %s): %w", redact(o.Address), err)
	}
	return conn, nil
}

// unknownDatabase is the code that a server answers with before the database is made.
const unknownDatabase = 81

// createDatabase makes the database that the options name, through a connection without one.
func createDatabase(ctx context.Context, options clickhouse.Options) error {
	name := options.Auth.Database
	options.Auth.Database = "default"
	conn, err := clickhouse.Open(&options)
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Exec(ctx, "CREATE DATABASE IF NOT EXISTS `"+strings.ReplaceAll(name, "`", "")+"`")
}

func (o Options) driverOptions() (*clickhouse.Options, error) {
	options := &clickhouse.Options{Addr: []string{"embedded"}, Protocol: clickhouse.HTTP}
	if o.Engine != nil {
		engine := o.Engine.Transport()
		options.TransportFunc = func(*http.Transport) (http.RoundTripper, error) { return engine, nil }
	} else {
		var err error
		if options, err = clickhouse.ParseDSN(o.Address); err != nil {
			return nil, fmt.Errorf("cannot read --clickhouse %s: %w", redact(o.Address), err)
		}
	}
	if options.Auth.Database == "" || options.Auth.Database == "default" {
		options.Auth.Database = Database
	}
	if options.Settings == nil {
		options.Settings = clickhouse.Settings{}
	}
	options.Settings["async_insert"] = 0
	options.DialTimeout = 5 * time.Second
	options.ReadTimeout = time.Minute
	options.MaxOpenConns = 16
	options.MaxIdleConns = 8
	options.ConnMaxLifetime = time.Hour
	return options, nil
}

// redact returns an address without its password.
func redact(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		return address
	}
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		user, _, _ := strings.Cut(rest[:i], ":")
		rest = user + rest[i:]
	}
	return scheme + "://" + rest
}
