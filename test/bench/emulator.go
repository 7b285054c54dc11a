// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/akv2k8s/akv2k8s/emulator/admin"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// An Emulator is the URL of the emulator's back door.
type Emulator string

// SetSecret adds a version to a secret.
func (e Emulator) SetSecret(ctx context.Context, vault, name, value string) error {
	return e.Call(ctx, http.MethodPut, "/vaults/"+vault+"/secrets/"+name, seed.Secret{Value: value}, nil)
}

// Reset sets every counter to zero.
func (e Emulator) Reset(ctx context.Context) error {
	return e.Call(ctx, http.MethodDelete, "/counters", nil, nil)
}

// Counters are those since the last reset.
func (e Emulator) Counters(ctx context.Context) (admin.Counters, error) {
	var out admin.Counters
	err := e.Call(ctx, http.MethodGet, "/counters", nil, &out)
	return out, err
}

// Requests is how many the vaults have answered since the last reset, whatever the
// operation and the answer: those without a token, which are answered with where to
// sign in, are among them.
func (e Emulator) Requests(ctx context.Context) (int, error) {
	counters, err := e.Counters(ctx)
	return RequestsOf(counters), err
}

// RequestsOf is what Requests returns, of counters that are there already.
func RequestsOf(c admin.Counters) int {
	total := 0
	for _, each := range c.Requests {
		total += each.Count
	}
	return total
}

// Call sends a body, or none, to a path below /v1, and reads the answer into out, or
// drops it.
func (e Emulator) Call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, string(e)+"/v1"+path, body)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("asking the emulator: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= http.StatusBadRequest {
		err = errors.New(resp.Status)
	}
	if err != nil {
		return fmt.Errorf("asking the emulator for %s %s: %w", method, path, err)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(text, out)
}
