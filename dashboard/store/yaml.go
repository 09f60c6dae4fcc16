package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// text is a value of the file and the line it stands in; line 0 = the file does not say.
type text struct {
	value string
	line  int
}

func (t text) given() bool { return t.line > 0 }

// or returns the value, or another one when the file does not say.
func (t text) or(other string) string {
	if t.given() {
		return t.value
	}
	return other
}

// reader walks the tree of a YAML file, and gathers everything that is wrong with it.
type reader struct{ errs []LineError }

func (r *reader) fail(line int, format string, args ...any) {
	r.errs = append(r.errs, LineError{line, fmt.Sprintf(format, args...)})
}

// parseYAML returns the root of the file's only document, or nil when there is none or it is wrong.
func (r *reader) parseYAML(file []byte) ast.Node {
	f, err := parser.ParseBytes(file, 0)
	if err != nil {
		var syntax *yaml.SyntaxError
		if errors.As(err, &syntax) && syntax.Token != nil {
			r.fail(syntax.Token.Position.Line, "%s", syntax.Message)
		} else {
			r.fail(0, "%v", err)
		}
		return nil
	}
	var root ast.Node
	for _, d := range f.Docs {
		if d.Body == nil || d.Body.Type() == ast.NullType || d.Body.Type() == ast.CommentType {
			continue
		}
		if root != nil {
			r.fail(lineOf(d.Body), "the file holds more than one document")
			return nil
		}
		root = d.Body
	}
	if root == nil {
		r.fail(0, "the file is empty")
	}
	return root
}

func lineOf(n ast.Node) int {
	if m, ok := n.(*ast.MappingNode); ok && len(m.Values) > 0 {
		return lineOf(m.Values[0])
	}
	if m, ok := n.(*ast.MappingValueNode); ok {
		return m.Key.GetToken().Position.Line
	}
	if t := n.GetToken(); t != nil {
		return t.Position.Line
	}
	return 0
}

// field reads one key of a mapping.
type field struct {
	key  string
	read func(ast.Node)
}

// mapping reads a mapping by its fields, names unknown keys, and returns its line; 0 when it is none.
func (r *reader) mapping(n ast.Node, what string, fields ...field) int {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		r.fail(lineOf(n), "%s must be a mapping of keys to values", what)
		return 0
	}
	for _, v := range values {
		key := v.Key.GetToken().Value
		i := slices.IndexFunc(fields, func(f field) bool { return f.key == key })
		if i < 0 {
			r.fail(lineOf(v), "unknown key %q in %s; known are %s", key, what, fieldNames(fields))
			continue
		}
		if v.Value == nil || v.Value.Type() == ast.NullType {
			r.fail(lineOf(v), "%q has no value; leave the key out, or write \"\" or []", key)
			continue
		}
		fields[i].read(v.Value)
	}
	return lineOf(n)
}

func fieldNames(fields []field) string {
	var names []string
	for _, f := range fields {
		names = append(names, f.key)
	}
	return strings.Join(names, ", ")
}

// each calls read for each item of a list.
func (r *reader) each(what string, read func(ast.Node)) func(ast.Node) {
	return func(n ast.Node) {
		list, ok := n.(*ast.SequenceNode)
		if !ok {
			r.fail(lineOf(n), "%s must be a list", what)
			return
		}
		for _, item := range list.Values {
			read(item)
		}
	}
}

// text reads one value of text.
func (r *reader) text(what string, to *text) func(ast.Node) {
	return func(n ast.Node) {
		switch n := n.(type) {
		case *ast.StringNode:
			*to = text{n.Value, lineOf(n)}
		case *ast.LiteralNode:
			*to = text{strings.TrimSuffix(n.Value.Value, "\n"), lineOf(n)}
		default:
			r.fail(lineOf(n), "%s must be text; put it in quotes", what)
		}
	}
}

// texts reads a list of text. given is set also by an empty list.
func (r *reader) texts(what string, to *texts) func(ast.Node) {
	return func(n ast.Node) {
		to.given, to.line = true, lineOf(n)
		r.each(what, func(item ast.Node) {
			var t text
			r.text("each of "+what, &t)(item)
			if t.given() {
				to.items = append(to.items, t)
			}
		})(n)
	}
}

// texts is a list of text.
type texts struct {
	items []text
	given bool
	line  int
}

func (t texts) values() []string {
	var all []string
	for _, i := range t.items {
		all = append(all, i.value)
	}
	return all
}

// flag reads on or off.
func (r *reader) flag(what string, to **bool) func(ast.Node) {
	return func(n ast.Node) {
		on := false
		switch n := n.(type) {
		case *ast.BoolNode:
			on = n.Value
		case *ast.StringNode:
			on = n.Value == "on"
			if !on && n.Value != "off" {
				r.fail(lineOf(n), "%s must be on or off, not %q", what, n.Value)
				return
			}
		default:
			r.fail(lineOf(n), "%s must be on or off", what)
			return
		}
		*to = &on
	}
}
