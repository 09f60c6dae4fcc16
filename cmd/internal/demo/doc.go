// Package demo is what `waymark up --demo` shows: a program file, ninety days of history that goes through the real
// journal and topics, and a small shop that the links lead to and that reports its customers' signups and purchases.
package demo
