// Package auth proves who somebody is: password hashes, session tokens, API keys and the limits on guessing. It stores
// nothing and knows no request.
package auth
