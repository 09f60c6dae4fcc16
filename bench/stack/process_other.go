//go:build !linux

package stack

import (
	"context"
	"errors"
	"runtime"
	"time"
)

var errLinux = errors.New("starting and measuring servers needs Linux")

// Spec is a process to start.
type Spec struct {
	Name, Path string
	Args       []string
	Dir        string
	CPUs       []int
}

// Process is a running process.
type Process struct {
	Name string
	PID  int
}

// Usage is what a process has used until now.
type Usage struct {
	CPU         time.Duration
	RSS, MaxRSS int64
}

// Start is not possible here.
func Start(Spec) (*Process, error) { return nil, errLinux }

// Pin is not possible here.
func Pin(cpus []int) error {
	if cpus == nil {
		return nil
	}
	return errLinux
}

// Exited is never closed.
func (p *Process) Exited() <-chan struct{} { return nil }

// Err is always nil.
func (p *Process) Err() error { return nil }

// Stop does nothing.
func (p *Process) Stop(context.Context) error { return nil }

// Usage is not known.
func (p *Process) Usage() (Usage, error) { return Usage{}, errLinux }

// Self is not known.
func Self() Usage { return Usage{} }

// Machine describes where this process runs.
func Machine() (system, cpu string, cores int, memory int64, load float64) {
	return runtime.GOOS + " " + runtime.GOARCH, "", runtime.NumCPU(), 0, 0
}
