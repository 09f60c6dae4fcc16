package botfilter

import "bytes"

// robotShape marks texts that no browser of a person holds, without making the user agent a robot by themselves.
const robotShape Signal = 1 << 7

// ownRules are texts, in any case, that robots hold and the list does not, or not everywhere.
var ownRules = []row{
	{text: "crawl", signal: robotShape | Bot},
	{text: "spider", signal: robotShape | Bot},
	{text: "scraper", signal: robotShape | Bot},
	{text: "scraping", signal: robotShape | Bot},
	{text: "robot", signal: robotShape | Bot},
	{text: "headlesschrome", signal: robotShape | Bot},
	{text: "phantomjs", signal: robotShape | Bot},
	{text: "google-inspectiontool", signal: robotShape | Bot},
	{text: "googleother", signal: robotShape | Bot},
	{text: "chatgpt-user", signal: robotShape | Bot},
	{text: "windowspowershell/", signal: robotShape | Bot},
	{text: "://", signal: robotShape | Bot},
	{text: "bot", signal: robotShape},
	{text: "compatible;", signal: robotShape},

	{text: "facebookexternalhit", signal: robotShape | Preview},
	{text: "facebookcatalog", signal: robotShape | Preview},
	{text: "slack-imgproxy", signal: robotShape | Preview},
	{text: "skypeuripreview", signal: robotShape | Preview},
	{text: "linkpreview", signal: robotShape | Preview},
	{text: "link preview", signal: robotShape | Preview},
	{text: "url preview", signal: robotShape | Preview},
	{text: "unfurl", signal: robotShape | Preview},
	{text: "linkexpanding", signal: robotShape | Preview},

	{text: "curl/", signal: Bot, start: true},
	{text: "wget/", signal: Bot, start: true},
	{text: "python", signal: Bot, start: true},
	{text: "java/", signal: Bot, start: true},
	{text: "okhttp", signal: Bot, start: true},
	{text: "go-http-client", signal: Bot, start: true},
	{text: "fasthttp", signal: Bot, start: true},
	{text: "libwww-perl", signal: Bot, start: true},
	{text: "lwp", signal: Bot, start: true},
	{text: "php", signal: Bot, start: true},
	{text: "guzzlehttp", signal: Bot, start: true},
	{text: "ruby", signal: Bot, start: true},
	{text: "faraday", signal: Bot, start: true},
	{text: "rest-client", signal: Bot, start: true},
	{text: "axios/", signal: Bot, start: true},
	{text: "node-fetch", signal: Bot, start: true},
	{text: "undici", signal: Bot, start: true},
	{text: "node", signal: Bot, start: true, end: true},
	{text: "got (", signal: Bot, start: true},
	{text: "bun/", signal: Bot, start: true},
	{text: "deno/", signal: Bot, start: true},
	{text: "dart/", signal: Bot, start: true},
	{text: "reqwest", signal: Bot, start: true},
	{text: "hyper/", signal: Bot, start: true},
	{text: "aiohttp", signal: Bot, start: true},
	{text: "httpie/", signal: Bot, start: true},
	{text: "apache-httpclient", signal: Bot, start: true},
	{text: "postmanruntime/", signal: Bot, start: true},
	{text: "insomnia/", signal: Bot, start: true},
	{text: "winhttp", signal: Bot, start: true},
	{text: "dalvik/", signal: Bot, start: true},
	{text: "k6/", signal: Bot, start: true},
	{text: "apachebench/", signal: Bot, start: true},
	{text: "apache-jmeter", signal: Bot, start: true},
}

var (
	mozilla = []byte("Mozilla/5.0 (")
	engines = [][]byte{[]byte("AppleWebKit/"), []byte("Gecko/"), []byte("Trident/")}
)

// isBrowser reports whether a user agent is built like that of a browser of the last fifteen years.
func isBrowser(ua []byte) bool {
	if !bytes.HasPrefix(ua, mozilla) {
		return false
	}
	for _, engine := range engines {
		if bytes.Contains(ua, engine) {
			return true
		}
	}
	return false
}

// declaresBot reports whether a word of ua ends in "bot": Examplebot/1.0, but not the phones of Cubot.
func declaresBot(ua []byte) bool {
	for i := 0; i+3 <= len(ua); i++ {
		if lower(ua[i]) != 'b' || lower(ua[i+1]) != 'o' || lower(ua[i+2]) != 't' {
			continue
		}
		if i+3 < len(ua) && isLetter(ua[i+3]) {
			continue
		}
		if i >= 2 && lower(ua[i-2]) == 'c' && lower(ua[i-1]) == 'u' {
			continue
		}
		return true
	}
	return false
}

func isLetter(c byte) bool { c = lower(c); return c >= 'a' && c <= 'z' }
