package tracker

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/valyala/fasthttp"

	"waymark/tracker/links"
)

// The bounds of a request, in bytes. Headers above theirs are answered 431, bodies 413. A large body is only read from
// whoever shows a program's key.
const (
	maxHeader       = 16 << 10
	maxBody         = 64 << 10
	maxListBody     = maxConversions*maxConversionSize + maxBody
	listReadTimeout = 60 * time.Second
)

func (t *Tracker) newServer() *fasthttp.Server {
	return &fasthttp.Server{
		Handler:               t.handle,
		ErrorHandler:          t.refuse,
		HeaderReceived:        t.bounds,
		ReadTimeout:           t.config.ReadTimeout,
		WriteTimeout:          t.config.WriteTimeout,
		IdleTimeout:           t.config.IdleTimeout,
		Concurrency:           t.config.MaxConnections,
		MaxConnsPerIP:         t.config.MaxConnectionsPerAddress,
		ReadBufferSize:        maxHeader,
		MaxRequestBodySize:    maxBody,
		TCPKeepalive:          true,
		ReduceMemoryUsage:     false, // measured: turning it on costs 29 % of throughput
		SecureErrorLogMessage: true,
		NoDefaultServerHeader: true,
		NoDefaultContentType:  true,
		CloseOnShutdown:       true,

		DisablePreParseMultipartForm: true,
		Logger:                       quietLogger{t.log},
	}
}

// handle answers every request that could be read. A panic is answered 500, logged with its stack and ends nothing.
func (t *Tracker) handle(ctx *fasthttp.RequestCtx) {
	defer t.recoverPanic(ctx)
	header := &ctx.Request.Header
	target := parseTarget(header.RequestURI())
	if target.place == placeConversions {
		t.handleConversions(ctx)
		return
	}
	if !header.IsGet() && !header.IsHead() {
		header := &ctx.Response.Header
		header.SetCanonical(headerAllow, allowGet)
		t.plain(ctx, fasthttp.StatusMethodNotAllowed, outcomeMethod, "Method not allowed.")
		return
	}
	switch target.place {
	case placeSlug:
		t.handleSlug(ctx, &target)
	case placeBad:
		t.plain(ctx, fasthttp.StatusBadRequest, outcomeBadRequest, "Bad request.")
	case placeRobots:
		t.metrics.outcomes[outcomeStatic].Inc()
		ctx.SetStatusCode(fasthttp.StatusOK)
		ctx.SetContentType("text/plain; charset=utf-8")
		ctx.SetBodyString(robotsText)
	default:
		t.notFound(ctx)
	}
}

// robotsText lets robots in: previews are welcome, and X-Robots-Tag keeps links out of search engines.
const robotsText = "User-agent: *\nDisallow:\n"

func (t *Tracker) handleSlug(ctx *fasthttp.RequestCtx, target *target) {
	v := t.visits.Get().(*visit)
	defer t.release(v)
	header := &ctx.Request.Header
	host, ok := target.authority, false
	if host == nil {
		host = header.Host()
	}
	if v.host, ok = appendHost(v.host[:0], host); !ok {
		t.plain(ctx, fasthttp.StatusBadRequest, outcomeBadRequest, "Bad request.")
		return
	}
	v.slug = appendLower(v.slug[:0], target.slug)
	if v.target = t.links.Lookup(v.host, v.slug); v.target == nil {
		t.notFound(ctx)
		return
	}
	if isPrefetch(header) {
		t.prefetch(ctx)
		return
	}
	v.query = target.query
	t.read(v, ctx)
	t.answer(v, ctx)
}

// release returns a visit to the pool.
func (t *Tracker) release(v *visit) {
	v.reset()
	t.visits.Put(v)
}

// read takes what counts out of the request's headers.
func (t *Tracker) read(v *visit, ctx *fasthttp.RequestCtx) {
	header := &ctx.Request.Header
	v.head = header.IsHead()
	v.userAgent = header.UserAgent()
	v.acceptLanguage = header.PeekCanonical(headerAcceptLanguage)
	v.referer = header.PeekCanonical(headerReferer)
	v.cookie = header.PeekCanonical(headerCookie)
	v.fetchDest = header.PeekCanonical(headerSecFetchDest)
	v.gpc = string(header.PeekCanonical(headerSecGPC)) == "1"
	v.received = time.Now().UnixMilli()
	v.occurred = v.received
	socket := socketAddress(ctx.RemoteAddr())
	v.address = socket
	if t.proxies.Trusts(socket) {
		v.address = t.clientAddress(socket, header.PeekAll(fasthttp.HeaderXForwardedFor))
		v.secure = equalFold(header.PeekCanonical(headerForwardedProto), "https")
	}
}

