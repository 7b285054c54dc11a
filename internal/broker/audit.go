// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/grant"
	"github.com/akv2k8s/akv2k8s/internal/telemetry"
)

// Keys of the audit line that no other process has.
const (
	keyResult         = "result"
	keyRule           = "rule"
	keyServiceAccount = "serviceAccount"
	keyPodUID         = "podUID"
	keyPlaceholders   = "placeholders"
	keyDuration       = "duration"
)

// audit is one line per request: who asked for what, and how it ended. Names of
// variables and objects are the pod's own affair; reasons are what an operator
// needs.
func (b *Broker) audit(ctx context.Context, o outcome, elapsed time.Duration) {
	level := slog.LevelInfo
	if o.result != resultAnswered {
		level = slog.LevelWarn
	}
	caller := o.verdict.Caller
	b.log.Log(ctx, level, "request",
		keyResult, string(o.result),
		keyRule, string(o.verdict.Rule),
		telemetry.KeyReason, reasons(o),
		telemetry.KeyNamespace, caller.Namespace,
		telemetry.KeyPod, caller.Pod,
		keyPodUID, caller.UID,
		keyServiceAccount, caller.ServiceAccount,
		telemetry.KeyContainer, o.verdict.Container,
		keyPlaceholders, len(o.verdict.Variables),
		keyDuration, elapsed.String(),
	)
}

// reasons are those of the problems, each once, in order.
func reasons(o outcome) []string {
	out := []string{}
	seen := map[string]bool{}
	for _, p := range o.failure.Problems {
		if !seen[p.Reason] {
			seen[p.Reason] = true
			out = append(out, p.Reason)
		}
	}
	return out
}

// unauthenticated keeps a token that is not valid apart from an API server that
// cannot say.
func (b *Broker) unauthenticated(ctx context.Context, err error) outcome {
	if errors.Is(err, grant.ErrToken) {
		return *noToken()
	}
	return b.noAPIServer(ctx, grant.Verdict{}, err)
}

func (b *Broker) noAPIServer(ctx context.Context, v grant.Verdict, err error) outcome {
	b.log.WarnContext(ctx, "asking the API server", telemetry.KeyError, err)
	v.Allowed = false
	return unavailable(v, "the Kubernetes API server did not answer the broker", 0)
}

// stack names functions and lines, and addresses for arguments; never a value.
func stack() string { return string(debug.Stack()) }
