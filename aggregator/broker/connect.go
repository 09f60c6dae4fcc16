package broker

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl"
)

const (
	dialTimeout = 5 * time.Second
	// metadataTTL bounds how long a moved leader stays unknown.
	metadataTTL = 2 * time.Second
	idleTimeout = 2 * time.Minute
)

// Config says where a Kafka cluster is and how to speak to it.
type Config struct {
	// Addresses are host:port of some of the cluster's brokers; at least one.
	Addresses []string
	// TLS, if not nil, encrypts every connection.
	TLS *tls.Config
	// SASL, if not nil, signs every connection in.
	SASL sasl.Mechanism
	// ClientID names the process in the broker's logs. Empty: waymark.
	ClientID string
}

// Validate returns an error that names the flag to blame.
func (c *Config) Validate() error {
	if len(c.Addresses) == 0 {
		return fmt.Errorf("--kafka must name at least one broker as host:port")
	}
	for _, a := range c.Addresses {
		host, port, err := net.SplitHostPort(a)
		if err != nil || host == "" {
			return fmt.Errorf("--kafka: %q is not host:port", a)
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("--kafka: %q has no port between 1 and 65535", a)
		}
	}
	return nil
}

// Connection holds the ways to speak to one cluster. All of them are safe for concurrent use.
type Connection struct {
	// Client sends single requests, with pooled connections.
	Client *kafka.Client
	// Brokers and Dialer are what consumer groups and readers are made with.
	Brokers []string
	Dialer  *kafka.Dialer

	transport *kafka.Transport
}

// Connect returns the clients of a cluster. It sends nothing: a cluster that is down is found by the first request.
func Connect(c Config) (*Connection, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.ClientID == "" {
		c.ClientID = "waymark"
	}
	transport := &kafka.Transport{
		DialTimeout: dialTimeout,
		IdleTimeout: idleTimeout,
		MetadataTTL: metadataTTL,
		ClientID:    c.ClientID,
		TLS:         c.TLS,
		SASL:        c.SASL,
	}
	return &Connection{
		Client:  &kafka.Client{Addr: kafka.TCP(c.Addresses...), Transport: transport},
		Brokers: c.Addresses,
		Dialer: &kafka.Dialer{
			ClientID:      c.ClientID,
			Timeout:       dialTimeout,
			DualStack:     true,
			TLS:           c.TLS,
			SASLMechanism: c.SASL,
		},
		transport: transport,
	}, nil
}

// Close closes the pooled connections. Requests that are under way end by themselves.
func (c *Connection) Close() error {
	c.transport.CloseIdleConnections()
	return nil
}

// ClusterID returns the id of the cluster, which names it among all clusters for its life.
func ClusterID(ctx context.Context, client *kafka.Client) (string, error) {
	m, err := client.Metadata(ctx, &kafka.MetadataRequest{Topics: []string{}})
	if err != nil {
		return "", fmt.Errorf("cannot ask Kafka (%v) for its cluster id: %w", client.Addr, err)
	}
	if m.ClusterID == "" {
		return "", fmt.Errorf("cannot use Kafka (%v): it has no cluster id", client.Addr)
	}
	return m.ClusterID, nil
}
