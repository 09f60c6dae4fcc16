package botfilter

// Signal is a set of what a user agent gives away.
type Signal uint8

// The signals. A user agent may give several.
const (
	// Bot is a robot, a monitor or an HTTP library.
	Bot Signal = 1 << iota
	// Preview is a program that fetches a link to show what is behind it.
	Preview
)

// maxUserAgent bounds, in bytes, how much of a user agent is looked at.
const maxUserAgent = 512

// Filter is a set of rules in force. It is immutable and safe for concurrent use.
type Filter struct{ list, own *index }

// New returns the filter of the rules that the program ships with.
func New() *Filter { return &Filter{list: newIndex(table, false), own: newIndex(ownRules, true)} }

// Match returns the signals of a user agent, 0 for a person. It does not allocate.
func (f *Filter) Match(ua []byte) Signal {
	ua = ua[:min(len(ua), maxUserAgent)]
	shape := f.own.match(ua, false)
	browser := isBrowser(ua) && shape&robotShape == 0
	found := shape & (Bot | Preview)
	found |= f.list.match(ua, browser)
	if !browser && declaresBot(ua) {
		found |= Bot
	}
	return found
}
