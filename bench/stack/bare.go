package stack

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/valyala/fasthttp"
)

// Bare is the least that answers a click: fasthttp, one lookup by host and slug, one 302. It counts nothing and writes
// nothing, so it is what Waymark is measured against.
type Bare struct {
	server  fasthttp.Server
	targets map[string][]byte
}

// NewBare returns a server that redirects the slugs of a host to a destination each.
func NewBare(host string, slugs []string, destination func(slug string) string) *Bare {
	b := &Bare{targets: make(map[string][]byte, len(slugs))}
	for _, slug := range slugs {
		b.targets[host+"/"+slug] = []byte(destination(slug))
	}
	b.server = fasthttp.Server{
		Handler: b.handle, Name: "bare", NoDefaultServerHeader: true, NoDefaultDate: false,
		ReadBufferSize: 16 << 10, ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: time.Minute, NoDefaultContentType: true,
	}
	return b
}

func (b *Bare) handle(ctx *fasthttp.RequestCtx) {
	var memory [512]byte
	key := append(memory[:0], ctx.Host()...)
	key = append(key, ctx.Path()...)
	to, ok := b.targets[string(key)]
	if !ok {
		ctx.SetStatusCode(fasthttp.StatusNotFound)
		return
	}
	header := &ctx.Response.Header
	header.SetBytesV("Location", to)
	header.Set("Cache-Control", "private, no-store")
	ctx.SetStatusCode(fasthttp.StatusFound)
}

// Serve answers on a listener until the context ends.
func (b *Bare) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = b.server.Shutdown() })
	defer stop()
	if err := b.server.Serve(l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("cannot serve on %s: %w", l.Addr(), err)
	}
	return nil
}
