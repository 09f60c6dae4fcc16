package main

import (
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"
)

// literal is one way in which a pattern can match: parts in this order, with anything between them.
type literal struct {
	parts      []string
	start, end bool
}

const (
	maxLiterals  = 64
	maxClassSize = 4
	// minPart is the least length of the longest part: the filter looks texts up by their first three bytes.
	minPart = 3
)

// The marks that an expansion holds besides bytes.
const (
	gap   = "\x00"
	begin = "\x01"
	final = "\x02"
)

// expand turns a regular expression into the texts that it looks for. What is not a plain text becomes a gap.
func expand(pattern string) ([]literal, error) {
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, err
	}
	texts, err := walk(tree)
	if err != nil {
		return nil, err
	}
	var all []literal
	for _, text := range texts {
		l := literal{start: strings.HasPrefix(text, begin), end: strings.HasSuffix(text, final)}
		text = strings.TrimSuffix(strings.TrimPrefix(text, begin), final)
		if strings.ContainsAny(text, begin+final) {
			return nil, fmt.Errorf("an anchor in the middle")
		}
		if strings.HasPrefix(text, gap) {
			l.start = false
		}
		if strings.HasSuffix(text, gap) {
			l.end = false
		}
		for part := range strings.SplitSeq(text, gap) {
			if part != "" {
				l.parts = append(l.parts, part)
			}
		}
		longest := 0
		for _, part := range l.parts {
			longest = max(longest, len(part))
		}
		if longest < minPart {
			return nil, fmt.Errorf("the text %q is shorter than %d bytes", text, minPart)
		}
		all = append(all, l)
	}
	return all, nil
}

func walk(re *syntax.Regexp) ([]string, error) {
	switch re.Op {
	case syntax.OpEmptyMatch:
		return []string{""}, nil
	case syntax.OpLiteral:
		if re.Flags&syntax.FoldCase != 0 {
			return bothCases(re.Rune), nil
		}
		return []string{string(re.Rune)}, nil
	case syntax.OpCharClass:
		return class(re.Rune), nil
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL, syntax.OpStar, syntax.OpPlus, syntax.OpRepeat:
		return []string{gap}, nil
	case syntax.OpBeginText, syntax.OpBeginLine:
		return []string{begin}, nil
	case syntax.OpEndText, syntax.OpEndLine:
		return []string{final}, nil
	case syntax.OpCapture:
		return walk(re.Sub[0])
	case syntax.OpQuest:
		texts, err := walk(re.Sub[0])
		return append(texts, ""), err
	case syntax.OpAlternate:
		var all []string
		for _, sub := range re.Sub {
			texts, err := walk(sub)
			if err != nil {
				return nil, err
			}
			all = append(all, texts...)
		}
		return all, nil
	case syntax.OpConcat:
		return concat(re.Sub)
	}
	return nil, fmt.Errorf("cannot expand %v", re)
}

// bothCases returns a text in all its spellings: what [wW] is parsed into.
func bothCases(text []rune) []string {
	all := []string{""}
	for _, r := range text {
		spellings := []string{strings.ToLower(string(r)), strings.ToUpper(string(r))}
		var next []string
		for _, head := range all {
			for _, tail := range slices.Compact(spellings) {
				next = append(next, head+tail)
			}
		}
		all = next
	}
	return all
}

func class(ranges []rune) []string {
	var all []string
	for i := 0; i < len(ranges); i += 2 {
		for r := ranges[i]; r <= ranges[i+1]; r++ {
			if len(all) == maxClassSize {
				return []string{gap}
			}
			all = append(all, string(r))
		}
	}
	return all
}

func concat(subs []*syntax.Regexp) ([]string, error) {
	all := []string{""}
	for _, sub := range subs {
		texts, err := walk(sub)
		if err != nil {
			return nil, err
		}
		var next []string
		for _, head := range all {
			for _, tail := range texts {
				next = append(next, head+tail)
			}
		}
		if all = slices.Compact(next); len(all) > maxLiterals {
			return nil, fmt.Errorf("more than %d texts", maxLiterals)
		}
	}
	return all, nil
}

// match is the plain meaning of a literal.
func (l literal) match(ua string) bool {
	if l.start && !strings.HasPrefix(ua, l.parts[0]) || l.end && !strings.HasSuffix(ua, l.parts[len(l.parts)-1]) {
		return false
	}
	for _, part := range l.parts {
		i := strings.Index(ua, part)
		if i < 0 {
			return false
		}
		ua = ua[i+len(part):]
	}
	return true
}
