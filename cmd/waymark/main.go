// Waymark is a click and referral tracking edge for partner programs. One binary holds every process and tool; see
// `waymark --help`.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	"waymark/cmd/internal/settings"
)

// The exit codes of every command. A command may have more, which its help names.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// commands is the command line. A command's fields are its flags; each is read from the flag, the environment
// variable WAYMARK_<FLAG> and the --config file, in this order.
type commands struct {
	Config kong.ConfigFlag `placeholder:"FILE" help:"YAML file of settings, one \"flag-name: value\" per line."`
	Log    logFlags        `embed:"" prefix:"log-"`

	Up         upCommand         `cmd:"" help:"Run everything in one process on embedded engines."`
	Tracker    trackerCommand    `cmd:"" help:"Run the edge: redirects, journal, conversions API."`
	Aggregator aggregatorCommand `cmd:"" help:"Run the fold from Kafka into ClickHouse."`
	Dashboard  dashboardCommand  `cmd:"" help:"Run the partner pages, the JSON API, the catalog relay and the ledger."`
	Engines    enginesCommand    `cmd:"" help:"Serve the embedded Kafka broker and ClickHouse engine to separate processes."`
	Clickhouse clickhouseCommand `cmd:"" help:"Serve the embedded ClickHouse engine to separate processes."`
	Admin      adminCommand      `cmd:"" help:"Configure and inspect a running system."`
	Bench      benchCommand      `cmd:"" help:"Load-test an edge, and compare what was measured."`
}

// output is where a command writes: results to stdout, everything else to stderr.
type output struct{ stdout, stderr io.Writer }

// usageError is a mistake on the command line or in the settings.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// run is the program: it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	type exited int
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(exited)
			if !ok {
				panic(r)
			}
			code = int(e)
		}
	}()
	var cli commands
	options := append(settings.Options("Click and referral tracking edge for partner programs."),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { panic(exited(code)) }))
	parser, err := kong.New(&cli, options...)
	if err != nil {
		panic("BUG: the command line is declared wrongly: " + err.Error())
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	cmd, err := parser.Parse(args)
	if err != nil {
		var file *fs.PathError // the only file that is read while the line is parsed
		if errors.As(err, &file) {
			err = fmt.Errorf("--config: %w", err)
		}
		fmt.Fprintf(stderr, "waymark: %s\n", oneLine(err))
		return exitUsage
	}
	log, err := cli.Log.logger(stderr)
	if err == nil {
		cmd.BindTo(ctx, (*context.Context)(nil))
		err = cmd.Run(log, &output{stdout, stderr})
	}
	var usage usageError
	var coded interface{ exitCode() int }
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &coded):
		fmt.Fprintf(stderr, "waymark: %s\n", oneLine(err))
		return coded.exitCode()
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "waymark: %s\n", oneLine(err))
		return exitUsage
	default:
		fmt.Fprintf(stderr, "waymark: %s\n", oneLine(err))
		return exitError
	}
}

func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

type logFlags struct {
	Level  string `enum:"debug,info,warn,error" default:"info" help:"Least level that is logged: ${enum}."`
	Format string `enum:"text,json" default:"text" help:"Format of the log: ${enum}."`
}

func (f *logFlags) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.Level)); err != nil {
		return nil, usagef("--log-level: %w", err)
	}
	options := &slog.HandlerOptions{Level: level}
	if f.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), nil
	}
	return slog.New(slog.NewTextHandler(w, options)), nil
}