func socketAddress(addr net.Addr) netip.Addr {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.IPv6Unspecified()
}

// answer journals the visit, waits until it is durable and redirects. When the journal cannot be written the visitor
// is redirected all the same, and the loss is counted.
func (t *Tracker) answer(v *visit, ctx *fasthttp.RequestCtx) {
	position, err := t.take(v)
	v.buildLocation()
	if err == nil {
		if err = t.journal.Wait(position); err != nil {
			t.unmark(v, position)
		}
	}
	verdict := v.click.EdgeVerdict
	if err != nil {
		t.metrics.unjournaled.Inc()
		t.trouble.note(err)
	}
	t.metrics.outcomes[verdict].Inc()
	if len(v.location) == 0 {
		t.gone(ctx)
		return
	}
	header := &ctx.Response.Header
	ctx.Response.SetStatusCode(fasthttp.StatusFound)
	header.SetCanonical(headerLocation, v.location)
	setPrivate(header)
	if v.cookies && verdict.Valid() {
		v.setCookie = t.appendCookie(v.setCookie[:0], v)
		header.SetCanonical(headerSetCookie, v.setCookie)
	}
}

func setPrivate(header *fasthttp.ResponseHeader) {
	header.SetCanonical(headerCacheControl, privateNoStore)
	header.SetCanonical(headerReferrerPolicy, strictOrigin)
	header.SetCanonical(headerRobotsTag, noIndex)
}

// isPrefetch reports whether a browser asks for the page before anybody clicked.
func isPrefetch(header *fasthttp.RequestHeader) bool {
	return hasPrefixFold(header.PeekCanonical(headerSecPurpose), "prefetch") ||
		equalFold(header.PeekCanonical(headerPurpose), "prefetch") ||
		equalFold(header.PeekCanonical(headerXMoz), "prefetch") ||
		equalFold(header.PeekCanonical(headerXPurpose), "preview")
}

// prefetch refuses to answer ahead of time, so that the navigation itself comes to us.
func (t *Tracker) prefetch(ctx *fasthttp.RequestCtx) {
	t.metrics.outcomes[outcomePrefetch].Inc()
	ctx.Response.SetStatusCode(fasthttp.StatusServiceUnavailable)
	ctx.Response.Header.SetCanonical(headerCacheControl, noStore)
}

func (t *Tracker) notFound(ctx *fasthttp.RequestCtx) {
	t.metrics.outcomes[outcomeNotFound].Inc()
	t.page(ctx, fasthttp.StatusNotFound, notFoundPage)
}

// gone is what visitors of a disabled link see when the program names no fallback.
func (t *Tracker) gone(ctx *fasthttp.RequestCtx) { t.page(ctx, fasthttp.StatusGone, gonePage) }

func (t *Tracker) page(ctx *fasthttp.RequestCtx, status int, page []byte) {
	setPrivate(&ctx.Response.Header)
	ctx.Response.SetStatusCode(status)
	ctx.Response.Header.SetContentTypeBytes(htmlType)
	ctx.Response.SetBodyRaw(page)
}

func (t *Tracker) plain(ctx *fasthttp.RequestCtx, status int, o outcome, text string) {
	t.metrics.outcomes[o].Inc()
	setPrivate(&ctx.Response.Header)
	ctx.SetStatusCode(status)
	ctx.SetContentType("text/plain; charset=utf-8")
	ctx.SetBodyString(text + "\n")
}

func (t *Tracker) recoverPanic(ctx *fasthttp.RequestCtx) {
	r := recover()
	if r == nil {
		return
	}
	t.log.Error("a request handler has panicked", "panic", r, "stack", string(debug.Stack()))
	ctx.Response.Reset()
	t.plain(ctx, fasthttp.StatusInternalServerError, outcomePanic, "Internal error.")
	ctx.SetConnectionClose()
}

