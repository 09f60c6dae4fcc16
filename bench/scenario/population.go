package scenario

import (
	_ "embed"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed data/agents.tsv
var agentsTSV string

//go:embed data/countries.tsv
var countriesTSV string

type agent struct {
	name   string
	weight float64
}

type country struct {
	code     string
	v4, v6   netip.Prefix
	language string
}

var (
	agents    = sync.OnceValue(func() []agent { return parseAgents(agentsTSV) })
	countries = sync.OnceValue(func() []country { return parseCountries(countriesTSV) })
)

func rows(tsv string, columns int) [][]string {
	var all [][]string
	for line := range strings.Lines(tsv) {
		if line = strings.TrimRight(line, "\n"); strings.HasPrefix(line, "#") || line == "" {
			continue
		}
		fields := strings.SplitN(line, "\t", columns)
		if len(fields) != columns {
			panic("BUG: a line of an embedded table has too few columns: " + line)
		}
		all = append(all, fields)
	}
	return all
}

func parseAgents(tsv string) []agent {
	var list []agent
	for _, row := range rows(tsv, 2) {
		weight, err := strconv.ParseFloat(row[0], 64)
		if err != nil {
			panic("BUG: data/agents.tsv: " + err.Error())
		}
		list = append(list, agent{row[1], weight})
	}
	return list
}

func parseCountries(tsv string) []country {
	var list []country
	for _, row := range rows(tsv, 4) {
		list = append(list, country{row[0], netip.MustParsePrefix(row[1]), netip.MustParsePrefix(row[2]), row[3]})
	}
	return list
}

func countryCodes() string {
	var codes []string
	for _, c := range countries() {
		codes = append(codes, c.code)
	}
	return strings.Join(codes, ", ")
}

// robots are declared robots that every list knows, so that the truth about them is not in dispute.
var robots = []string{
	"Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
	"Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
	"Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
	"Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)",
	"Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
	"Mozilla/5.0 (compatible; DotBot/1.2; +https://opensiteexplorer.org/dotbot; help@moz.com)",
	"Mozilla/5.0 (compatible; MJ12bot/v1.4.8; http://mj12bot.com/)",
	"python-requests/2.32.3",
	"curl/8.9.1",
	"Scrapy/2.11.2 (+https://scrapy.org)",
}

// alias draws from weighted things in constant time (Walker's method). It is immutable.
type alias struct {
	keep  []uint32 // of 2^32
	other []int32
}

func newAlias(weights []float64) *alias {
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	n := len(weights)
	a := &alias{make([]uint32, n), make([]int32, n)}
	scaled := make([]float64, n)
	var small, large []int32
	for i, w := range weights {
		scaled[i] = w / sum * float64(n)
		if scaled[i] < 1 {
			small = append(small, int32(i))
		} else {
			large = append(large, int32(i))
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		a.keep[s], a.other[s] = uint32(scaled[s]*(1<<32-1)), l
		if scaled[l] -= 1 - scaled[s]; scaled[l] < 1 {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	for _, i := range append(small, large...) {
		a.keep[i], a.other[i] = math.MaxUint32, i
	}
	return a
}

// draw returns the thing that 64 random bits stand for.
func (a *alias) draw(r uint64) int {
	i := int(uint64(uint32(r)) * uint64(len(a.keep)) >> 32)
	if uint32(r>>32) <= a.keep[i] {
		return i
	}
	return int(a.other[i])
}

// mix64 is splitmix64's finisher: a visitor's traits are bits of it.
func mix64(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// chance reports whether an event of a probability happens, by 32 random bits.
func chance(r uint32, p float64) bool { return float64(r) < p*(1<<32) }

// population turns the number of a visitor into everything that a request says about it. Visitors of different
// numbers differ in address, agent or language, so that each is one visitor. It is immutable.
type population struct {
	seed      uint64
	visitors  Visitors
	agents    *alias
	countries *alias
	list      []country
	heads     [][]byte // header lines by agent
	languages [][]byte // header line by country
}

func newPopulation(s *Scenario) *population {
	p := &population{seed: mix64(s.Seed ^ 0x706f70), visitors: s.Visitors}
	weights := make([]float64, len(agents()))
	for i, a := range agents() {
		weights[i] = a.weight
		p.heads = append(p.heads, []byte("User-Agent: "+a.name+"\r\nAccept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Encoding: gzip, deflate, br\r\n"))
	}
	p.agents = newAlias(weights)
	codes := slices.Sorted(maps.Keys(s.Visitors.Countries))
	weights = weights[:0]
	for _, code := range codes {
		i := slices.IndexFunc(countries(), func(c country) bool { return c.code == code })
		p.list = append(p.list, countries()[i])
		p.languages = append(p.languages, []byte("Accept-Language: "+countries()[i].language+"\r\n"))
		weights = append(weights, s.Visitors.Countries[code])
	}
	p.countries = newAlias(weights)
	return p
}

// traits is what a visitor is like, always the same for the same number.
type traits struct {
	number  uint64
	country int
	agent   int
	cookies bool
	roaming bool
	ipv6    bool
}

func (p *population) visitor(number uint64) traits {
	a, b := mix64(p.seed^number), mix64(p.seed^number^0x5bd1e995)
	c := mix64(b)
	t := traits{number: number, country: p.countries.draw(a), agent: p.agents.draw(b), cookies: chance(uint32(c), p.visitors.Cookies)}
	t.roaming = t.cookies && chance(uint32(c>>32), p.visitors.Roaming)
	t.ipv6 = chance(uint32(mix64(c)), p.visitors.IPv6)
	return t
}

// address returns the visitor's address: its own among all visitors of its country. IPv6 addresses differ in their
// first 64 bits. A move other than 0 is another address that nobody has as a home, for visitors that roam.
func (p *population) address(t traits, move uint64) netip.Addr {
	c := p.list[t.country]
	size := uint64(1) << (32 - c.v4.Bits())
	if !t.ipv6 && move == 0 && t.number < size {
		base := c.v4.Addr().As4()
		offset := t.number * 0x9e3779b1 & (size - 1) // odd, so no two numbers below size meet
		binary.BigEndian.PutUint32(base[:], binary.BigEndian.Uint32(base[:])+uint32(offset))
		return netip.AddrFrom4(base)
	}
	base := c.v6.Addr().As16()
	room := uint64(1)<<(64-c.v6.Bits()) - 1 // networks of 64 bits; half of them for homes, half for moves
	network := t.number * 0x9e3779b97f4a7c15 & (room >> 1)
	if move != 0 {
		network = mix64(t.number^move<<40)&(room>>1) | (room>>1 + 1)
	}
	binary.BigEndian.PutUint64(base[:8], binary.BigEndian.Uint64(base[:8])+network)
	binary.BigEndian.PutUint64(base[8:], mix64(t.number))
	return netip.AddrFrom16(base)
}

// zipf returns the weights of n links, the most popular first.
func zipf(n int, exponent float64) []float64 {
	w := make([]float64, n)
	for i := range w {
		w[i] = math.Pow(float64(i+1), -exponent)
	}
	return w
}

// Slug returns the slug of a scenario's link.
func Slug(link int) string { return fmt.Sprintf("bench-%s", strconv.FormatInt(int64(link), 36)) }

// PartnerKey returns the key of a scenario's partner.
func PartnerKey(partner int) string { return fmt.Sprintf("bench-partner-%d", partner) }
