package e2e

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/legacy"
)

// documented is a client that holds every answer of the API, the dashboard's and the tracker's, against the OpenAPI
// document that the dashboard serves.
type documented struct {
	t      *testing.T
	router routers.Router
	checks int
}

// document makes all API calls of the test go through the document until it ends.
func document(t *testing.T, sys *process) {
	t.Helper()
	resp, err := noRedirects.Get(sys.Dashboard + "/api/v1/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(b)
	if err == nil {
		err = doc.Validate(context.Background())
	}
	if err != nil {
		t.Fatalf("the document is not valid: %v", err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Errorf("the document is of OpenAPI %s, want 3.1", doc.OpenAPI)
	}
	for _, item := range doc.Paths.Map() {
		item.Servers = nil // where they are is known from the ready file
	}
	d := &documented{t: t}
	if d.router, err = legacy.NewRouter(doc); err != nil {
		t.Fatal(err)
	}
	before := noRedirects.Transport
	noRedirects.Transport = d
	t.Cleanup(func() {
		noRedirects.Transport = before
		if d.checks == 0 {
			t.Error("no answer was held against the document")
		}
	})
}

// RoundTrip sends a request and checks its answer if the document speaks of it.
func (d *documented) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	path, _ := http.NewRequest(r.Method, r.URL.Path, nil)
	route, params, err := d.router.FindRoute(path)
	if err != nil {
		return resp, nil // a link or a page
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	err = openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: path, PathParams: params, Route: route},
		Status:                 resp.StatusCode, Header: resp.Header, Body: io.NopCloser(bytes.NewReader(body)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	})
	if err != nil {
		d.t.Errorf("%s %s = %s is not as documented: %v\n%s", r.Method, r.URL.Path, resp.Status, err, body)
	}
	d.checks++
	return resp, nil
}
