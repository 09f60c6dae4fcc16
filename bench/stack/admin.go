package stack

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Admin is the admin address of a running system. It is safe for concurrent use.
type Admin struct {
	URL    string
	client http.Client
}

// NewAdmin returns the admin address at a base URL.
func NewAdmin(url string) *Admin {
	return &Admin{URL: strings.TrimSuffix(url, "/"), client: http.Client{Timeout: 5 * time.Minute}}
}

// Apply applies a program file, as `waymark admin apply` does.
func (a *Admin) Apply(ctx context.Context, file []byte) error {
	body, status, err := a.do(ctx, http.MethodPost, "/v1/apply", file)
	if err != nil {
		return err
	}
	var report struct {
		Errors []struct {
			Line    int
			Message string
		}
		Title, Detail string
	}
	if err := json.Unmarshal(body, &report); err != nil {
		return fmt.Errorf("cannot apply the program at %s: the answer is no dashboard's", a.URL)
	}
	if len(report.Errors) > 0 {
		return fmt.Errorf("cannot apply the program at %s: line %d: %s", a.URL, report.Errors[0].Line, report.Errors[0].Message)
	}
	if status != http.StatusOK {
		return fmt.Errorf("cannot apply the program at %s: %d %s %s", a.URL, status, report.Title, report.Detail)
	}
	return nil
}

func (a *Admin) do(ctx context.Context, method, path string, body []byte) ([]byte, int, error) {
	req, err := http.NewRequestWithContext(ctx, method, a.URL+path, bytes.NewReader(body))
	if err != nil {
		return nil, 0, fmt.Errorf("%s is no admin address: %w", a.URL, err)
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return nil, 0, fmt.Errorf("cannot reach the admin address %s: %w", a.URL, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil {
		return nil, 0, fmt.Errorf("cannot read from the admin address %s: %w", a.URL, err)
	}
	return b, resp.StatusCode, nil
}

// DataAsOf returns the time of which the numbers speak; false when there is none yet.
func (a *Admin) DataAsOf(ctx context.Context) (time.Time, bool, error) {
	b, status, err := a.do(ctx, http.MethodGet, "/v1/status", nil)
	if err != nil {
		return time.Time{}, false, err
	}
	var body struct {
		DataAsOf *time.Time `json:"data_as_of"`
	}
	if err := json.Unmarshal(b, &body); err != nil || status != http.StatusOK {
		return time.Time{}, false, errors.New("there is no dashboard at the admin address")
	}
	if body.DataAsOf == nil {
		return time.Time{}, false, nil
	}
	return *body.DataAsOf, true, nil
}

// Metrics returns the metrics, each summed over its labels.
func (a *Admin) Metrics(ctx context.Context) (map[string]float64, error) {
	b, status, err := a.do(ctx, http.MethodGet, "/metrics", nil)
	if err != nil {
		return nil, err
	}
	if status != http.StatusOK {
		return nil, fmt.Errorf("the admin address %s has no metrics: %d", a.URL, status)
	}
	return parseMetrics(b), nil
}

// parseMetrics reads Prometheus's text format, as far as sums of numbers go.
func parseMetrics(b []byte) map[string]float64 {
	sums := map[string]float64{}
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		name, rest, _ := strings.Cut(line, " ")
		if at := strings.IndexByte(line, '{'); at >= 0 {
			end := strings.LastIndexByte(line, '}')
			if end < at {
				continue
			}
			name, rest = line[:at], strings.TrimSpace(line[end+1:])
		}
		value, _, _ := strings.Cut(rest, " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			sums[name] += v
		}
	}
	return sums
}
