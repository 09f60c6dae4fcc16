//go:build !linux

package generator

import (
	"errors"
	"net"
)

func newLoop(*Config, int, *net.TCPAddr, *collector) (worker, error) {
	return nil, errors.New("the event loop needs Linux")
}
