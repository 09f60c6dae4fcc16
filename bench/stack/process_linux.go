package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Spec is a process to start.
type Spec struct {
	Name string
	Path string
	Args []string
	Dir  string // working directory, which also takes its output
	CPUs []int  // nil: wherever the system likes
}

// Process is a running process and its children. It is safe for concurrent use.
type Process struct {
	Name   string
	PID    int
	cmd    *exec.Cmd
	log    string
	exited chan struct{}

	mu  sync.Mutex
	err error // how it ended; guarded by mu
}

// Start starts a process.
func Start(s Spec) (*Process, error) {
	p := &Process{Name: s.Name, log: filepath.Join(s.Dir, s.Name+".log"), exited: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", s.Name, err)
	}
	defer out.Close()
	p.cmd = exec.Command(s.Path, s.Args...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = s.Dir, out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := startOn(p.cmd, s.CPUs); err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", s.Name, err)
	}
	p.PID = p.cmd.Process.Pid
	go func() {
		err := p.cmd.Wait()
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		close(p.exited)
	}()
	return p, nil
}

// startOn starts a command on the given CPUs: a child inherits them from the thread that makes it.
func startOn(cmd *exec.Cmd, cpus []int) error {
	if cpus == nil {
		return cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return err
	}
	if err := unix.SchedSetaffinity(0, set(cpus)); err != nil {
		return fmt.Errorf("cannot pin to CPUs %v: %w", cpus, err)
	}
	startErr := cmd.Start()
	return errors.Join(startErr, unix.SchedSetaffinity(0, &before))
}

func set(cpus []int) *unix.CPUSet {
	s := &unix.CPUSet{}
	for _, cpu := range cpus {
		s.Set(cpu)
	}
	return s
}

// Pin moves this process, with all its threads, to the given CPUs, and gives the Go scheduler as many threads, but at
// least two, so that it runs beside an event loop.
func Pin(cpus []int) error {
	if cpus == nil {
		return nil
	}
	for range 10 { // until no new thread has come in between
		moved := false
		tasks, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return fmt.Errorf("cannot list the threads of this process: %w", err)
		}
		for _, t := range tasks {
			id, err := strconv.Atoi(t.Name())
			if err != nil {
				continue
			}
			var have unix.CPUSet
			if unix.SchedGetaffinity(id, &have) == nil && have == *set(cpus) {
				continue
			}
			if err := unix.SchedSetaffinity(id, set(cpus)); err != nil && err != unix.ESRCH {
				return fmt.Errorf("cannot pin to CPUs %v: %w", cpus, err)
			}
			moved = true
		}
		if !moved {
			break
		}
	}
	runtime.GOMAXPROCS(max(2, len(cpus)+1))
	return nil
}

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Err says that the process has ended, and its last words; nil while it runs.
func (p *Process) Err() error {
	select {
	case <-p.exited:
	default:
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	how := "it ended"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("%s: %s: %s", p.Name, how, p.lastWords())
}

func (p *Process) lastWords() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " | ")
}

// Stop ends the process and its children: politely first, and by force when the context ends.
func (p *Process) Stop(ctx context.Context) error {
	select {
	case <-p.exited:
		return nil
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-ctx.Done():
		_ = syscall.Kill(-p.PID, syscall.SIGKILL)
		<-p.exited
		return fmt.Errorf("%s did not stop in time and was killed", p.Name)
	}
	_ = syscall.Kill(-p.PID, syscall.SIGKILL) // children that outlived it
	return nil
}

// Usage is what a process and its children have used until now.
type Usage struct {
	CPU    time.Duration
	RSS    int64 // bytes resident
	MaxRSS int64 // the most it ever was, summed over the processes
}

// Usage reads what the process and its children use.
func (p *Process) Usage() (Usage, error) { return usageOf(p.PID) }

// ticks is what /proc counts CPU time in: USER_HZ, which is 100 on every Linux of today.
const ticks = 100

func usageOf(pid int) (u Usage, err error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return u, fmt.Errorf("cannot read what process %d uses: %w", pid, err)
	}
	// The command's name may hold spaces and parentheses; what follows it does not.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 22 {
		return u, fmt.Errorf("cannot read what process %d uses: %d fields", pid, len(fields))
	}
	user, err := strconv.ParseInt(string(fields[11]), 10, 64)
	system, err2 := strconv.ParseInt(string(fields[12]), 10, 64)
	if err = errors.Join(err, err2); err != nil {
		return u, fmt.Errorf("cannot read what process %d uses: %w", pid, err)
	}
	u.CPU = time.Duration(user+system) * time.Second / ticks
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return u, fmt.Errorf("cannot read what process %d uses: %w", pid, err)
	}
	u.RSS, u.MaxRSS = kilobytes(status, "VmRSS:"), kilobytes(status, "VmHWM:")
	children, err := os.ReadFile(filepath.Join(dir, "task", strconv.Itoa(pid), "children"))
	if err != nil {
		return u, nil // not every kernel has it
	}
	for _, child := range bytes.Fields(children) {
		id, err := strconv.Atoi(string(child))
		if err != nil {
			continue
		}
		c, err := usageOf(id)
		if err != nil {
			continue // it ended in between
		}
		u.CPU, u.RSS, u.MaxRSS = u.CPU+c.CPU, u.RSS+c.RSS, u.MaxRSS+c.MaxRSS
	}
	return u, nil
}

func kilobytes(status []byte, name string) int64 {
	_, rest, ok := bytes.Cut(status, []byte("\n"+name))
	if !ok {
		return 0
	}
	fields := bytes.Fields(rest[:max(bytes.IndexByte(rest, '\n'), 0)])
	if len(fields) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(string(fields[0]), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}

// Self returns what this process has used. Its CPU time is exact, not in ticks.
func Self() Usage {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		return Usage{}
	}
	u, err := usageOf(os.Getpid())
	if err != nil {
		u = Usage{}
	}
	own, err := os.ReadFile("/proc/self/status")
	if err == nil {
		u.RSS, u.MaxRSS = kilobytes(own, "VmRSS:"), kilobytes(own, "VmHWM:")
	}
	u.CPU = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	return u
}

// Machine describes where this process runs.
func Machine() (system, cpu string, cores int, memory int64, load float64) {
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		system = unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:]) + " " + unix.ByteSliceToString(name.Machine[:])
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		cores = bytes.Count(info, []byte("processor\t"))
		if _, rest, ok := bytes.Cut(info, []byte("model name\t: ")); ok {
			line, _, _ := bytes.Cut(rest, []byte("\n"))
			cpu = string(line)
		}
	}
	if status, err := os.ReadFile("/proc/meminfo"); err == nil {
		memory = kilobytes(append([]byte("\n"), status...), "MemTotal:")
	}
	if average, err := os.ReadFile("/proc/loadavg"); err == nil {
		first, _, _ := strings.Cut(string(average), " ")
		load, _ = strconv.ParseFloat(first, 64)
	}
	return system, cpu, max(cores, 1), memory, load
}
