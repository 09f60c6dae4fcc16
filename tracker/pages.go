package tracker

import _ "embed"

//go:embed pages/notfound.html
var notFoundPage []byte

//go:embed pages/gone.html
var gonePage []byte
