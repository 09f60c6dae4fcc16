package demo

import (
	"bytes"
	_ "embed"
	"text/template"
)

//go:embed program.yaml
var programYAML string

// The demo's sign-in and keys. They are public, which is why the demo listens on loopback by default.
const (
	Program        = "summit"
	Email          = "partner@demo.example"
	Password       = "summit-demo"
	PartnerAPIKey  = "wmp_demo_4f1c2a77e0b94d58"
	ConversionsKey = "wmc_demo_9b27d0c6a1e34f80"
	harborKey      = "wmc_demo_harbor_52d8f3be71"
)

// The slugs of the two links that the demo prints: a default and a custom one of the same partner.
const (
	DefaultSlug = "trailhead"
	CustomSlug  = "spring-guide"
	Host        = "localhost"
)

// File returns the demo's program file for a shop at the given base URL.
func File(shop string) []byte {
	var b bytes.Buffer
	err := template.Must(template.New("program.yaml").Parse(programYAML)).Execute(&b, map[string]string{
		"Shop": shop, "Email": Email, "Password": Password, "PartnerKey": PartnerAPIKey, "SummitKey": ConversionsKey, "HarborKey": harborKey,
	})
	if err != nil {
		panic("BUG: the demo's program file is no template: " + err.Error())
	}
	return b.Bytes()
}
