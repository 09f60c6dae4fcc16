package tracker

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/valyala/fasthttp"
)

// realDisk puts the edge on the machine's own disk.
func realDisk(b *testing.B, durability string) func(*Config) {
	return func(c *Config) {
		c.FS, c.Dir, c.Durability, c.JournalSegment = vfs.Default, b.TempDir(), durability, 64<<20
	}
}

// BenchmarkClickHandler is the handler alone, without a socket: visitors who come back, robots, new visitors.
func BenchmarkClickHandler(b *testing.B) {
	run := func(name, agent string, fresh bool) {
		b.Run(name, func(b *testing.B) {
			e := startEdge(b, realDisk(b, "write"))
			var n atomic.Uint32
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				ctx := &fasthttp.RequestCtx{}
				ctx.Init2(fakeConn{}, quietLogger{quiet()}, false)
				ctx.Request.SetRequestURI("/spring?sid=a")
				ctx.Request.Header.SetHost(testHost)
				ctx.Request.Header.SetUserAgent(agent)
				ctx.Request.Header.Set("Accept-Language", "de-DE,de;q=0.9")
				address := make([]byte, 0, 32)
				for pb.Next() {
					if fresh {
						i := n.Add(1)
						address = fmt.Appendf(address[:0], "10.%d.%d.%d", byte(i>>16), byte(i>>8), byte(i))
						ctx.Request.Header.SetBytesV("X-Forwarded-For", address)
					}
					ctx.Response.Reset()
					e.handle(ctx)
				}
			})
		})
	}
	run("repeat", person, false)
	run("robot", "curl/8.9.1", false)
	run("unique", person, true)
}

// BenchmarkClickServer goes over real connections, 64 per core, beside a bare server that looks up nothing and writes
// nothing.
func BenchmarkClickServer(b *testing.B) {
	for _, durability := range []string{"write", "sync"} {
		b.Run(durability, func(b *testing.B) {
			e := startEdge(b, realDisk(b, durability))
			load(b, e.Addr().String())
		})
	}
	b.Run("bare", func(b *testing.B) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		location := []byte("https://shop.example/a?wm_cid=0123456789012345678901234567890123456789012345678901")
		s := &fasthttp.Server{NoDefaultServerHeader: true, Handler: func(ctx *fasthttp.RequestCtx) {
			ctx.Response.SetStatusCode(fasthttp.StatusFound)
			ctx.Response.Header.SetCanonical(headerLocation, location)
		}}
		done := make(chan error, 1)
		go func() { done <- s.Serve(l) }()
		load(b, l.Addr().String())
		if err := s.Shutdown(); err != nil {
			b.Error(err)
		}
		<-done
	})
}

func load(b *testing.B, addr string) {
	b.SetParallelism(64)
	b.ReportAllocs()
	request := []byte("GET /spring?sid=a HTTP/1.1\r\nHost: " + testHost + "\r\nUser-Agent: " + person + "\r\nAccept-Language: de-DE,de;q=0.9\r\nReferer: https://blog.example/\r\n\r\n")
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		reader := bufio.NewReader(conn)
		for pb.Next() {
			if _, err := conn.Write(request); err != nil {
				b.Error(err)
				return
			}
			for first := true; ; first = false {
				line, err := reader.ReadSlice('\n')
				if err != nil || first && !strings.Contains(string(line[:15]), " 302") {
					b.Errorf("got %q, %v; want a 302", line, err)
					return
				}
				if len(line) == 2 {
					break
				}
			}
		}
	})
}
