package tracker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"waymark/schema"
)

// The bounds of a report of conversions.
const (
	maxConversions    = 1000
	maxConversionSize = 16 << 10
	maxCustomerKey    = 255
	maxIdempotencyKey = 255
	// maxAmount keeps sums of many amounts far from the end of an int64.
	maxAmount = 1_000_000_000_000_000
	// maxAhead is how far a merchant's clock may be ahead.
	maxAhead = 24 * time.Hour
)

var earliest = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// conversionJSON is a conversion as merchants report it. A field that was not sent is nil.
type conversionJSON struct {
	Type           *string `json:"type"`
	ClickID        *string `json:"click_id"`
	CustomerKey    *string `json:"customer_key"`
	Amount         *int64  `json:"amount"`
	Currency       *string `json:"currency"`
	OccurredAt     *string `json:"occurred_at"`
	IdempotencyKey *string `json:"idempotency_key"`
}

var conversionTypes = map[string]schema.ConversionType{
	"lead":   schema.ConversionType_CONVERSION_LEAD,
	"signup": schema.ConversionType_CONVERSION_SIGNUP,
	"sale":   schema.ConversionType_CONVERSION_SALE,
	"refund": schema.ConversionType_CONVERSION_REFUND,
}

// splitConversions cuts a body into the JSON objects it reports: one, or those of a list. What the objects hold is not
// looked at.
func splitConversions(body []byte) (items []jsontext.Value, list bool, bad *problem) {
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return nil, false, newProblem(http.StatusBadRequest, "", "the body is empty; want one JSON object or a list of them")
	}
	if !jsontext.Value(body).IsValid(jsontext.AllowDuplicateNames(true)) {
		return nil, false, newProblem(http.StatusBadRequest, "", "the body is not JSON in UTF-8")
	}
	switch body[0] {
	case '{':
		return []jsontext.Value{body}, false, nil
	case '[':
	default:
		return nil, false, newProblem(http.StatusBadRequest, "", "want one JSON object or a list of them")
	}
	d := jsontext.NewDecoder(bytes.NewReader(body), jsontext.AllowDuplicateNames(true))
	if _, err := d.ReadToken(); err != nil {
		return nil, false, newProblem(http.StatusBadRequest, "", "the body is not JSON in UTF-8")
	}
	for d.PeekKind() != ']' {
		v, err := d.ReadValue()
		if err != nil {
			return nil, false, newProblem(http.StatusBadRequest, "", "the body is not JSON in UTF-8")
		}
		if len(items) == maxConversions {
			return nil, false, newProblem(http.StatusRequestEntityTooLarge, "", fmt.Sprintf("a list holds at most %d conversions", maxConversions))
		}
		items = append(items, v.Clone())
	}
	if len(items) == 0 {
		return nil, false, newProblem(http.StatusUnprocessableEntity, "", "the list is empty")
	}
	return items, true, nil
}

// parseConversion reads one reported conversion of a program. The click id must be one of ours; whose it is, is not
// asked here.
func parseConversion(v jsontext.Value, program uint64, received time.Time, ids *schema.ClickIDs) (*schema.Conversion, *problem) {
	if len(v) > maxConversionSize {
		return nil, newProblem(http.StatusRequestEntityTooLarge, "", fmt.Sprintf("a conversion has at most %d bytes", maxConversionSize))
	}
	if v.Kind() != '{' {
		return nil, newProblem(http.StatusBadRequest, "", "a conversion is a JSON object")
	}
	var in conversionJSON
	if err := json.Unmarshal(v, &in, json.RejectUnknownMembers(true)); err != nil {
		return nil, jsonProblem(err)
	}
	c := &schema.Conversion{ProgramId: program, ReceivedMs: received.UnixMilli(), OccurredMs: received.UnixMilli()}
	for _, check := range []func(*schema.Conversion, *conversionJSON) *problem{checkType, checkKeys, checkMoney} {
		if p := check(c, &in); p != nil {
			return nil, p
		}
	}
	if in.OccurredAt != nil {
		at, err := time.Parse(time.RFC3339, *in.OccurredAt)
		if err != nil {
			return nil, unprocessable("occurred_at", "want a time such as 2026-03-14T15:09:26Z (RFC 3339)")
		}
		if at.Before(earliest) || at.Sub(received) > maxAhead {
			return nil, unprocessable("occurred_at", "the time lies in the future or before 2000")
		}
		c.OccurredMs = at.UnixMilli()
	}
	if in.ClickID != nil && *in.ClickID != "" {
		id, err := ids.Parse([]byte(*in.ClickID))
		if err != nil {
			return nil, unprocessable("click_id", "this is not a click id that was handed out here")
		}
		c.ClickId = id[:]
	}
	if len(c.ClickId) == 0 && c.CustomerKey == "" {
		return nil, unprocessable("customer_key", "a conversion needs a click_id or a customer_key")
	}
	return c, nil
}

