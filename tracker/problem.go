package tracker

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/valyala/fasthttp"
)

// problem is an RFC 9457 problem document. Field names what is to blame in the request, if one thing is.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Field  string `json:"field,omitempty"`
	Detail string `json:"detail,omitempty"`
}

func newProblem(status int, field, detail string) *problem {
	return &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Field: field, Detail: detail}
}

func (p *problem) write(ctx *fasthttp.RequestCtx) {
	body, err := json.Marshal(p)
	if err != nil {
		panic("BUG: a problem document cannot be encoded: " + err.Error())
	}
	h := &ctx.Response.Header
	switch p.Status {
	case fasthttp.StatusUnauthorized:
		h.Set(fasthttp.HeaderWWWAuthenticate, `Bearer realm="conversions"`)
	case fasthttp.StatusMethodNotAllowed:
		h.Set(fasthttp.HeaderAllow, "POST")
	case fasthttp.StatusServiceUnavailable:
		h.Set(fasthttp.HeaderRetryAfter, strconv.Itoa(1))
	}
	writeJSON(ctx, p.Status, "application/problem+json", body)
}

func writeJSON(ctx *fasthttp.RequestCtx, status int, contentType string, body []byte) {
	ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
	ctx.SetStatusCode(status)
	ctx.SetContentType(contentType)
	ctx.SetBody(body)
}
