package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"waymark/cmd/internal/datadir"
)

type adminCommand struct {
	Apply  applyCommand  `cmd:"" help:"Apply a program file: programs, partners, links, keys. Running it again changes nothing."`
	Secret secretCommand `cmd:"" help:"Print a new secret, as a line of a --secrets-file."`
}

type secretCommand struct {
	ID uint8 `default:"1" help:"Id of the secret, unique in its file (default: ${default})."`
}

// Run prints the secret.
func (c *secretCommand) Run(out *output) error {
	_, err := io.WriteString(out.stdout, datadir.NewSecret(c.ID))
	return err
}

type applyCommand struct {
	File   string `short:"f" required:"" placeholder:"FILE" help:"The program file, - for standard input."`
	Admin  string `default:"http://127.0.0.1:7082" placeholder:"URL" help:"Admin address of the running dashboard (default: ${default})."`
	DryRun bool   `help:"Show what would change, and change nothing."`
}

// Run sends the file to the dashboard and prints what it changed.
func (c *applyCommand) Run(ctx context.Context, out *output) error {
	var file []byte
	var err error
	if c.File == "-" {
		file, err = io.ReadAll(os.Stdin)
	} else {
		file, err = os.ReadFile(c.File)
	}
	if err != nil {
		return usagef("cannot read -f %s: %w", c.File, err)
	}
	report, err := applyFile(ctx, c.Admin, file, c.DryRun)
	if err != nil {
		return fmt.Errorf("%s: %w", c.File, err)
	}
	report.print(out.stdout, c.DryRun)
	return nil
}

// applyReport is the dashboard's answer to a program file.
type applyReport struct {
	Changes []struct{ Action, Kind, Key string }
	Notes   []string
	Errors  []struct {
		Line    int
		Field   string
		Message string
	}
	Title, Detail string
}

func (r *applyReport) print(w io.Writer, dryRun bool) {
	count := map[string]int{}
	for _, change := range r.Changes {
		count[change.Action]++
		if change.Action != "unchanged" && count[change.Action] <= 50 {
			fmt.Fprintf(w, "%s %s %s\n", change.Action, change.Kind, change.Key)
		}
	}
	for _, note := range r.Notes {
		fmt.Fprintln(w, "note:", note)
	}
	done := ""
	if dryRun {
		done = " (dry run: nothing was changed)"
	}
	fmt.Fprintf(w, "%d created, %d updated, %d unchanged%s\n", count["create"], count["update"], count["unchanged"], done)
}

// applyFile sends a program file to the dashboard at an admin address.
func applyFile(ctx context.Context, admin string, file []byte, dryRun bool) (*applyReport, error) {
	url := strings.TrimSuffix(admin, "/") + "/v1/apply"
	if dryRun {
		url += "?dry_run=1"
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(file))
	if err != nil {
		return nil, usagef("--admin %s: %w", admin, err)
	}
	req.Header.Set("Content-Type", "application/yaml")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("cannot reach the dashboard's admin address (--admin %s): %w", admin, err)
	}
	defer resp.Body.Close()
	var report applyReport
	if err := json.NewDecoder(resp.Body).Decode(&report); err != nil {
		return nil, fmt.Errorf("%s answered %s, which is no dashboard's answer", admin, resp.Status)
	}
	if len(report.Errors) > 0 {
		var lines []string
		for _, e := range report.Errors {
			lines = append(lines, fmt.Sprintf("line %d: %s", e.Line, e.Message))
		}
		return nil, fmt.Errorf("nothing was changed: %s", strings.Join(lines, "; "))
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the dashboard answered %s: %s %s", resp.Status, report.Title, report.Detail)
	}
	return &report, nil
}
