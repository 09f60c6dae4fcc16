package dashboard

import (
	_ "embed"
	"fmt"

	"github.com/goccy/go-yaml"
)

// document describes the API, and the tracker's part of it, to machines.
//
//go:embed openapi.yaml
var document []byte

func documentJSON() ([]byte, error) {
	data, err := yaml.YAMLToJSON(document)
	if err != nil {
		return nil, fmt.Errorf("cannot read the API's own description: %w", err)
	}
	return data, nil
}
