// SPDX-License-Identifier: Apache-2.0

package emulator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/akv2k8s/akv2k8s/emulator/admin"
	"github.com/akv2k8s/akv2k8s/emulator/fault"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// maxSignInBody is more than any sign-in has.
const maxSignInBody = 1 << 20

// refusal writes what a service says while it is down, in the service's own words.
type refusal func(w http.ResponseWriter, r *http.Request, status int)

// signIn puts faults, and counters in front of them, before a sign-in service.
func (e *Emulator) signIn(next http.Handler, refuse refusal) http.Handler {
	return e.counters.signIns(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !e.signInFaults.Armed() {
			next.ServeHTTP(w, r)
			return
		}
		if err := readAhead(r); err != nil {
			http.Error(w, "keyvault-emulator: the body cannot be read", http.StatusBadRequest)
			return
		}
		out := e.signInFaults.Meet(r.Context(), fault.Request{Operation: operation(r.URL.Path)})
		switch {
		case out.NoAnswer():
			fault.Reset(w)
		case out.ShapesBody():
			held := &heldAnswer{header: w.Header(), status: http.StatusOK}
			answer(out, held, r, next, refuse)
			out.Send(r.Context(), w, held.status, held.body.Bytes())
		default:
			answer(out, w, r, next, refuse)
		}
	}))
}

// readAhead takes the body in: only behind it does net/http notice that a client has gone.
func readAhead(r *http.Request) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxSignInBody+1))
	if err != nil {
		return fmt.Errorf("reading ahead: %w", err)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return nil
}

func answer(out fault.Outcome, w http.ResponseWriter, r *http.Request, next http.Handler, refuse refusal) {
	if out.Answer == nil {
		next.ServeHTTP(w, r)
		return
	}
	status := out.Answer.Status
	switch {
	case out.Answer.Kind == seed.FaultThrottle:
		status = http.StatusTooManyRequests
		if out.Answer.RetryAfter > 0 {
			w.Header().Set("Retry-After", fmt.Sprint(out.Answer.RetryAfter))
		}
	case status == 0:
		status = http.StatusServiceUnavailable
	}
	refuse(w, r, status)
}

// heldAnswer keeps an answer back until it is known whole.
type heldAnswer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (h *heldAnswer) Header() http.Header            { return h.header }
func (h *heldAnswer) WriteHeader(status int)         { h.status = status }
func (h *heldAnswer) Write(part []byte) (int, error) { return h.body.Write(part) }

// SetSignInFaults replaces the faults of the login hosts and the metadata service; none clears them.
func (e *Emulator) SetSignInFaults(list []seed.Fault) error {
	if err := seed.CheckSignInFaults(list); err != nil {
		return err
	}
	if err := checkOperations(list); err != nil {
		return err
	}
	e.signInFaults.Replace(list)
	return nil
}

// checkOperations finds what a seed cannot know: which operations there are.
func checkOperations(list []seed.Fault) error {
	var errs []error
	for i, f := range list {
		for _, one := range f.Operations {
			if !slices.Contains(operations, one) && one != otherOperation {
				errs = append(errs, fmt.Errorf("faults[%d] (%s): no operation of a sign-in is called %q", i, f.Kind, one))
			}
		}
	}
	return errors.Join(errs...)
}

// SignIn says how the login hosts and the metadata service misbehave.
func (e *Emulator) SignIn() admin.SignIn {
	return admin.SignIn{Faults: e.signInFaults.List(), Hanging: e.signInFaults.Hanging()}
}

// AwaitSignInHanging returns once at least n sign-ins hang, or with the error of ctx.
func (e *Emulator) AwaitSignInHanging(ctx context.Context, n int) error {
	return e.signInFaults.Await(ctx, n)
}
