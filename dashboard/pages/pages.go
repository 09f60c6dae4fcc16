package pages

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"strings"
)

//go:embed templates/*.html
var templates embed.FS

// Pages holds the parsed templates. It is immutable and safe for concurrent use.
type Pages struct {
	assets *Assets
	sets   map[string]*template.Template
}

// New parses the templates. Its error is a bug of this package.
func New() (*Pages, error) {
	assets, err := loadAssets()
	if err != nil {
		return nil, err
	}
	p := &Pages{assets: assets, sets: map[string]*template.Template{}}
	base, err := template.New("").Funcs(functions(assets)).ParseFS(templates, "templates/base.html", "templates/icons.html")
	if err != nil {
		return nil, fmt.Errorf("cannot parse the pages' frame: %w", err)
	}
	for _, name := range []string{"signin", "home", "summary", "links", "error", "standing"} {
		set, err := template.Must(base.Clone()).ParseFS(templates, "templates/"+name+".html")
		if err != nil {
			return nil, fmt.Errorf("cannot parse page %s: %w", name, err)
		}
		p.sets[name] = set
	}
	return p, nil
}

// Assets returns the files that the pages refer to.
func (p *Pages) Assets() *Assets { return p.assets }

// Render writes a page: a SignIn, Home, Summary, Links or Error. Nothing is written when it fails.
func (p *Pages) Render(w io.Writer, view any) error { return p.render(w, view, "base") }

// RenderLive writes what of a Home, Summary or Links page changes while it is open, or the Standing alone, as a fragment of
// elements whose ids are those of the page.
func (p *Pages) RenderLive(w io.Writer, view any) error { return p.render(w, view, "live") }

func (p *Pages) render(w io.Writer, view any, block string) error {
	var name string
	switch view.(type) {
	case *SignIn:
		name = "signin"
	case *Home:
		name = "home"
	case *Summary:
		name = "summary"
	case *Links:
		name = "links"
	case *Error:
		name = "error"
	case *Standing:
		name = "standing"
	default:
		panic(fmt.Sprintf("BUG: no page for %T", view))
	}
	var b bytes.Buffer
	if err := p.sets[name].ExecuteTemplate(&b, block, view); err != nil {
		return fmt.Errorf("cannot draw page %s: %w", name, err)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// Policy is the content security policy that every page fits: nothing but our own files, nothing inline.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func names(fsys fs.FS) []string {
	var all []string
	_ = fs.WalkDir(fsys, ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasSuffix(path, ".LICENSE.txt") {
			all = append(all, path)
		}
		return err
	})
	return all
}