func unprocessable(field, detail string) *problem {
	return newProblem(http.StatusUnprocessableEntity, field, detail)
}

func checkType(c *schema.Conversion, in *conversionJSON) *problem {
	if in.Type == nil {
		return unprocessable("type", "a type is needed: lead, signup, sale or refund")
	}
	c.Type = conversionTypes[*in.Type]
	if c.Type == schema.ConversionType_CONVERSION_UNSPECIFIED {
		return unprocessable("type", "the type is lead, signup, sale or refund")
	}
	return nil
}

func checkKeys(c *schema.Conversion, in *conversionJSON) *problem {
	if in.IdempotencyKey == nil || *in.IdempotencyKey == "" {
		return unprocessable("idempotency_key", "an idempotency key is needed, so that a report that is sent twice counts once")
	}
	c.IdempotencyKey = *in.IdempotencyKey
	if p := checkKey("idempotency_key", c.IdempotencyKey, maxIdempotencyKey); p != nil {
		return p
	}
	if in.CustomerKey != nil {
		c.CustomerKey = *in.CustomerKey
	}
	return checkKey("customer_key", c.CustomerKey, maxCustomerKey)
}

func checkKey(field, key string, limit int) *problem {
	if len(key) > limit {
		return unprocessable(field, fmt.Sprintf("at most %d bytes", limit))
	}
	if !utf8.ValidString(key) || strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return unprocessable(field, "no control characters")
	}
	return nil
}

func checkMoney(c *schema.Conversion, in *conversionJSON) *problem {
	money := c.Type == schema.ConversionType_CONVERSION_SALE || c.Type == schema.ConversionType_CONVERSION_REFUND
	if in.Amount != nil {
		c.Amount = *in.Amount
	}
	if in.Currency != nil {
		c.Currency = *in.Currency
	}
	switch {
	case !money && c.Amount != 0:
		return unprocessable("amount", "only a sale or a refund has an amount")
	case money && in.Amount == nil:
		return unprocessable("amount", "an amount in minor units, such as cents, is needed")
	case c.Amount < 0 || c.Amount > maxAmount:
		return unprocessable("amount", fmt.Sprintf("an amount is 0 to %d minor units; a refund's amount is positive, too", int64(maxAmount)))
	case money && c.Currency == "":
		return unprocessable("currency", "a currency is needed")
	case c.Currency != "" && !isCurrency(c.Currency):
		return unprocessable("currency", "a currency is three capital letters of ISO 4217, such as USD")
	}
	if !money {
		c.Currency = ""
	}
	return nil
}

func isCurrency(s string) bool {
	if len(s) != 3 {
		return false
	}
	for _, c := range []byte(s) {
		if c < 'A' || c > 'Z' {
			return false
		}
	}
	return true
}

// jsonProblem says what is wrong with an object in the words of its fields.
func jsonProblem(err error) *problem {
	var semantic *json.SemanticError
	var syntactic *jsontext.SyntacticError
	switch {
	case errors.As(err, &semantic):
		field := fieldOf(semantic.JSONPointer)
		if errors.Is(err, json.ErrUnknownName) {
			return unprocessable(field, "there is no such field")
		}
		if field == "amount" {
			return unprocessable(field, "an amount is a whole number of minor units")
		}
		return unprocessable(field, "this has the wrong type")
	case errors.As(err, &syntactic):
		if errors.Is(err, jsontext.ErrDuplicateName) {
			return unprocessable(fieldOf(syntactic.JSONPointer), "the field is there twice")
		}
	case errors.Is(err, io.ErrUnexpectedEOF):
	}
	return newProblem(http.StatusBadRequest, "", "this is not a JSON object")
}

// maxField bounds how much of a client's own word an answer repeats.
const maxField = 64

func fieldOf(p jsontext.Pointer) string {
	field := p.LastToken()
	if len(field) > maxField {
		return strings.ToValidUTF8(field[:maxField], "")
	}
	return field
}
