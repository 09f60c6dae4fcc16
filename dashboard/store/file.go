package store

import "github.com/goccy/go-yaml/ast"

// The program file as it is written. What the file leaves out has line 0 or is nil.
type (
	fileProgram struct {
		line                                 int
		key, name, state, timeZone           text
		hosts, allowed, excluded, passedOn   texts
		cookieWindow, hashWindow             text
		links, cookies                       *bool
		fallback, optOut, clickID, partnerID text
		conversionKeys                       texts
		groups                               []fileGroup
		partners                             []filePartner
	}
	fileGroup struct {
		line          int
		key, name     text
		offers        texts
		defaultsGiven bool
		defaults      []fileLink
	}
	filePartner struct {
		line                                     int
		email, name, group, key, password, state text
		apiKeys                                  texts
		links                                    []fileLink
	}
	fileLink struct {
		line                     int
		slug, destination, title text
		enabled                  *bool
	}
)

// readFile reads a program file, with everything that is wrong with its form.
func readFile(file []byte) ([]fileProgram, []LineError) {
	r := &reader{}
	root := r.parseYAML(file)
	if root == nil {
		return nil, r.errs
	}
	var programs []fileProgram
	found := false
	r.mapping(root, "the file", field{"programs", func(n ast.Node) {
		found = true
		r.each("programs", func(n ast.Node) { programs = append(programs, r.program(n)) })(n)
	}})
	if !found && len(r.errs) == 0 {
		r.fail(lineOf(root), "the file has no programs")
	}
	return programs, r.errs
}

func (r *reader) program(n ast.Node) fileProgram {
	var p fileProgram
	p.line = r.mapping(n, "a program",
		field{"key", r.text("key", &p.key)},
		field{"name", r.text("name", &p.name)},
		field{"state", r.text("state", &p.state)},
		field{"hosts", r.texts("hosts", &p.hosts)},
		field{"allowed_destinations", r.texts("allowed_destinations", &p.allowed)},
		field{"windows", func(n ast.Node) {
			r.mapping(n, "windows", field{"cookie", r.text("cookie", &p.cookieWindow)}, field{"hash", r.text("hash", &p.hashWindow)})
		}},
		field{"features", func(n ast.Node) {
			r.mapping(n, "features", field{"links", r.flag("links", &p.links)}, field{"cookies", r.flag("cookies", &p.cookies)})
		}},
		field{"fallback_url", r.text("fallback_url", &p.fallback)},
		field{"opt_out_param", r.text("opt_out_param", &p.optOut)},
		field{"click_id_param", r.text("click_id_param", &p.clickID)},
		field{"partner_param", r.text("partner_param", &p.partnerID)},
		field{"passthrough", r.texts("passthrough", &p.passedOn)},
		field{"excluded_networks", r.texts("excluded_networks", &p.excluded)},
		field{"timezone", r.text("timezone", &p.timeZone)},
		field{"conversion_keys", r.texts("conversion_keys", &p.conversionKeys)},
		field{"groups", r.each("groups", func(n ast.Node) { p.groups = append(p.groups, r.group(n)) })},
		field{"partners", r.each("partners", func(n ast.Node) { p.partners = append(p.partners, r.partner(n)) })},
	)
	return p
}

func (r *reader) group(n ast.Node) fileGroup {
	var g fileGroup
	g.line = r.mapping(n, "a group",
		field{"key", r.text("key", &g.key)},
		field{"name", r.text("name", &g.name)},
		field{"offers", r.texts("offers", &g.offers)},
		field{"default_links", func(n ast.Node) {
			g.defaultsGiven = true
			r.each("default_links", func(n ast.Node) {
				var l fileLink
				l.line = r.mapping(n, "a default link",
					field{"title", r.text("title", &l.title)}, field{"destination", r.text("destination", &l.destination)})
				g.defaults = append(g.defaults, l)
			})(n)
		}},
	)
	return g
}

func (r *reader) partner(n ast.Node) filePartner {
	var p filePartner
	p.line = r.mapping(n, "a partner",
		field{"email", r.text("email", &p.email)},
		field{"name", r.text("name", &p.name)},
		field{"group", r.text("group", &p.group)},
		field{"key", r.text("key", &p.key)},
		field{"state", r.text("state", &p.state)},
		field{"password", r.text("password", &p.password)},
		field{"api_keys", r.texts("api_keys", &p.apiKeys)},
		field{"links", r.each("links", func(n ast.Node) { p.links = append(p.links, r.link(n)) })},
	)
	return p
}

func (r *reader) link(n ast.Node) fileLink {
	var l fileLink
	l.line = r.mapping(n, "a link",
		field{"slug", r.text("slug", &l.slug)},
		field{"destination", r.text("destination", &l.destination)},
		field{"title", r.text("title", &l.title)},
		field{"enabled", r.flag("enabled", &l.enabled)},
	)
	return l
}