// bounds lets a large body in where a program's key opens for it.
func (t *Tracker) bounds(header *fasthttp.RequestHeader) (c fasthttp.RequestConfig) {
	if header.IsPost() && parseTarget(header.RequestURI()).place == placeConversions && t.authorize(header) != nil {
		c.MaxRequestBodySize, c.ReadTimeout = maxListBody, listReadTimeout
	}
	return c
}

// authorize returns the program whose bearer key the request shows, or nil.
func (t *Tracker) authorize(header *fasthttp.RequestHeader) *links.Program {
	value := header.PeekCanonical(headerAuthorization)
	if !hasPrefixFold(value, "bearer ") {
		return nil
	}
	key := value[len("bearer "):]
	for len(key) > 0 && key[0] == ' ' {
		key = key[1:]
	}
	if len(key) == 0 {
		return nil
	}
	return t.links.ProgramByKey(sha256.Sum256(key))
}

// refuse answers a request that could not be read, and counts why.
func (t *Tracker) refuse(ctx *fasthttp.RequestCtx, err error) {
	var small *fasthttp.ErrSmallBuffer
	var network net.Error
	switch {
	case errors.As(err, &small):
		t.metrics.refusals[refusedHeader].Inc()
		drain(ctx.Conn())
		ctx.Error("The request's headers are too large.\n", fasthttp.StatusRequestHeaderFieldsTooLarge)
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		t.metrics.refusals[refusedBody].Inc()
		drain(ctx.Conn())
		newProblem(fasthttp.StatusRequestEntityTooLarge, "", "the body is too large").write(ctx)
	case errors.As(err, &network) && network.Timeout():
		t.metrics.refusals[refusedTimeout].Inc()
		ctx.Error("The request took too long.\n", fasthttp.StatusRequestTimeout)
	default:
		t.metrics.refusals[refusedSyntax].Inc()
		ctx.Error("Bad request.\n", fasthttp.StatusBadRequest)
	}
	setPrivate(&ctx.Response.Header)
}

// drain reads on for a moment, so that the client has sent what it wants to say before the connection closes: else the
// answer could be lost to a reset.
func drain(conn net.Conn) {
	if conn == nil || conn.SetReadDeadline(time.Now().Add(drainTime)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, conn, drainBytes) // whatever comes is not wanted
}

const (
	drainTime  = 200 * time.Millisecond
	drainBytes = 32 << 20
)

var (
	headerAcceptLanguage = []byte(fasthttp.HeaderAcceptLanguage)
	headerAllow          = []byte(fasthttp.HeaderAllow)
	headerAuthorization  = []byte(fasthttp.HeaderAuthorization)
	headerCacheControl   = []byte(fasthttp.HeaderCacheControl)
	headerCookie         = []byte(fasthttp.HeaderCookie)
	headerForwardedProto = []byte(fasthttp.HeaderXForwardedProto)
	headerLocation       = []byte(fasthttp.HeaderLocation)
	headerPurpose        = []byte("Purpose")
	headerReferer        = []byte(fasthttp.HeaderReferer)
	headerReferrerPolicy = []byte(fasthttp.HeaderReferrerPolicy)
	headerRobotsTag      = []byte("X-Robots-Tag")
	headerSecFetchDest   = []byte("Sec-Fetch-Dest")
	headerSecGPC         = []byte("Sec-Gpc")
	headerSecPurpose     = []byte("Sec-Purpose")
	headerSetCookie      = []byte(fasthttp.HeaderSetCookie)
	headerXMoz           = []byte("X-Moz")
	headerXPurpose       = []byte("X-Purpose")

	allowGet       = []byte("GET, HEAD")
	htmlType       = []byte("text/html; charset=utf-8")
	noIndex        = []byte("noindex")
	noStore        = []byte("no-store")
	privateNoStore = []byte("private, no-store")
	strictOrigin   = []byte("strict-origin-when-cross-origin")
)

// quietLogger takes what the HTTP server says about its clients: their mistakes are no news, and are counted anyway.
type quietLogger struct{ log *slog.Logger }

// Printf logs a line for debugging.
func (l quietLogger) Printf(format string, args ...any) {
	l.log.Debug("http server", "message", fmt.Sprintf(format, args...))
}
