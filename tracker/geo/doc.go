// Package geo reads what a request says about where it comes from and on what: the country of its address, by an
// optional MMDB file, and class of device, browser and operating system, by its user agent. All of them are small
// closed sets; what is not recognised is unknown or other, never a client's own word.
package geo
