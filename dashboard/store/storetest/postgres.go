// Package storetest runs a real PostgreSQL for tests.
package storetest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Server is a PostgreSQL server of this machine that keeps its data in a temporary folder and listens on a socket there.
// It ends with the test that started it.
type Server struct {
	bin  string
	dir  string
	as   *syscall.Credential
	next atomic.Int32
}

// Start starts a server. Without PostgreSQL on this machine the test is skipped as not run.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{bin: find()}
	if s.bin == "" {
		t.Skip("not run: no PostgreSQL (initdb, postgres) on this machine")
	}
	var err error
	// Not the test's own folder: a socket's path is short, and another user must reach it.
	if s.dir, err = os.MkdirTemp("", "pg"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(s.dir) })
	if os.Getuid() == 0 {
		// PostgreSQL refuses to run as root.
		s.as = nobody(t)
		if err := os.Chown(s.dir, int(s.as.Uid), int(s.as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	s.run(t, "initdb", "-D", filepath.Join(s.dir, "data"), "-U", "waymark", "-A", "trust", "-E", "UTF8", "--no-sync")
	server := s.command("postgres", "-D", filepath.Join(s.dir, "data"), "-k", s.dir, "-c", "listen_addresses=", "-c", "fsync=off")
	var log bytes.Buffer
	server.Stdout, server.Stderr = &log, &log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- server.Wait() }()
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGINT)
		select {
		case <-exited:
		case <-time.After(20 * time.Second):
			_ = server.Process.Kill()
			<-exited
		}
	})
	for end := time.Now().Add(30 * time.Second); s.command("psql", "-h", s.dir, "-U", "waymark", "-d", "postgres", "-c", "SELECT 1").Run() != nil; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("PostgreSQL was not ready after 30 s:\n%s", &log)
		}
	}
	return s
}

// Database makes an empty database and returns its URL.
func (s *Server) Database(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("waymark%d", s.next.Add(1))
	s.run(t, "psql", "-h", s.dir, "-U", "waymark", "-d", "postgres", "-c", "CREATE DATABASE "+name)
	return "postgres://waymark@/" + name + "?host=" + s.dir
}

func (s *Server) command(program string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(s.bin, program), args...)
	c.Dir = s.dir
	if s.as != nil {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	}
	return c
}

func (s *Server) run(t testing.TB, program string, args ...string) {
	t.Helper()
	if out, err := s.command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", program, err, out)
	}
}

// find returns the folder of PostgreSQL's programs, which Debian keeps out of the path.
func find() string {
	var folders []string
	if path, err := exec.LookPath("initdb"); err == nil {
		folders = append(folders, filepath.Dir(path))
	}
	debian, _ := filepath.Glob("/usr/lib/postgresql/*/bin")
	for _, folder := range append(folders, debian...) {
		complete := true
		for _, program := range []string{"initdb", "postgres", "psql"} {
			_, err := os.Stat(filepath.Join(folder, program))
			complete = complete && err == nil
		}
		if complete {
			return folder
		}
	}
	return ""
}

func nobody(t testing.TB) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Skip("not run: PostgreSQL refuses to run as root, and there is no user nobody")
	}
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	if uidErr != nil || gidErr != nil {
		t.Fatal(uidErr, gidErr)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}
