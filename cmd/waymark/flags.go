package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"waymark/cmd/internal/datadir"
	"waymark/schema"
)

// The ports of a system whose addresses are not given.
const (
	defaultTracker   = ":7080"
	defaultDashboard = ":7081"
	defaultAdmin     = "127.0.0.1:7082"
	defaultShop      = "127.0.0.1:7083"
)

type dataFlags struct {
	Data string `default:"./.waymark" placeholder:"FOLDER" help:"Data folder of this process (default: ${default})."`
}

// separateFlags are the settings of a process that runs apart from the others.
type separateFlags struct {
	dataFlags
	SecretsFile string `placeholder:"FILE" help:"Secrets that all processes of the installation share, made by 'waymark admin secret'."`
	readyFlags
	AdminListen string `default:"127.0.0.1:7082" placeholder:"ADDRESS" help:"Address of metrics, health and profiles; keep it private (default: ${default})."`
	kafkaFlags
}

func (f *separateFlags) secrets() (*schema.Secrets, error) {
	if f.SecretsFile == "" {
		return nil, usagef("--secrets-file is needed: all processes of an installation share one, made by 'waymark admin secret > FILE'")
	}
	s, err := datadir.ReadSecrets(f.SecretsFile)
	if err != nil {
		return nil, usagef("--secrets-file: %w", err)
	}
	return s, nil
}

type readyFlags struct {
	ReadyFile string `placeholder:"FILE" help:"File that is written, as one JSON object, when everything is ready."`
}

// ready is what the ready file holds.
type ready struct {
	Tracker        string   `json:"tracker,omitempty"`
	Dashboard      string   `json:"dashboard,omitempty"`
	Admin          string   `json:"admin"`
	Kafka          string   `json:"kafka,omitempty"`
	Clickhouse     string   `json:"clickhouse,omitempty"`
	PID            int      `json:"pid"`
	Links          []string `json:"links,omitempty"`
	Email          string   `json:"email,omitempty"`
	Password       string   `json:"password,omitempty"`
	Program        string   `json:"program,omitempty"`
	ConversionsKey string   `json:"conversions_key,omitempty"`
	PartnerAPIKey  string   `json:"partner_api_key,omitempty"`
	Shop           string   `json:"shop,omitempty"`
}

// write writes the ready file whole or not at all, and returns a function that removes it.
func (f *readyFlags) write(r ready) (remove func(), err error) {
	if f.ReadyFile == "" {
		return func() {}, nil
	}
	r.PID = os.Getpid()
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the ready file: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(f.ReadyFile), filepath.Base(f.ReadyFile)+".*")
	if err != nil {
		return nil, fmt.Errorf("cannot write --ready-file %s: %w", f.ReadyFile, err)
	}
	_, err = tmp.Write(append(b, '\n'))
	if closeErr := tmp.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(tmp.Name(), f.ReadyFile)
	}
	if err != nil {
		os.Remove(tmp.Name())
		return nil, fmt.Errorf("cannot write --ready-file %s: %w", f.ReadyFile, err)
	}
	return func() { os.Remove(f.ReadyFile) }, nil
}

// listen opens a TCP listener and names the flag in its error.
func listen(flag, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s %s: the port is taken; give another one, or 0 for a free one", flag, address)
	}
	if err != nil {
		return nil, usagef("%s %s: %w", flag, address, err)
	}
	return l, nil
}

// listenOrMove opens a listener on the address given by hand, or else on the default one. With move, a default that is
// taken moves to a free port, and says so.
func listenOrMove(flag, given, fallback string, move bool, log *slog.Logger) (net.Listener, error) {
	if given != "" {
		return listen(flag, given)
	}
	l, err := net.Listen("tcp", fallback)
	if !move || !errors.Is(err, syscall.EADDRINUSE) {
		if err == nil {
			return l, nil
		}
		return listen(flag, fallback)
	}
	host, _, err := net.SplitHostPort(fallback)
	if err != nil {
		return nil, fmt.Errorf("cannot read the default of %s: %w", flag, err)
	}
	if l, err = listen(flag, net.JoinHostPort(host, "0")); err != nil {
		return nil, err
	}
	log.Warn("the default port is taken, moved to a free one", "flag", flag, "taken", fallback, "address", l.Addr().String())
	return l, nil
}

// baseURL returns the URL by which this machine reaches a listener.
func baseURL(scheme string, addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return scheme + "://" + addr.String()
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() || ip.IsLoopback() && ip.To4() != nil {
		host = "localhost"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}
