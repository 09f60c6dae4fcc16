package broker

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/twmb/franz-go/pkg/kfake"
)

// EmbeddedConfig says where the broker of this process keeps its data and where it listens.
type EmbeddedConfig struct {
	// Dir is the broker's own folder; it is made if it does not exist. The caller has locked what lies around it.
	Dir string
	// Listen is a loopback host:port, because the broker asks nobody for a password; the port may be 0. Empty: 127.0.0.1:0.
	Listen string
	// NoSync leaves produced records to the page cache: they survive the process, but not a loss of power.
	NoSync bool
	Logger *slog.Logger
}

// Embedded is a Kafka broker in this process. It is safe for concurrent use.
type Embedded struct {
	cluster *kfake.Cluster
	addr    string
}

const clusterIDName = "cluster-id"

// OpenEmbedded starts the broker on the records its folder holds. It returns an error when the address is taken or not
// on the loopback interface, or the folder cannot be read.
func OpenEmbedded(c EmbeddedConfig) (*Embedded, error) {
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if err := checkLoopback(c.Listen); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make broker folder (%s): %w", c.Dir, err)
	}
	id, err := clusterID(c.Dir)
	if err != nil {
		return nil, err
	}
	var listener net.Listener
	opts := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.ClusterID(id),
		kfake.DataDir(filepath.Join(c.Dir, "log")),
		kfake.WithLogger(logger{c.Logger}),
		kfake.ListenFn(func(network, _ string) (net.Listener, error) {
			l, err := net.Listen(network, c.Listen)
			if err != nil {
				return nil, fmt.Errorf("cannot listen for Kafka clients (%s): %w", c.Listen, err)
			}
			listener = l
			return l, nil
		}),
		// Offsets of a group that was away for long are still wanted: ten years.
		kfake.BrokerConfigs(map[string]string{"offsets.retention.minutes": "5256000"}),
	}
	if !c.NoSync {
		opts = append(opts, kfake.SyncWrites())
	}
	cluster, err := kfake.NewCluster(opts...)
	if err != nil {
		return nil, fmt.Errorf("cannot open embedded broker (%s): %w", c.Dir, err)
	}
	return &Embedded{cluster: cluster, addr: listener.Addr().String()}, nil
}

// Addr returns the host:port that the broker listens on.
func (e *Embedded) Addr() string { return e.addr }

// Cluster gives tests the broker's fault injection.
func (e *Embedded) Cluster() *kfake.Cluster { return e.cluster }

// Close writes what is in memory to disk and stops the broker.
func (e *Embedded) Close() error {
	e.cluster.Close()
	return nil
}

func checkLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("--kafka-listen: %q is not host:port", address)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("--kafka-listen: %q is not a loopback address; the embedded broker lets everybody in", address)
	}
	return nil
}

// clusterID returns the id that the folder was first opened with. It stands in a file of its own, so that it lives as
// long as the records do and not longer.
func clusterID(dir string) (string, error) {
	path := filepath.Join(dir, clusterIDName)
	b, err := os.ReadFile(path)
	if err == nil {
		if id := strings.TrimSpace(string(b)); id != "" {
			return id, nil
		}
		return "", fmt.Errorf("cannot use broker folder (%s): its %s file is empty", dir, clusterIDName)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("cannot read broker folder (%s): %w", dir, err)
	}
	var raw [16]byte
	rand.Read(raw[:])
	id := base64.RawURLEncoding.EncodeToString(raw[:])
	if err := writeFile(path, id+"\n"); err != nil {
		return "", fmt.Errorf("cannot write cluster id (%s): %w", path, err)
	}
	return id, nil
}

func writeFile(path, text string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// logger hands the broker's own words to slog. It is quiet about what clients see anyway.
type logger struct{ log *slog.Logger }

func (l logger) Logf(level kfake.LogLevel, format string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case kfake.LogLevelError:
		to = slog.LevelError
	case kfake.LogLevelWarn:
		to = slog.LevelWarn
	}
	ctx := context.Background()
	if l.log.Enabled(ctx, to) {
		l.log.Log(ctx, to, "embedded broker: "+fmt.Sprintf(format, args...))
	}
}
