// Package scenario says what a run's visitors do: which links they click and how often, what they look like, which
// of them are robots, who comes back, who buys. A scenario is a YAML file; six come with the harness.
//
// Everything follows from the scenario and its seed: the n-th request of worker i of w is the same in every run, so
// the harness knows the true number of unique visitors of every partnership and link without asking anyone.
package scenario

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

//go:embed presets/*.yaml
var presets embed.FS

// Scenario is a whole scenario file.
type Scenario struct {
	Name        string      `yaml:"name"`
	About       string      `yaml:"about"`
	Seed        uint64      `yaml:"seed"`
	Load        Load        `yaml:"load"`
	Links       Links       `yaml:"links"`
	Mix         Mix         `yaml:"mix"`
	Visitors    Visitors    `yaml:"visitors"`
	Conversions Conversions `yaml:"conversions"`
}

// Load is the rate over time, and the connections that carry it. The command line may say otherwise.
type Load struct {
	Arrivals       string  `yaml:"arrivals"` // even or poisson
	Phases         []Phase `yaml:"phases"`
	Connections    int     `yaml:"connections"`
	MaxConnections int     `yaml:"max_connections"`
	KeepAlive      *bool   `yaml:"keep_alive"` // false: one connection per request
}

// Phase is a stretch of the load: a rate for a duration, a ramp from a rate to another, or steps that share the
// duration equally.
type Phase struct {
	Rate     float64   `yaml:"rate"`
	From     float64   `yaml:"from"`
	To       float64   `yaml:"to"`
	Steps    []float64 `yaml:"steps"`
	Duration Duration  `yaml:"duration"`
}

// Links is the program that is clicked.
type Links struct {
	Partners   int     `yaml:"partners"`
	PerPartner int     `yaml:"per_partner"`
	Zipf       float64 `yaml:"zipf"` // the n-th most popular link gets a share of 1/n^zipf; 0: all the same
	Hot        float64 `yaml:"hot"`  // share of the clicks that go to one link, before Zipf
}

// Mix is the shares of requests by what they are. They add up to 1.
type Mix struct {
	People   float64 `yaml:"people"`   // GET by a browser
	Bots     float64 `yaml:"bots"`     // GET by a declared robot
	Head     float64 `yaml:"head"`     // HEAD
	Prefetch float64 `yaml:"prefetch"` // GET that a browser makes in advance
	Unknown  float64 `yaml:"unknown"`  // a slug that does not exist
}

// Visitors is who clicks.
type Visitors struct {
	Repeat    float64            `yaml:"repeat"`    // share of people's clicks by someone who was there before
	Pool      int                `yaml:"pool"`      // how many of the latest visitors come back
	Cookies   float64            `yaml:"cookies"`   // share of visitors that keep cookies
	Roaming   float64            `yaml:"roaming"`   // share of those who keep cookies that change their address between clicks
	IPv6      float64            `yaml:"ipv6"`      // share of visitors
	Countries map[string]float64 `yaml:"countries"` // shares of visitors; they add up to 1
	Addresses string             `yaml:"addresses"` // forwarded, proxy or socket
}

// How the target learns a visitor's address.
const (
	Forwarded = "forwarded" // X-Forwarded-For, from a network that the target trusts
	Proxy     = "proxy"     // PROXY protocol, which means one connection per request
	Socket    = "socket"    // not at all: everybody comes from one address
)

// Conversions is what visitors do after a click.
type Conversions struct {
	Signup float64 `yaml:"signup"` // share of new visitors whose click leads to a signup
	Sale   float64 `yaml:"sale"`   // share of signups that lead to a sale
	Delay  Delay   `yaml:"delay"`  // between click and signup, and between signup and sale
	Amount Amount  `yaml:"amount"`
}

// Delay is a range of times, both ends included.
type Delay struct {
	Min Duration `yaml:"min"`
	Max Duration `yaml:"max"`
}

// Amount is a range of money in minor units, both ends included.
type Amount struct {
	Min      int64  `yaml:"min"`
	Max      int64  `yaml:"max"`
	Currency string `yaml:"currency"`
}

// Duration is a time.Duration that YAML writes as 1m30s.
type Duration time.Duration

// lineError is a mistake at a line of the file.
type lineError struct {
	line    int
	message string
}

func (e *lineError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.message) }

