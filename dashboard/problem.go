package dashboard

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"waymark/dashboard/store"
)

// problem is an error as machines read it (RFC 9457).
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	// Field names the field of the request that is to blame, Code why: invalid, taken, reserved, not_allowed, limit.
	Field string `json:"field,omitempty"`
	Code  string `json:"code,omitempty"`
}

func (p *problem) Error() string { return p.Detail }

func writeProblem(w http.ResponseWriter, p problem) {
	p.Type, p.Title = "about:blank", http.StatusText(p.Status)
	body, err := json.Marshal(p)
	if err != nil {
		panic("BUG: cannot write a problem: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_, _ = w.Write(append(body, '\n'))
}

// fieldStatus is the status of a refusal: a conflict with what exists, or a value that can never be.
func fieldStatus(e *store.FieldError) int {
	if e.Code == store.CodeTaken || e.Code == store.CodeLimit {
		return http.StatusConflict
	}
	return http.StatusUnprocessableEntity
}

// readJSON reads the one JSON object that a body must be. Its error is a *[problem].
func readJSON(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	if err == nil {
		if _, end := dec.Token(); end != io.EOF {
			err = errors.New("something follows the JSON object")
		}
	}
	if err == nil {
		return nil
	}
	p := &problem{Status: http.StatusBadRequest, Detail: "The body is not a JSON object as documented: " + strings.TrimPrefix(err.Error(), "json: ") + "."}
	var tooLarge *http.MaxBytesError
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &tooLarge):
		p.Status, p.Detail = http.StatusRequestEntityTooLarge, fmt.Sprintf("The body has more than %d bytes.", tooLarge.Limit)
	case errors.As(err, &wrongType) && wrongType.Field != "":
		p.Status, p.Field, p.Code = http.StatusUnprocessableEntity, wrongType.Field, store.CodeInvalid
		p.Detail = fmt.Sprintf("%s must not be a %s.", wrongType.Field, wrongType.Value)
	case errors.Is(err, io.EOF):
		p.Detail = "The body is empty; a JSON object is needed."
	case strings.HasPrefix(err.Error(), "json: unknown field "):
		p.Field = strings.Trim(strings.TrimPrefix(err.Error(), "json: unknown field "), `"`)
		p.Code, p.Detail = store.CodeInvalid, fmt.Sprintf("There is no field %q.", p.Field)
	}
	return p
}
