// SPDX-License-Identifier: Apache-2.0

package envexec

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

// A Source prepares asking for what the placeholders of a World stand for; an error is
// one of its settings. It has the World's own environment and token file.
type Source func(w World, log *slog.Logger) (Ask, error)

// Ask asks once. Answer and failure are such as the broker would give.
type Ask func(ctx context.Context) (brokerapi.Response, *Failure)

// Failure is an error with what asking again would do about it.
type Failure struct {
	Err   error // for people: it holds no value and no remote text
	Retry bool
	After time.Duration // not before this long, when who was asked said so
}

func (f *Failure) Error() string { return f.Err.Error() }
func (f *Failure) Unwrap() error { return f.Err }

// afterTries is the failure for a person who wonders whether it was tried again.
func (f *Failure) afterTries(n int) error {
	if n == 1 {
		return f
	}
	return fmt.Errorf("%w (asked %d times)", f, n)
}

// Refused is a message and what it says of each variable.
func Refused(said brokerapi.Failure) *Failure {
	words := []string{said.Message}
	for _, p := range said.Problems {
		words = append(words, fmt.Sprintf("%s (%s): %s", p.Variable, p.Reason, p.Message))
	}
	return &Failure{Err: errors.New(strings.Join(words, "; ")), Retry: said.Retry}
}

// maxRetryAfter bounds how long who is asked can make a container wait before its
// next try.
const maxRetryAfter = time.Minute

// answers asks the World's Source, and again while that may help.
func answers(ctx context.Context, w World, log *slog.Logger) (brokerapi.Response, error) {
	source := w.Source
	if source == nil {
		source = askBroker
	}
	budget, budgetErr := parseBudget(w.Environ)
	ask, err := source(w, log)
	if err := errors.Join(err, budgetErr); err != nil {
		return brokerapi.Response{}, err
	}
	wait := budget.wait
	for tries := 1; ; tries++ {
		answer, err := ask(ctx)
		if err == nil {
			return answer, nil
		}
		if stopped := context.Cause(ctx); stopped != nil {
			return brokerapi.Response{}, stopped
		}
		if !err.Retry || tries > budget.retries {
			return brokerapi.Response{}, err.afterTries(tries)
		}
		pause := max(wait, min(err.After, maxRetryAfter))
		again := log.With("reason", oneLine(err.Error()), "in", pause.String(), "triesLeft", budget.retries-tries+1)
		if w.Source == nil {
			again.Warn("no values yet, asking the broker again")
		} else {
			again.Warn("no values yet, asking the vaults again")
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return brokerapi.Response{}, context.Cause(ctx)
		}
		wait *= 2
	}
}
