// Package botfilter tells robots and link previews from people by their user agent.
//
// Three sources together: the patterns of npm's crawler-user-agents (table.go, made by go generate), rules of our own for
// what robots call themselves and for HTTP libraries (rules.go), and the shape of the user agent. A text that looks
// like a person's browser, in-app browsers included, is matched only against patterns that are known to appear in such
// texts, because lists hold short words that are also names of phones and apps.
package botfilter

//go:generate go run ./gen
