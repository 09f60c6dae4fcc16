package botfilter

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func lines(t testing.TB, name string) []string {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []string
	for scan := bufio.NewScanner(f); scan.Scan(); {
		if scan.Text() != "" {
			all = append(all, scan.Text())
		}
	}
	return all
}

func TestPeople(t *testing.T) {
	f := New()
	for _, ua := range lines(t, "people.txt") {
		if got := f.Match([]byte(ua)); got != 0 {
			t.Errorf("Match(%q) = %b, want a person", ua, got)
		}
	}
}

func TestRobotsOfTheList(t *testing.T) {
	f := New()
	want := map[string]Signal{"Bot": Bot, "Preview": Preview}
	for _, line := range lines(t, "robots.txt") {
		kind, ua, _ := strings.Cut(line, "\t")
		if got := f.Match([]byte(ua)); got&want[kind] == 0 {
			t.Errorf("Match(%q) = %b, want %s", ua, got, kind)
		}
	}
}

func TestMatch(t *testing.T) {
	filter := New()
	f := func(ua string, want Signal) {
		t.Helper()
		if got := filter.Match([]byte(ua)); got != want {
			t.Errorf("Match(%q) = %b, want %b", ua, got, want)
		}
	}
	f("", 0)
	f("Mozilla/5.0", 0)
	f("Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", Bot)
	f("Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)", Bot)
	f("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/142.0.0.0 Safari/537.36", Bot)
	f("Mozilla/5.0 (compatible; NeverHeardOfBot/0.1)", Bot)
	f("Mozilla/5.0 (compatible; Something; https://something.example/about)", Bot)
	f("SomethingCrawler", Bot)
	f("curl/8.9.1", Bot)
	f("Wget/1.21.4", Bot)
	f("python-requests/2.32.3", Bot)
	f("Python/3.12 aiohttp/3.10", Bot)
	f("Go-http-client/1.1", Bot)
	f("Go-http-client/2.0", Bot)
	f("okhttp/4.12.0", Bot)
	f("Java/17.0.2", Bot)
	f("axios/1.7.2", Bot)
	f("node", Bot)
	f("Dalvik/2.1.0 (Linux; U; Android 14; Pixel 8 Build/UQ1A)", Bot)
	f("PostmanRuntime/7.43.0", Bot)
	f("GuzzleHttp/7", Bot)
	f("facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)", Preview|Bot)
	f("facebookexternalhit/1.1", Preview)
	f("WhatsApp/2.23.20.0 A", Preview)
	f("Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", Preview|Bot)
	f("Twitterbot/1.0", Preview|Bot)
	f("TelegramBot (like TwitterBot)", Preview|Bot)
	f("Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)", Preview|Bot)
	f("LinkedInBot/1.0 (compatible; Mozilla/5.0; Apache-HttpClient +http://www.linkedin.com)", Preview|Bot)
	f("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_11_1) AppleWebKit/601.2.4 (KHTML, like Gecko) Version/9.0.1 Safari/601.2.4 facebookexternalhit/1.1 Facebot Twitterbot/1.0", Preview|Bot)
	f("Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/534+ (KHTML, like Gecko) BingPreview/1.0b", Preview)
	f(strings.Repeat("a", maxUserAgent)+"Googlebot/2.1", 0)
}

func FuzzMatch(f *testing.F) {
	filter := New()
	for _, ua := range lines(f, "people.txt")[:10] {
		f.Add([]byte(ua))
	}
	for _, line := range lines(f, "robots.txt")[:10] {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, ua []byte) {
		got := filter.Match(ua)
		if got&^(Bot|Preview) != 0 {
			t.Errorf("Match(%q) = %b, want Bot and Preview only", ua, got)
		}
		if len(ua) < maxUserAgent-10 && filter.Match(append(ua[:len(ua):len(ua)], " Googlebot/2"...))&Bot == 0 {
			t.Errorf("Match(%q Googlebot/2) is no robot", ua)
		}
	})
}
