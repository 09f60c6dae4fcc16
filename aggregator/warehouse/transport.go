package warehouse

import (
	"bytes"
	"context"
	"io"
	"net/http"
)

// Transport returns a RoundTripper that reaches the engine in this process, for clickhouse-go's Options.TransportFunc. A
// request whose context ends is given up by the caller at once; its statement still runs to its end, as it might on
// a server.
func (e *Engine) Transport() http.RoundTripper { return transporter{e} }

type transporter struct{ handler http.Handler }

// RoundTrip answers one request.
func (t transporter) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	done := make(chan *http.Response, 1)
	detached := r.WithContext(context.WithoutCancel(r.Context()))
	if r.Body == nil {
		detached.Body = http.NoBody
	}
	go func() {
		w := &recorder{header: http.Header{}, code: http.StatusOK}
		t.handler.ServeHTTP(w, detached)
		detached.Body.Close()
		done <- w.response(r)
	}()
	select {
	case response := <-done:
		return response, nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// recorder is a ResponseWriter that keeps the response in memory.
type recorder struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header         { return w.header }
func (w *recorder) WriteHeader(code int)        { w.code = code }
func (w *recorder) Write(b []byte) (int, error) { return w.body.Write(b) }

func (w *recorder) response(r *http.Request) *http.Response {
	return &http.Response{
		Status: http.StatusText(w.code), StatusCode: w.code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Request: r, ContentLength: int64(w.body.Len()), Body: io.NopCloser(&w.body),
	}
}
