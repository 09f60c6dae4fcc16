//go:build !linux

package generator

import "time"

func sleep(d time.Duration) { time.Sleep(d) }

func resetOnClose(uintptr) error { return nil }
