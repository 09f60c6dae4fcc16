package pages

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
)

//go:embed assets
var assetFiles embed.FS

// AssetPrefix is where [Assets] is mounted.
const AssetPrefix = "/assets/"

// Assets serves the stylesheet, scripts, fonts and icon, each under an address that changes with its content, to be kept
// for ever by browsers. It is immutable and safe for concurrent use.
type Assets struct {
	files map[string]*file
}

type file struct {
	hash, kind    string
	plain, packed []byte
}

var kinds = map[string]string{
	".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml", ".woff2": "font/woff2",
}

func loadAssets() (*Assets, error) {
	root, err := fs.Sub(assetFiles, "assets")
	if err != nil {
		return nil, fmt.Errorf("cannot open assets: %w", err)
	}
	a := &Assets{files: map[string]*file{}}
	for _, name := range names(root) {
		data, err := fs.ReadFile(root, name)
		if err != nil {
			return nil, fmt.Errorf("cannot read asset %s: %w", name, err)
		}
		f := &file{plain: data, kind: kinds[path.Ext(name)]}
		if f.kind == "" {
			return nil, fmt.Errorf("cannot serve asset %s: its type is not known", name)
		}
		if ext := path.Ext(name); ext != ".woff2" && ext != ".css" {
			if f.packed, err = pack(data); err != nil {
				return nil, fmt.Errorf("cannot compress asset %s: %w", name, err)
			}
		}
		a.files[name] = f
	}
	for name, f := range a.files {
		if path.Ext(name) != ".css" {
			f.hash = hashOf(f.plain)
		}
	}
	// Stylesheets name fonts, whose addresses must be known before their own hash is.
	for name, f := range a.files {
		if path.Ext(name) != ".css" {
			continue
		}
		f.plain = a.resolve(f.plain)
		f.hash = hashOf(f.plain)
		if f.packed, err = pack(f.plain); err != nil {
			return nil, fmt.Errorf("cannot compress asset %s: %w", name, err)
		}
	}
	return a, nil
}

// resolve replaces url(asset:name) by the asset's address.
func (a *Assets) resolve(css []byte) []byte {
	for name := range a.files {
		if path.Ext(name) != ".css" {
			css = bytes.ReplaceAll(css, []byte("url(asset:"+name+")"), []byte("url("+a.URL(name)+")"))
		}
	}
	return css
}

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:6])
}

func pack(data []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// URL returns the address of an asset. It panics on a name that does not exist: templates are ours.
func (a *Assets) URL(name string) string {
	f := a.files[name]
	if f == nil {
		panic("BUG: no asset " + name)
	}
	return AssetPrefix + f.hash + "/" + name
}

// ServeHTTP answers GET and HEAD below [AssetPrefix].
func (a *Assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	hash, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, AssetPrefix), "/")
	f := a.files[name]
	if f == nil {
		http.Error(w, "no such file", http.StatusNotFound)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-cache")
	if hash == f.hash {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	body := f.plain
	if f.packed != nil && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.packed
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}
