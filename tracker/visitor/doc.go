// Package visitor answers who is behind a request: the client's address behind trusted proxies, the keyed hash that
// recognises a visitor without a cookie, and the signed first-party cookie that recognises one with it.
//
// The id that a cookie carries is the hash of the request that minted it, so a visitor keeps one id, and one
// partition, whether the cookie comes back or not. Nothing here keeps or prints an address.
package visitor
