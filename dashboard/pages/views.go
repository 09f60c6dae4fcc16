package pages

import "time"

// Chrome is what surrounds every page.
type Chrome struct {
	Title string
	// Theme is "light", "dark", or "" to follow the system.
	Theme string
	// Path is where the page was asked for, to come back to after a form that is not about it.
	Path string
	// Account is who is signed in; nil: nobody.
	Account *Account
	// Programs fill the switcher. Current is the key of the one that is shown, or "".
	Programs []ProgramRef
	Current  string
	// Tabs of the current program.
	Tabs []Tab
	// Live is the address of the page's event stream, or "".
	Live string
	// Flash says that something worked.
	Flash string
}

// Account is the signed-in partner.
type Account struct{ Name, Email string }

// ProgramRef names a program in the switcher.
type ProgramRef struct{ Key, Name string }

// Tab is an entry of a program's navigation.
type Tab struct {
	Label, Href string
	Current     bool
}

// Figure is one of the numbers of a summary.
type Figure struct {
	// ID is unique on the page.
	ID, Label, Meaning string
	// Values are shown one below the other, one per currency for money. Without any, the figure is a dash with Why.
	Values []string
	Why    string
	// Notes stand under the value: how the number is made up.
	Notes []string
}

// AsOf says up to when the numbers are complete.
type AsOf struct {
	// Time is zero while that is not known.
	Time time.Time
	// Problem says, in a sentence, why the time stands still; "" while all is well.
	Problem string
	// Down means that the numbers could not be read just now and are the last known ones, or none.
	Down bool
}

// Reason is one line of the split of gross clicks.
type Reason struct {
	Label, Meaning string
	Count          uint64
}

// Split is how gross clicks are made up.
type Split struct {
	Gross, Unique, Repeat, Invalid uint64
	Reasons                        []Reason
}

// Activity is one line of the latest events.
type Activity struct {
	Time time.Time
	// Kind is click, signup, sale or refund.
	Kind string
	// Tone is good, muted or warn.
	Label, Tone string
	// What it was about (a link's title, an amount), and from where.
	Subject, Detail string
}

// Day is one day of the chart.
type Day struct {
	Date          time.Time
	Unique, Gross uint64
}

// Link is a link as its owner sees it.
type Link struct {
	ID, URL, Title, Destination string
	Default                     bool
	Enabled                     bool
	// Why says why a link that the partner has not switched off does not count, or "".
	Why string
	// Counts are "" while they are not known.
	Unique, Gross string
}

// SignIn is the sign-in page.
type SignIn struct {
	Chrome
	Email, Error string
	// Next is the path to go to afterwards.
	Next string
}

// Home shows all programs of a partner.
type Home struct {
	Chrome
	AsOf     AsOf
	Zone     *time.Location
	Totals   []Figure
	Programs []HomeProgram
}

// HomeProgram is one program on Home.
type HomeProgram struct {
	Key, Name string
	// Off says why the program counts nothing now, or "".
	Off     string
	Figures []Figure
}

// Summary is the first page of a program.
type Summary struct {
	Chrome
	Name    string
	AsOf    AsOf
	Zone    *time.Location
	Figures []Figure
	Offers  []string
	// LinksOn says whether the program has links at all; the four below it are shown only then.
	LinksOn bool
	Split   Split
	Links   []Link
	Days    []Day
	Recent  []Activity
	// Off says why the program counts nothing now, or "".
	Off string
}

// Links is the page of a program's links.
type Links struct {
	Chrome
	Name   string
	AsOf   AsOf
	Zone   *time.Location
	Links  []Link
	Custom int
	Max    int
	// Prefix is what a new slug is appended to.
	Prefix  string
	Allowed []string
	Form    LinkForm
	Off     string
}

// LinkForm is what a partner wrote, and what was wrong with it, at the field that was wrong.
type LinkForm struct {
	Title, Slug, Destination                     string
	TitleError, SlugError, DestinationError, Err string
}

// Failed reports whether anything was wrong.
func (f LinkForm) Failed() bool {
	return f.TitleError+f.SlugError+f.DestinationError+f.Err != ""
}

// Standing is the part of every live page that says up to when its numbers are complete. It is no page of its own.
type Standing struct {
	AsOf AsOf
	Zone *time.Location
}

// Error is any page that could not be shown.
type Error struct {
	Chrome
	Status        int
	Heading, Text string
}
