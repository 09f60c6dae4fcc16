package geo

import (
	"bytes"

	"waymark/schema"
)

// Agent is what a user agent says about its device.
type Agent struct {
	Device  schema.DeviceClass
	Browser schema.Browser
	OS      schema.OperatingSystem
}

// maxUserAgent bounds, in bytes, how much of a user agent is looked at.
const maxUserAgent = schema.MaxUserAgent

// ParseAgent reads a user agent. It does not allocate. Whether it is a robot is not asked here.
func ParseAgent(ua []byte) Agent {
	ua = ua[:min(len(ua), maxUserAgent)]
	a := Agent{OS: system(ua), Browser: browser(ua)}
	a.Device = device(ua, a.OS)
	return a
}

type mark[T any] struct {
	text  string
	value T
}

func first[T any](ua []byte, marks []mark[T]) (value T, ok bool) {
	for _, m := range marks {
		if has(ua, m.text) {
			return m.value, true
		}
	}
	return value, false
}

func has(ua []byte, text string) bool { return bytes.Contains(ua, []byte(text)) }

var systems = []mark[schema.OperatingSystem]{
	{"Android", schema.OperatingSystem_OS_ANDROID},
	{"iPhone", schema.OperatingSystem_OS_IOS},
	{"iPad", schema.OperatingSystem_OS_IOS},
	{"iPod", schema.OperatingSystem_OS_IOS},
	{"Windows", schema.OperatingSystem_OS_WINDOWS},
	{"CrOS", schema.OperatingSystem_OS_CHROMEOS},
	{"Macintosh", schema.OperatingSystem_OS_MACOS},
	{"Mac OS X", schema.OperatingSystem_OS_MACOS},
	{"PlayStation", schema.OperatingSystem_OS_OTHER},
	{"Nintendo", schema.OperatingSystem_OS_OTHER},
	{"Tizen", schema.OperatingSystem_OS_OTHER},
	{"Web0S", schema.OperatingSystem_OS_OTHER},
	{"KAIOS", schema.OperatingSystem_OS_OTHER},
	{"Linux", schema.OperatingSystem_OS_LINUX},
	{"X11", schema.OperatingSystem_OS_LINUX},
	{"BSD", schema.OperatingSystem_OS_OTHER},
}

func system(ua []byte) schema.OperatingSystem {
	os, _ := first(ua, systems)
	return os
}

// browsers are asked in this order, because most name the ones that they descend from.
var browsers = []mark[schema.Browser]{
	{"FBAN/", schema.Browser_BROWSER_IN_APP},
	{"FBAV/", schema.Browser_BROWSER_IN_APP},
	{"FB_IAB", schema.Browser_BROWSER_IN_APP},
	{"MetaIAB", schema.Browser_BROWSER_IN_APP},
	{"Instagram", schema.Browser_BROWSER_IN_APP},
	{"BytedanceWebview", schema.Browser_BROWSER_IN_APP},
	{"Snapchat", schema.Browser_BROWSER_IN_APP},
	{"LinkedInApp", schema.Browser_BROWSER_IN_APP},
	{"Pinterest/", schema.Browser_BROWSER_IN_APP},
	{"Twitter for", schema.Browser_BROWSER_IN_APP},
	{" Line/", schema.Browser_BROWSER_IN_APP},
	{"MicroMessenger", schema.Browser_BROWSER_IN_APP},
	{"KAKAOTALK", schema.Browser_BROWSER_IN_APP},
	{"WhatsApp/", schema.Browser_BROWSER_IN_APP},
	{" GSA/", schema.Browser_BROWSER_IN_APP},
	{"; wv)", schema.Browser_BROWSER_IN_APP},
	{"SamsungBrowser/", schema.Browser_BROWSER_SAMSUNG},
	{"Edg", schema.Browser_BROWSER_EDGE},
	{"OPR/", schema.Browser_BROWSER_OPERA},
	{"OPT/", schema.Browser_BROWSER_OPERA},
	{"Opera", schema.Browser_BROWSER_OPERA},
	{"YaBrowser/", schema.Browser_BROWSER_OTHER},
	{"UCBrowser/", schema.Browser_BROWSER_OTHER},
	{"MiuiBrowser/", schema.Browser_BROWSER_OTHER},
	{"Vivaldi/", schema.Browser_BROWSER_OTHER},
	{"DuckDuckGo/", schema.Browser_BROWSER_OTHER},
	{"Silk/", schema.Browser_BROWSER_OTHER},
	{"Epiphany/", schema.Browser_BROWSER_OTHER},
	{"Falkon/", schema.Browser_BROWSER_OTHER},
	{"Electron/", schema.Browser_BROWSER_OTHER},
	{"Firefox/", schema.Browser_BROWSER_FIREFOX},
	{"FxiOS/", schema.Browser_BROWSER_FIREFOX},
	{"CriOS/", schema.Browser_BROWSER_CHROME},
	{"Chrome/", schema.Browser_BROWSER_CHROME},
	{"Chromium/", schema.Browser_BROWSER_CHROME},
	{"Trident/", schema.Browser_BROWSER_OTHER},
	{"Safari/", schema.Browser_BROWSER_SAFARI},
	{"Mozilla/", schema.Browser_BROWSER_OTHER},
}

func browser(ua []byte) schema.Browser {
	b, _ := first(ua, browsers)
	return b
}

var devices = []mark[schema.DeviceClass]{
	{"PlayStation", schema.DeviceClass_DEVICE_CONSOLE},
	{"Nintendo", schema.DeviceClass_DEVICE_CONSOLE},
	{"Xbox", schema.DeviceClass_DEVICE_CONSOLE},
	{"SMART-TV", schema.DeviceClass_DEVICE_TV},
	{"SmartTV", schema.DeviceClass_DEVICE_TV},
	{"SMARTTV", schema.DeviceClass_DEVICE_TV},
	{"AppleTV", schema.DeviceClass_DEVICE_TV},
	{"Apple TV", schema.DeviceClass_DEVICE_TV},
	{"GoogleTV", schema.DeviceClass_DEVICE_TV},
	{"Android TV", schema.DeviceClass_DEVICE_TV},
	{"BRAVIA", schema.DeviceClass_DEVICE_TV},
	{"AFTT", schema.DeviceClass_DEVICE_TV},
	{"iPad", schema.DeviceClass_DEVICE_TABLET},
	{"Tablet", schema.DeviceClass_DEVICE_TABLET},
	{"iPhone", schema.DeviceClass_DEVICE_PHONE},
	{"iPod", schema.DeviceClass_DEVICE_PHONE},
	{"Mobi", schema.DeviceClass_DEVICE_PHONE},
	{"MIDP", schema.DeviceClass_DEVICE_PHONE},
	{"Opera Mini", schema.DeviceClass_DEVICE_PHONE},
}

func device(ua []byte, os schema.OperatingSystem) schema.DeviceClass {
	if d, ok := first(ua, devices); ok {
		return d
	}
	switch os {
	case schema.OperatingSystem_OS_ANDROID: // phones say Mobile, tablets do not
		return schema.DeviceClass_DEVICE_TABLET
	case schema.OperatingSystem_OS_WINDOWS, schema.OperatingSystem_OS_MACOS, schema.OperatingSystem_OS_LINUX, schema.OperatingSystem_OS_CHROMEOS:
		return schema.DeviceClass_DEVICE_DESKTOP
	}
	return schema.DeviceClass_DEVICE_UNKNOWN
}
