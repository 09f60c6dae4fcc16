// Package settings reads a process's settings from flags, the environment and a YAML file, in this order of
// precedence. Every setting is declared once, as a field of a kong command.
package settings

import (
	"fmt"
	"io"
	"os"

	"github.com/alecthomas/kong"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// EnvPrefix is put before the names of environment variables: --tracker-listen is WAYMARK_TRACKER_LISTEN.
const EnvPrefix = "WAYMARK"

// Options returns the kong options that all commands share.
func Options(description string) []kong.Option {
	return []kong.Option{
		kong.Name("waymark"),
		kong.Description(description),
		kong.DefaultEnvars(EnvPrefix),
		kong.Configuration(loadYAML),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 120}),
	}
}

type resolver struct {
	file   string
	values map[string]any
	lines  map[string]int
}

func loadYAML(r io.Reader) (kong.Resolver, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	c := &resolver{file: "--config", values: map[string]any{}, lines: map[string]int{}}
	if f, ok := r.(*os.File); ok {
		c.file = f.Name()
	}
	parsed, err := parser.ParseBytes(b, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %s", c.file, yaml.FormatError(err, false, false))
	}
	for _, doc := range parsed.Docs {
		if doc.Body == nil {
			continue
		}
		m, ok := doc.Body.(ast.MapNode)
		if !ok {
			return nil, fmt.Errorf("%s: line %d: want \"setting: value\" lines", c.file, doc.Body.GetToken().Position.Line)
		}
		for it := m.MapRange(); it.Next(); {
			key := it.Key().String()
			c.lines[key] = it.Key().GetToken().Position.Line
			var v any
			if err := yaml.NodeToValue(it.Value(), &v); err != nil {
				return nil, fmt.Errorf("%s: line %d: %w", c.file, c.lines[key], err)
			}
			c.values[key] = v
		}
	}
	return c, nil
}

// Validate refuses settings that no command has.
func (c *resolver) Validate(app *kong.Application) error {
	known := map[string]bool{}
	err := kong.Visit(app, func(node kong.Visitable, next kong.Next) error {
		if f, ok := node.(*kong.Flag); ok {
			known[f.Name] = true
		}
		return next(nil)
	})
	if err != nil {
		return err
	}
	for key, line := range c.lines {
		if !known[key] || key == "config" || key == "help" {
			return fmt.Errorf("%s: line %d: unknown setting %q", c.file, line, key)
		}
	}
	return nil
}

// Resolve returns the file's value of a flag, nil if it has none.
func (c *resolver) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	v, ok := c.values[flag.Name]
	if !ok || v == nil {
		return nil, nil
	}
	switch v := v.(type) {
	case []any:
		return v, nil
	default:
		return fmt.Sprint(v), nil
	}
}
