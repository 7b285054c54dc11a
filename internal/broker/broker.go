// SPDX-License-Identifier: Apache-2.0

// Package broker answers containers that start: the values behind the
// placeholders of their environment, to the pod itself and nobody else.
//
// Each request takes the same beats. Authenticate whose token this is; gather
// the pod that lives under that name; let package grant decide; read the vault;
// answer, with one line of audit. Only grant thinks, and nothing is written
// anywhere.
//
// Start at New and serve.
package broker

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/grant"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Cluster is what the broker asks the API server. What does not exist is nil,
// without an error; every error but grant.ErrToken is an outage.
type Cluster interface {
	// Caller says whom a token speaks for, or fails with grant.ErrToken.
	Caller(ctx context.Context, token string) (grant.Caller, error)
	// Pod must be the pod as it is now, not as it was a while ago.
	Pod(ctx context.Context, namespace, name string) (*corev1.Pod, error)
	Secret(ctx context.Context, namespace, name string) (*v2beta1.AzureKeyVaultSecret, error)
}

const (
	// answerWithin is less than the wrapper waits, so that it hears why.
	answerWithin = brokerapi.RequestTimeout - 5*time.Second

	// maxRequests at once. A request holds a few hundred kilobytes at most, so
	// this is a bound on memory; what is above is told to come again.
	maxRequests = 512

	// readsAtOnce per request. One container's variables rarely name more.
	readsAtOnce = 8

	// comeAgain is what a caller is told when nobody else knows better.
	comeAgain = 3 * time.Second
)

// Broker answers requests. It keeps nothing between them.
type Broker struct {
	cluster Cluster
	vault   vault.Reader
	log     *slog.Logger
	metrics *Metrics
	slots   chan struct{}
}

// New hands a broker its parts.
func New(cluster Cluster, reader vault.Reader, metrics *Metrics, log *slog.Logger) *Broker {
	return &Broker{cluster: cluster, vault: reader, log: log, metrics: metrics, slots: make(chan struct{}, maxRequests)}
}

// Handler serves brokerapi.ValuesPath.
func (b *Broker) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+brokerapi.ValuesPath, b.serve)
	return mux
}

func (b *Broker) serve(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(r.Context(), answerWithin)
	defer cancel()
	o := b.guarded(w, r.WithContext(ctx))
	o.write(w)
	elapsed := time.Since(began)
	b.metrics.answered(o.result, elapsed)
	b.audit(r.Context(), o, elapsed)
}

// guarded keeps a panic from ending the process, and its value from being seen:
// it may have to do with what was being rendered.
//
// The request is read before it takes a slot: whoever sends one slowly must not
// keep others from theirs.
func (b *Broker) guarded(w http.ResponseWriter, r *http.Request) (o outcome) { //nolint:nonamedreturns // recover can speak through a named result only
	defer func() {
		if recover() != nil {
			b.log.Error("a request ended in a panic", "stack", stack())
			o = failed()
		}
	}()
	token, container, refusal := parse(w, r)
	if refusal != nil {
		return *refusal
	}
	select {
	case b.slots <- struct{}{}:
		defer func() { <-b.slots }()
		return b.respond(r.Context(), token, container)
	default:
		return busy(grant.Verdict{})
	}
}

// respond is the story of one request.
func (b *Broker) respond(ctx context.Context, token, container string) outcome {
	caller, err := b.cluster.Caller(ctx, token)
	if err != nil {
		return b.unauthenticated(ctx, err)
	}
	pod, err := b.cluster.Pod(ctx, caller.Namespace, caller.Pod)
	if err != nil {
		return b.noAPIServer(ctx, grant.Verdict{Caller: caller, Container: container}, err)
	}
	verdict := grant.Check(grant.Request{Caller: caller, Pod: pod, Container: container, Now: time.Now()})
	if !verdict.Allowed {
		return denied(verdict)
	}
	secrets, err := b.secrets(ctx, caller.Namespace, grant.Names(verdict.Variables))
	if err != nil {
		return b.noAPIServer(ctx, verdict, err)
	}
	needs, values := grant.Resolve(verdict.Variables, secrets)
	if len(values.Problems) > 0 { // nothing will start, so nothing need be read
		return refused(verdict, values)
	}
	values = grant.Fill(needs, values, b.read(ctx, grant.References(needs)))
	if len(values.Problems) > 0 {
		return refused(verdict, values)
	}
	return granted(verdict, values)
}

func (b *Broker) secrets(ctx context.Context, namespace string, names []string) (map[string]*v2beta1.AzureKeyVaultSecret, error) {
	out := make(map[string]*v2beta1.AzureKeyVaultSecret, len(names))
	for _, name := range names {
		akvs, err := b.cluster.Secret(ctx, namespace, name)
		if err != nil {
			return nil, err
		}
		if akvs != nil {
			out[name] = akvs
		}
	}
	return out, nil
}
