// Package admin serves what operators and their tools ask of a process: metrics, health and profiles. It listens apart
// from the public addresses, on loopback unless told otherwise.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Server is the admin listener of a process. Checks and handlers are added before Run.
type Server struct {
	listener net.Listener
	mux      *http.ServeMux
	registry *prometheus.Registry
	checks   []check
	log      *slog.Logger
}

type check struct {
	name  string
	ready func() error
}

// New returns a server on an open listener, with the Go runtime's and the process's own metrics registered.
func New(listener net.Listener, log *slog.Logger) *Server {
	s := &Server{listener: listener, mux: http.NewServeMux(), registry: prometheus.NewRegistry(), log: log}
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	s.mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{Registry: s.registry}))
	s.mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	s.mux.HandleFunc("GET /readyz", s.readyz)
	s.mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	s.mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	s.mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	s.mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	s.mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return s
}

// Registry returns where the process's components register their metrics.
func (s *Server) Registry() *prometheus.Registry { return s.registry }

// Check adds a condition of /readyz, which names the component when ready returns an error. It is called by many
// goroutines at once.
func (s *Server) Check(name string, ready func() error) {
	s.checks = append(s.checks, check{name, ready})
}

// Handle adds a handler, under a pattern of [http.ServeMux].
func (s *Server) Handle(pattern string, h http.Handler) { s.mux.Handle(pattern, h) }

// URL returns the base URL of the listener.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	var failed error
	for _, c := range s.checks {
		if err := c.ready(); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s: %w", c.name, err))
		}
	}
	if failed != nil {
		http.Error(w, failed.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// Run serves until the context ends.
func (s *Server) Run(ctx context.Context) error {
	srv := &http.Server{Handler: s.mux, ReadHeaderTimeout: 5 * time.Second, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	stop := context.AfterFunc(ctx, func() {
		deadline, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if srv.Shutdown(deadline) != nil {
			srv.Close()
		}
	})
	defer stop()
	if err := srv.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot serve admin requests (--admin-listen %s): %w", s.listener.Addr(), err)
	}
	return nil
}
