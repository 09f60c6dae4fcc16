package store

import (
	"time"

	"waymark/schema"
)

// MaxCustomLinks is how many custom links a partnership may have, disabled ones included.
const MaxCustomLinks = 50

// MaxDefaultLinks is how many default links a group may have.
const MaxDefaultLinks = 3

// MaxTitle is the number of characters that a link's title may have.
const MaxTitle = 120

// Program is a company's partner program.
type Program struct {
	ID    uint64
	Key   string
	Name  string
	State schema.State
	// LinksEnabled says whether its partners have links at all.
	LinksEnabled bool
	// Hosts in their normal form. New links are made on the first one.
	Hosts []string
	// AllowedDestinations are rules as schema.ParseDestinationRule reads them.
	AllowedDestinations []string
	FallbackURL         string
	ClickIDParam        string
	PartnerParam        string
	// Windows in which a visitor counts once; 0 = for ever.
	CookieWindow     time.Duration
	HashWindow       time.Duration
	CookiesDisabled  bool
	ExcludedNetworks []string
	OptOutParam      string
	Passthrough      []string
	// TimeZone is a name of the IANA database.
	TimeZone string
}

// Partner is a person or team that promotes programs. The password hash is "" for one who has none.
type Partner struct {
	ID           uint64
	Email        string
	Name         string
	PasswordHash string
}

// Partnership is one partner in one program, with what its group offers.
type Partnership struct {
	ID        uint64
	ProgramID uint64
	PartnerID uint64
	// Key is the partner key: the slug of the first default link.
	Key       string
	State     schema.State
	GroupKey  string
	GroupName string
	Offers    []string
}

// Member is a partnership with its program.
type Member struct {
	Program     Program
	Partnership Partnership
}

// Link is a short link. Its address is https://Host/Slug.
type Link struct {
	ID            uint64
	PartnershipID uint64
	Kind          schema.LinkKind
	Host          string
	Slug          string
	Destination   string
	Title         string
	Enabled       bool
	CreatedAt     time.Time
	// Version grows with every change.
	Version uint64
}

// NewLink is what a partner says about a custom link.
type NewLink struct {
	Slug        string
	Destination string
	Title       string
}

// LinkChange changes what is not nil.
type LinkChange struct {
	Enabled *bool
	Title   *string
}
