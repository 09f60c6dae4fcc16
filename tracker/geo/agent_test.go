package geo

import (
	"testing"

	"waymark/schema"
)

func TestParseAgent(t *testing.T) {
	const (
		chrome, safari, firefox, edge = schema.Browser_BROWSER_CHROME, schema.Browser_BROWSER_SAFARI, schema.Browser_BROWSER_FIREFOX, schema.Browser_BROWSER_EDGE
		inApp, other                  = schema.Browser_BROWSER_IN_APP, schema.Browser_BROWSER_OTHER
		desktop, phone, tablet        = schema.DeviceClass_DEVICE_DESKTOP, schema.DeviceClass_DEVICE_PHONE, schema.DeviceClass_DEVICE_TABLET
	)
	f := func(ua string, device schema.DeviceClass, browser schema.Browser, os schema.OperatingSystem) {
		t.Helper()
		if got, want := ParseAgent([]byte(ua)), (Agent{device, browser, os}); got != want {
			t.Errorf("ParseAgent(%q) = %v, want %v", ua, got, want)
		}
	}
	f("", 0, 0, 0)
	f("curl/8.9.1", 0, 0, 0)
	f("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36", desktop, chrome, schema.OperatingSystem_OS_WINDOWS)
	f("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0", desktop, edge, schema.OperatingSystem_OS_WINDOWS)
	f("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15", desktop, safari, schema.OperatingSystem_OS_MACOS)
	f("Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0", desktop, firefox, schema.OperatingSystem_OS_LINUX)
	f("Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36", desktop, chrome, schema.OperatingSystem_OS_CHROMEOS)
	f("Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1", phone, safari, schema.OperatingSystem_OS_IOS)
	f("Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/142.0.0.0 Mobile/15E148 Safari/604.1", phone, chrome, schema.OperatingSystem_OS_IOS)
	f("Mozilla/5.0 (iPad; CPU OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1", tablet, safari, schema.OperatingSystem_OS_IOS)
	f("Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36", phone, chrome, schema.OperatingSystem_OS_ANDROID)
	f("Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36", tablet, chrome, schema.OperatingSystem_OS_ANDROID)
	f("Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36", phone, schema.Browser_BROWSER_SAMSUNG, schema.OperatingSystem_OS_ANDROID)
	f("Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148 [FBAN/FBIOS;FBAV/530.0.0.0;FBDV/iPhone16,1]", phone, inApp, schema.OperatingSystem_OS_IOS)
	f("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36 OPR/126.0.0.0", desktop, schema.Browser_BROWSER_OPERA, schema.OperatingSystem_OS_WINDOWS)
	f("Mozilla/5.0 (SMART-TV; Linux; Tizen 7.0) AppleWebKit/537.36 (KHTML, like Gecko) Version/6.0 TV Safari/537.36", schema.DeviceClass_DEVICE_TV, safari, schema.OperatingSystem_OS_OTHER)
	f("Mozilla/5.0 (PlayStation; PlayStation 5/9.00) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.0 Safari/605.1.15", schema.DeviceClass_DEVICE_CONSOLE, safari, schema.OperatingSystem_OS_OTHER)
	f("Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko", desktop, other, schema.OperatingSystem_OS_WINDOWS)
}

func FuzzParseAgent(f *testing.F) {
	f.Add([]byte("Mozilla/5.0 (X11; Linux x86_64; rv:144.0) Gecko/20100101 Firefox/144.0"))
	f.Fuzz(func(t *testing.T, ua []byte) {
		a := ParseAgent(ua)
		if schema.DeviceClass_name[int32(a.Device)] == "" || schema.Browser_name[int32(a.Browser)] == "" || schema.OperatingSystem_name[int32(a.OS)] == "" {
			t.Errorf("ParseAgent(%q) = %v, which the schema does not know", ua, a)
		}
	})
}

func BenchmarkParseAgent(b *testing.B) {
	ua := []byte("Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36")
	b.ReportAllocs()
	for b.Loop() {
		ParseAgent(ua)
	}
}
