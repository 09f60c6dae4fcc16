//go:build ignore

// Generate makes data/agents.tsv and data/countries.tsv of two npm packages, which it fetches by name into a temporary
// folder: user-agents (Intoli, BSD-2-Clause: browsers as seen on the web, with their weights) and
// @ip-location-db/geo-whois-asn-country (CC0-1.0: networks by country, from the registries' own records).
package main

import (
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math/bits"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

const (
	agentsPackage    = "user-agents@2.1.198"
	countriesPackage = "@ip-location-db/geo-whois-asn-country@2.3.2026061719"
	agents           = 400
)

// languages are the countries of a scenario and what browsers there ask for.
var languages = map[string]string{
	"US": "en-US,en;q=0.9", "CA": "en-CA,en;q=0.9,fr-CA;q=0.8", "MX": "es-MX,es;q=0.9,en;q=0.8", "BR": "pt-BR,pt;q=0.9,en-US;q=0.8",
	"AR": "es-AR,es;q=0.9", "GB": "en-GB,en;q=0.9", "IE": "en-IE,en;q=0.9", "DE": "de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7",
	"AT": "de-AT,de;q=0.9,en;q=0.8", "CH": "de-CH,de;q=0.9,fr;q=0.8,en;q=0.7", "FR": "fr-FR,fr;q=0.9,en-US;q=0.8,en;q=0.7",
	"ES": "es-ES,es;q=0.9,en;q=0.8", "PT": "pt-PT,pt;q=0.9,en;q=0.8", "IT": "it-IT,it;q=0.9,en-US;q=0.8", "NL": "nl-NL,nl;q=0.9,en;q=0.8",
	"BE": "nl-BE,nl;q=0.9,fr;q=0.8,en;q=0.7", "SE": "sv-SE,sv;q=0.9,en-US;q=0.8", "NO": "nb-NO,nb;q=0.9,en;q=0.8", "DK": "da-DK,da;q=0.9,en;q=0.8",
	"FI": "fi-FI,fi;q=0.9,en;q=0.8", "PL": "pl-PL,pl;q=0.9,en-US;q=0.8", "CZ": "cs-CZ,cs;q=0.9,en;q=0.8", "RO": "ro-RO,ro;q=0.9,en;q=0.8",
	"UA": "uk-UA,uk;q=0.9,en;q=0.8", "TR": "tr-TR,tr;q=0.9,en;q=0.8", "IN": "en-IN,en;q=0.9,hi;q=0.8", "ID": "id-ID,id;q=0.9,en;q=0.8",
	"JP": "ja,en-US;q=0.9,en;q=0.8", "KR": "ko-KR,ko;q=0.9,en;q=0.8", "AU": "en-AU,en;q=0.9", "NZ": "en-NZ,en;q=0.9", "ZA": "en-ZA,en;q=0.9",
}

func main() {
	log.SetFlags(0)
	dir, err := os.MkdirTemp("", "scenario")
	check(err)
	defer os.RemoveAll(dir)
	writeAgents(fetch(dir, agentsPackage))
	writeCountries(fetch(dir, countriesPackage))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// fetch unpacks an npm package and returns its folder.
func fetch(dir, name string) string {
	to, err := os.MkdirTemp(dir, "package")
	check(err)
	pack := exec.Command("npm", "pack", "--silent", name)
	pack.Dir, pack.Stderr = to, os.Stderr
	file, err := pack.Output()
	check(err)
	check(exec.Command("tar", "-xzf", filepath.Join(to, strings.TrimSpace(string(file))), "-C", to).Run())
	return filepath.Join(to, "package")
}

func write(name, source string, lines []string) {
	head := "# Made by generate.go of the npm package " + source + "; do not edit.\n"
	check(os.WriteFile(filepath.Join("data", name), []byte(head+strings.Join(lines, "\n")+"\n"), 0o644))
}

func writeAgents(dir string) {
	b, err := os.ReadFile(filepath.Join(dir, "dist", "user-agents.json"))
	check(err)
	var seen []struct {
		UserAgent string
		Weight    float64
	}
	check(json.Unmarshal(b, &seen))
	robot := regexp.MustCompile(`(?i)bot|crawl|spider|headless|preview|lighthouse|\t`)
	weights := map[string]float64{}
	for _, s := range seen {
		if !robot.MatchString(s.UserAgent) && len(s.UserAgent) <= 512 {
			weights[s.UserAgent] += s.Weight
		}
	}
	names := make([]string, 0, len(weights))
	for name := range weights {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return cmp.Or(cmp.Compare(weights[b], weights[a]), cmp.Compare(a, b)) })
	var lines []string
	for _, name := range names[:agents] {
		lines = append(lines, fmt.Sprintf("%d\t%s", max(1, int(weights[name]*1e6+0.5)), name))
	}
	write("agents.tsv", agentsPackage+" (copyright 2018 Intoli, LLC; BSD-2-Clause, see agents.LICENSE): weight in parts per million, user agent", lines)
	licence, err := os.ReadFile(filepath.Join(dir, "LICENSE"))
	check(err)
	check(os.WriteFile(filepath.Join("data", "agents.LICENSE"), licence, 0o644))
}

func writeCountries(dir string) {
	v4, v6 := largest(filepath.Join(dir, "geo-whois-asn-country-ipv4.csv")), largest(filepath.Join(dir, "geo-whois-asn-country-ipv6.csv"))
	var lines []string
	for country, language := range languages {
		lines = append(lines, strings.Join([]string{country, v4[country].String(), v6[country].String(), language}, "\t"))
	}
	slices.Sort(lines)
	write("countries.tsv", countriesPackage+" (CC0-1.0): country, its largest networks, and a language header of ours", lines)
}

// largest returns the largest network of each country, the lowest of equals.
func largest(file string) map[string]netip.Prefix {
	f, err := os.Open(file)
	check(err)
	defer f.Close()
	networks := map[string]netip.Prefix{}
	for r := csv.NewReader(f); ; {
		record, err := r.Read()
		if err == io.EOF {
			return networks
		}
		check(err)
		if _, ok := languages[record[2]]; !ok {
			continue
		}
		p := within(netip.MustParseAddr(record[0]), netip.MustParseAddr(record[1]))
		if have, ok := networks[record[2]]; !ok || p.Bits() < have.Bits() {
			networks[record[2]] = p
		}
	}
}

// within returns the largest network between two addresses that starts at the lowest of its possible starts.
func within(from, to netip.Addr) netip.Prefix {
	for size := 1; size <= from.BitLen(); size++ {
		p := netip.PrefixFrom(to, size).Masked()
		if last := lastOf(p); p.Addr().Compare(from) >= 0 && last.Compare(to) <= 0 {
			return p
		}
		if p := netip.PrefixFrom(from, size).Masked(); p.Addr() == from && lastOf(p).Compare(to) <= 0 {
			return p
		}
	}
	return netip.PrefixFrom(from, from.BitLen())
}

func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := range b {
		keep := min(max(p.Bits()-8*i, 0), 8)
		b[i] |= byte(bits.Reverse8(0xff) >> keep)
	}
	a, _ := netip.AddrFromSlice(bytes.Clone(b))
	return a
}
