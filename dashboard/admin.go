package dashboard

import (
	"errors"
	"io"
	"net/http"
	"strconv"

	"waymark/dashboard/store"
)

// applyAnswer is what an application of a program file did, or what is wrong with the file.
type applyAnswer struct {
	*store.Report
	Errors store.LineErrors `json:"errors,omitempty"`
}

// AdminHandler serves what operators ask of the dashboard, below /v1/; cmd mounts it on the admin listener, which nobody
// else reaches.
//
//	POST /v1/apply[?dry_run=1]   a program file (YAML) -> 200 {"changes", "notes"}, or 422 {"errors": [{"line", "message"}]}
//	GET  /v1/status              {"ready", "why", "data_as_of", "catalog_version"}
func (d *Dashboard) AdminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/apply", d.applyFile)
	mux.HandleFunc("GET /v1/status", d.status)
	return d.recovered(mux)
}

func (d *Dashboard) applyFile(w http.ResponseWriter, r *http.Request) {
	dry := false
	if text := r.URL.Query().Get("dry_run"); text != "" {
		var err error
		if dry, err = strconv.ParseBool(text); err != nil {
			writeProblem(w, problem{Status: http.StatusBadRequest, Detail: "dry_run is 1 or 0.", Field: "dry_run"})
			return
		}
	}
	file, err := io.ReadAll(http.MaxBytesReader(w, r.Body, store.MaxFile))
	if err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			writeProblem(w, problem{Status: http.StatusRequestEntityTooLarge, Detail: "The file is too large."})
			return
		}
		writeProblem(w, problem{Status: http.StatusBadRequest, Detail: "The file could not be read to its end."})
		return
	}
	report, err := d.c.Store.Apply(r.Context(), file, store.ApplyOptions{DryRun: dry, Passwords: d.passwords})
	var lines store.LineErrors
	switch {
	case errors.As(err, &lines):
		writeJSON(w, http.StatusUnprocessableEntity, applyAnswer{Errors: lines})
	case err != nil:
		d.log.Error("cannot apply a program file", "error", err)
		writeProblem(w, problem{Status: http.StatusInternalServerError, Detail: err.Error()})
	default:
		writeJSON(w, http.StatusOK, applyAnswer{Report: &report})
	}
}

func (d *Dashboard) status(w http.ResponseWriter, r *http.Request) {
	var answer struct {
		Ready          bool    `json:"ready"`
		Why            string  `json:"why,omitempty"`
		DataAsOf       *string `json:"data_as_of"`
		CatalogVersion uint64  `json:"catalog_version"`
	}
	err := d.Ready()
	if answer.Ready = err == nil; err != nil {
		answer.Why = err.Error()
	}
	if now := d.numbers.read(r.Context(), nil); !now.down && !now.tick.Time.IsZero() {
		text := now.tick.Time.UTC().Format(apiTime)
		answer.DataAsOf = &text
	}
	if answer.CatalogVersion, err = d.c.Store.CatalogVersion(r.Context()); err != nil {
		writeProblem(w, problem{Status: http.StatusServiceUnavailable, Detail: err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, answer)
}
