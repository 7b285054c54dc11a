// SPDX-License-Identifier: Apache-2.0

package broker

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/grant"
	"github.com/akv2k8s/akv2k8s/internal/telemetry"
)

// Keys of the audit line that no other process has. docs/audit.md describes all.
const (
	keyResult         = "result"
	keyRule           = "rule"
	keySource         = "source"
	keyServiceAccount = "serviceAccount"
	keyPodUID         = "podUID"
	keyClaimed        = "claimed"
	keySecrets        = "azureKeyVaultSecrets"
	keyObjects        = "objects"
	keyPlaceholders   = "placeholders"
	keyRequests       = "requests"
	keyDuration       = "duration"
)

// audit is one line per answer: who asked for what, and how it ended. Names of
// AzureKeyVaultSecrets and objects are the pod's own affair; reasons are what an
// operator needs. Of what a limit holds, one line a second speaks for all.
func (b *Broker) audit(ctx context.Context, o outcome, elapsed time.Duration) {
	level := slog.LevelInfo
	if o.result != resultAnswered {
		level = slog.LevelWarn
	}
	if o.result == resultLimited && o.requests == 0 {
		level = slog.LevelDebug
	}
	caller := o.verdict.Caller
	attributes := []slog.Attr{
		slog.String(keyResult, string(o.result)),
		slog.String(keyRule, string(o.verdict.Rule)),
		slog.Any(telemetry.KeyReason, reasons(o)),
		slog.String(keySource, address(o.source)),
		slog.String(telemetry.KeyNamespace, caller.Namespace),
		slog.String(keyServiceAccount, caller.ServiceAccount),
		slog.String(telemetry.KeyPod, caller.Pod),
		slog.String(keyPodUID, caller.UID),
		slog.String(telemetry.KeyContainer, o.verdict.Container),
		slog.Any(keySecrets, append([]string{}, grant.Names(o.verdict.Variables)...)), // none is [], not null
		slog.Any(keyObjects, append([]grant.Record{}, o.records...)),
		slog.Int(keyPlaceholders, len(o.verdict.Variables)),
		slog.Int(keyRequests, max(o.requests, 1)),
		slog.String(keyDuration, elapsed.String()),
	}
	if caller == (grant.Caller{}) && o.claim != (grant.Claim{}) {
		attributes = append(attributes, claimed(o.claim))
	}
	b.log.LogAttrs(ctx, level, "request", attributes...)
}

// claimed is what a token says that nobody confirmed, under keys of its own so that
// no query takes it for the truth.
func claimed(c grant.Claim) slog.Attr {
	return slog.Attr{Key: keyClaimed, Value: slog.GroupValue(
		slog.String(telemetry.KeyNamespace, c.Namespace),
		slog.String(keyServiceAccount, c.ServiceAccount),
		slog.String(telemetry.KeyPod, c.Pod),
		slog.String(keyPodUID, c.UID),
	)}
}

func address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
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
		return *noToken(grant.RuleTokenRejected)
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