// UnmarshalYAML reads 1m30s.
func (d *Duration) UnmarshalYAML(n ast.Node) error {
	v, err := time.ParseDuration(n.GetToken().Value)
	if err != nil {
		return &lineError{n.GetToken().Position.Line, fmt.Sprintf("%q is no duration such as 30s or 1m30s", n.GetToken().Value)}
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes 1m30s.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Presets returns the names of the scenarios that come with the harness.
func Presets() []string {
	entries, err := presets.ReadDir("presets")
	if err != nil {
		panic("BUG: the presets are not embedded: " + err.Error())
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// Preset returns the file of a scenario that comes with the harness.
func Preset(name string) ([]byte, bool) {
	b, err := presets.ReadFile(path.Join("presets", name+".yaml"))
	return b, err == nil
}

// Read reads a scenario: the name of a preset, or else the path of a file.
func Read(name string) (*Scenario, error) {
	if b, ok := Preset(name); ok {
		return Parse(name, b)
	}
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("there is no scenario %q: neither a file nor one of %s", name, strings.Join(Presets(), ", "))
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read scenario %s: %w", name, err)
	}
	return Parse(name, b)
}

// Parse reads a scenario file. Its errors name the file and the line.
func Parse(name string, b []byte) (*Scenario, error) {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil, fmt.Errorf("%s: the scenario is empty", name)
	}
	s := &Scenario{}
	if err := yaml.UnmarshalWithOptions(b, s, yaml.Strict(), yaml.DisallowUnknownField()); err != nil {
		return nil, fmt.Errorf("%s: %s", name, oneLine(err))
	}
	s.defaults()
	if field, err := s.validate(); err != nil {
		return nil, fmt.Errorf("%s: line %d: %w", name, lineOf(b, field), err)
	}
	return s, nil
}

// oneLine turns the library's error, which draws the source, into "line 3: message".
func oneLine(err error) string {
	var ours *lineError
	if errors.As(err, &ours) {
		return ours.Error()
	}
	var located yaml.Error
	if errors.As(err, &located) && located.GetToken() != nil {
		return fmt.Sprintf("line %d: %s", located.GetToken().Position.Line, strings.Join(strings.Fields(located.GetMessage()), " "))
	}
	return strings.Join(strings.Fields(err.Error()), " ")
}

// lineOf returns the line of a field such as mix or visitors.countries, or that of the nearest thing around it.
func lineOf(b []byte, field string) int {
	file, err := parser.ParseBytes(b, 0)
	if err != nil || len(file.Docs) == 0 {
		return 1
	}
	node, line := file.Docs[0].Body, 1
	for key := range strings.SplitSeq(field, ".") {
		m, ok := node.(ast.MapNode)
		if !ok {
			return line
		}
		found := false
		for it := m.MapRange(); it.Next(); {
			if it.Key().String() == key {
				node, line, found = it.Value(), it.Key().GetToken().Position.Line, true
				break
			}
		}
		if !found {
			return line
		}
	}
	return line
}

func (s *Scenario) defaults() {
	set(&s.Seed, 1)
	set(&s.Load.Arrivals, "poisson")
	set(&s.Load.Connections, 64)
	if s.Load.MaxConnections < s.Load.Connections {
		s.Load.MaxConnections = max(1024, s.Load.Connections)
	}
	if s.Load.KeepAlive == nil {
		s.Load.KeepAlive = new(bool)
		*s.Load.KeepAlive = true
	}
	set(&s.Links.Partners, 1)
	set(&s.Links.PerPartner, 1)
	if s.Mix == (Mix{}) {
		s.Mix.People = 1
	}
	set(&s.Visitors.Pool, 100_000)
	set(&s.Visitors.Addresses, Forwarded)
	if len(s.Visitors.Countries) == 0 {
		s.Visitors.Countries = map[string]float64{"US": 1}
	}
	c := &s.Conversions
	if c.Signup > 0 {
		if c.Delay == (Delay{}) {
			c.Delay = Delay{Duration(time.Second), Duration(10 * time.Second)}
		}
		if c.Amount.Max == 0 {
			c.Amount.Min, c.Amount.Max = 900, 19900
		}
		set(&c.Amount.Currency, "USD")
	}
}

func set[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// The bounds of a program that `admin apply` takes.
const (
	maxPerPartner = 50
	maxLinks      = 1 << linkBits
)

// validate returns the field to blame and why.
func (s *Scenario) validate() (string, error) {
	if s.Name == "" {
		return "", errors.New("name is missing")
	}
	if s.Load.Arrivals != "poisson" && s.Load.Arrivals != "even" {
		return "load.arrivals", fmt.Errorf("load.arrivals must be poisson or even, got %q", s.Load.Arrivals)
	}
	if s.Load.Connections < 1 {
		return "load.connections", fmt.Errorf("load.connections must be at least 1, got %d", s.Load.Connections)
	}
	if err := s.validatePhases(); err != nil {
		return "load.phases", err
	}
	if field, err := s.validateLinks(); err != nil {
		return field, err
	}
	if field, err := s.validateShares(); err != nil {
		return field, err
	}
	return s.validateConversions()
}

func (s *Scenario) validatePhases() error {
	if len(s.Load.Phases) == 0 {
		return errors.New("load.phases is missing: give at least one, such as {rate: 1000, duration: 30s}")
	}
	for i, p := range s.Load.Phases {
		kinds := 0
		for _, is := range []bool{p.Rate > 0, p.From > 0 || p.To > 0, len(p.Steps) > 0} {
			if is {
				kinds++
			}
		}
		if kinds != 1 {
			return fmt.Errorf("phase %d must have exactly one of rate, from and to, or steps", i+1)
		}
		if p.Duration <= 0 {
			return fmt.Errorf("phase %d needs a duration longer than 0s", i+1)
		}
		for _, rate := range append([]float64{p.Rate, p.From, p.To}, p.Steps...) {
			if !(rate >= 0 && rate <= 1e7) {
				return fmt.Errorf("phase %d: a rate must lie between 0 and 10000000 requests/s, got %v", i+1, rate)
			}
		}
	}
	return nil
}

func (s *Scenario) validateLinks() (string, error) {
	l := s.Links
	switch {
	case l.Partners < 1:
		return "links.partners", fmt.Errorf("links.partners must be at least 1, got %d", l.Partners)
	case l.PerPartner < 1 || l.PerPartner > maxPerPartner:
		return "links.per_partner", fmt.Errorf("links.per_partner must be 1 to %d, which is what a partner may have, got %d", maxPerPartner, l.PerPartner)
	case l.Partners > maxLinks/l.PerPartner:
		return "links.partners", fmt.Errorf("%d partners with %d links each are more than %d links", l.Partners, l.PerPartner, maxLinks)
	case !(l.Zipf >= 0 && l.Zipf <= 10):
		return "links.zipf", fmt.Errorf("links.zipf must be 0 to 10, got %v", l.Zipf)
	}
	return "", nil
}

// validateShares checks that every share is one, and that those of a whole add up to it.
func (s *Scenario) validateShares() (string, error) {
	for field, share := range map[string]float64{
		"links.hot": s.Links.Hot, "visitors.repeat": s.Visitors.Repeat, "visitors.cookies": s.Visitors.Cookies, "visitors.roaming": s.Visitors.Roaming,
		"visitors.ipv6": s.Visitors.IPv6, "conversions.signup": s.Conversions.Signup, "conversions.sale": s.Conversions.Sale,
	} {
		if !(share >= 0 && share <= 1) {
			return field, fmt.Errorf("%s must be a share from 0 to 1, got %v", field, share)
		}
	}
	m := s.Mix
	if err := whole("mix", m.People, m.Bots, m.Head, m.Prefetch, m.Unknown); err != nil {
		return "mix", err
	}
	var shares []float64
	for code, share := range s.Visitors.Countries {
		if !slices.ContainsFunc(countries(), func(c country) bool { return c.code == code }) {
			return "visitors.countries." + code, fmt.Errorf("visitors.countries: %q is not one of %s", code, countryCodes())
		}
		shares = append(shares, share)
	}
	if err := whole("visitors.countries", shares...); err != nil {
		return "visitors.countries", err
	}
	if s.Visitors.Pool < 1 || s.Visitors.Pool > 10_000_000 {
		return "visitors.pool", fmt.Errorf("visitors.pool must be 1 to 10000000, got %d", s.Visitors.Pool)
	}
	if a := s.Visitors.Addresses; a != Forwarded && a != Proxy && a != Socket {
		return "visitors.addresses", fmt.Errorf("visitors.addresses must be forwarded, proxy or socket, got %q", a)
	}
	return "", nil
}

func whole(field string, shares ...float64) error {
	sum := 0.0
	for _, share := range shares {
		if !(share >= 0) {
			return fmt.Errorf("%s: a share cannot be %v", field, share)
		}
		sum += share
	}
	if math.Abs(sum-1) > 0.0005 {
		return fmt.Errorf("the shares of %s add up to %.4g, want 1", field, sum)
	}
	return nil
}

func (s *Scenario) validateConversions() (string, error) {
	c := s.Conversions
	switch {
	case c.Signup == 0:
		return "", nil
	case c.Delay.Min < 0 || c.Delay.Max < c.Delay.Min:
		return "conversions.delay", fmt.Errorf("conversions.delay must be a range such as {min: 1s, max: 10s}, got %v to %v", time.Duration(c.Delay.Min), time.Duration(c.Delay.Max))
	case c.Amount.Min < 0 || c.Amount.Max < c.Amount.Min || c.Amount.Max > 1e12:
		return "conversions.amount", fmt.Errorf("conversions.amount must be a range of minor units, got %d to %d", c.Amount.Min, c.Amount.Max)
	case len(c.Amount.Currency) != 3 || strings.ToUpper(c.Amount.Currency) != c.Amount.Currency:
		return "conversions.amount.currency", fmt.Errorf("conversions.amount.currency must be a code such as USD, got %q", c.Amount.Currency)
	}
	return "", nil
}

// LinkCount returns how many links the scenario's program has.
func (s *Scenario) LinkCount() int { return s.Links.Partners * s.Links.PerPartner }
