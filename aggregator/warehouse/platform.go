package warehouse

import (
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/cpu"
)

// EngineVersion is the version of the engine that package-lock.json pins.
const EngineVersion = "26.5.3"

const waysOn = "the ways on: `make run ENGINE=<path of libchdb.so>` with an engine of your own, or `--clickhouse clickhouse://host:9000` for a server"

// DefaultLibrary returns where the build keeps the engine: outside the checkout, shared by all of them. The rule is
// the one of fetch.sh.
func DefaultLibrary() string {
	cache := os.Getenv("WAYMARK_CACHE")
	if cache == "" {
		base := os.Getenv("XDG_CACHE_HOME")
		if base == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				return ""
			}
			base = filepath.Join(home, ".cache")
		}
		cache = filepath.Join(base, "waymark")
	}
	return filepath.Join(cache, "chdb-"+EngineVersion, "libchdb.so")
}

func checkPlatform() error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return fmt.Errorf("the embedded ClickHouse engine needs Linux on x86-64, this is %s on %s; %s", runtime.GOOS, runtime.GOARCH, waysOn)
	}
	if !cpu.X86.HasAVX2 {
		return fmt.Errorf("the embedded ClickHouse engine needs a processor with AVX2, this one has none; %s", waysOn)
	}
	if _, err := os.Stat("/lib64/ld-linux-x86-64.so.2"); err != nil {
		return fmt.Errorf("the embedded ClickHouse engine needs glibc, this system has another C library; %s", waysOn)
	}
	return nil
}

// checkLibrary refuses a file that is not a whole shared library for this machine.
func checkLibrary(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || path == "" {
		return fmt.Errorf("the embedded ClickHouse engine is not here (%s): `make build` fetches it; %s", path, waysOn)
	}
	if err != nil {
		return fmt.Errorf("cannot read the embedded ClickHouse engine (%s): %w; %s", path, err, waysOn)
	}
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("the embedded ClickHouse engine (%s) is not a shared library: %s; %s", path, err, waysOn)
	}
	defer f.Close()
	if f.Machine != elf.EM_X86_64 || f.Type != elf.ET_DYN {
		return fmt.Errorf("the embedded ClickHouse engine (%s) is not a shared library for x86-64; %s", path, waysOn)
	}
	for _, p := range f.Progs {
		if int64(p.Off+p.Filesz) > info.Size() {
			return fmt.Errorf("the embedded ClickHouse engine (%s) is cut short at %d bytes: remove it and run `make build` again; %s", path, info.Size(), waysOn)
		}
	}
	return nil
}
