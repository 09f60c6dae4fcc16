package stack

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

//go:embed nginx.conf
var nginxConf string

// startTimeout bounds how long a server may take until it answers.
const startTimeout = 60 * time.Second

// Server is a running server under test.
type Server struct {
	*Process
	Address string // host:port of what is measured
	Ready   Ready
}

// Ready is the ready file of the shipped binary.
type Ready struct {
	Tracker   string `json:"tracker"`
	Dashboard string `json:"dashboard"`
	Admin     string `json:"admin"`
	Address   string `json:"address"` // of the bare server
}

// freePort returns a port of the loopback that nobody listens on.
func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("cannot find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// wait waits until a server's check passes. It fails at once when the process ends.
func wait(ctx context.Context, p *Process, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-p.Exited():
			return fmt.Errorf("cannot start %w", p.Err())
		case <-ctx.Done():
			return fmt.Errorf("cannot start %s: it is not ready: %w", p.Name, err)
		case <-tick.C:
		}
	}
}

// StartNginx starts Debian's nginx with the kept configuration. Its access log lies in dir.
func StartNginx(ctx context.Context, dir, host, destination string, cpus []int) (*Server, error) {
	path, err := exec.LookPath("nginx")
	if err != nil {
		if path = "/usr/sbin/nginx"; !isFile(path) {
			return nil, errors.New("cannot find nginx: install Debian's package nginx-light")
		}
	}
	address, err := freePort()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "nginx.conf")
	f, err := os.Create(conf)
	if err != nil {
		return nil, fmt.Errorf("cannot write nginx's configuration: %w", err)
	}
	err = template.Must(template.New("nginx").Parse(strings.Replace(nginxConf, "{{.Name}} fields", "The fields", 1))).Execute(f, map[string]any{
		"Workers": max(1, len(cpus)), "Dir": dir, "Listen": address, "Host": host, "Destination": destination,
	})
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, fmt.Errorf("cannot write nginx's configuration: %w", err)
	}
	p, err := Start(Spec{Name: "nginx", Path: path, Args: []string{"-p", dir, "-c", conf, "-e", filepath.Join(dir, "error.log")}, Dir: dir, CPUs: cpus})
	if err != nil {
		return nil, err
	}
	err = wait(ctx, p, func() error {
		c, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	})
	return started(ctx, &Server{Process: p, Address: address}, err)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// started returns the server, or stops it when it did not become ready.
func started(ctx context.Context, s *Server, err error) (*Server, error) {
	if err == nil {
		return s, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return nil, errors.Join(err, s.Stop(ctx))
}

// StartBinary starts a command of the shipped binary that writes a ready file, which it is told by --ready-file.
func StartBinary(ctx context.Context, binary, name, dir string, cpus []int, args ...string) (*Server, error) {
	file := filepath.Join(dir, name+".ready")
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("cannot start %s: %w", name, err)
	}
	p, err := Start(Spec{Name: name, Path: binary, Args: append(args, "--ready-file", file), Dir: dir, CPUs: cpus})
	if err != nil {
		return nil, err
	}
	s := &Server{Process: p}
	err = wait(ctx, p, func() error {
		b, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return json.Unmarshal(b, &s.Ready)
	})
	s.Address = s.Ready.Address
	if s.Ready.Tracker != "" {
		s.Address = strings.Replace(strings.TrimPrefix(s.Ready.Tracker, "http://"), "localhost:", "127.0.0.1:", 1)
	}
	return started(ctx, s, err)
}

// StartBare starts the bare server.
func StartBare(ctx context.Context, binary, dir, host string, links int, cpus []int) (*Server, error) {
	return StartBinary(ctx, binary, "bare", dir, cpus, "bench", "bare", "--listen", "127.0.0.1:0", "--host", host, "--links", fmt.Sprint(links))
}

// StartUp starts the whole system in one process.
func StartUp(ctx context.Context, binary, dir, durability, engine string, cpus []int) (*Server, error) {
	args := []string{"up", "--data", filepath.Join(dir, "data"), "--tracker-listen", "127.0.0.1:0", "--dashboard-listen", "127.0.0.1:0",
		"--admin-listen", "127.0.0.1:0", "--trusted-proxies", "127.0.0.1/32", "--durability", durability}
	if engine != "" {
		args = append(args, "--engine", engine)
	}
	return StartBinary(ctx, binary, "waymark", dir, cpus, args...)
}

// StartTracker starts an edge alone, on the data folder of a system that has run there. Its Kafka is away: the
// journal takes everything.
func StartTracker(ctx context.Context, binary, dir, durability string, cpus []int) (*Server, error) {
	data := filepath.Join(dir, "data")
	nobody, err := freePort()
	if err != nil {
		return nil, err
	}
	return StartBinary(ctx, binary, "tracker", dir, cpus, "tracker", "--data", data, "--secrets-file", filepath.Join(data, "secrets"),
		"--tracker-listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--trusted-proxies", "127.0.0.1/32", "--durability", durability, "--kafka", nobody)
}
