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
	"runtime"
	"time"

	"golang.org/x/sync/semaphore"
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
	// Secrets returns those of the names that exist, by name.
	Secrets(ctx context.Context, namespace string, names []string) (map[string]*v2beta1.AzureKeyVaultSecret, error)
}

const (
	// answerWithin is less than the wrapper waits, so that it hears why.
	answerWithin = brokerapi.RequestTimeout - 5*time.Second

	// maxRequests at once; what is above is told to come again.
	maxRequests = 512

	// maxHeld is how many bytes large environments and large answers may take
	// together. Small ones are not counted: 512 environments of them are as much
	// again, and answers fit into the kernel's buffers and wait for no reader.
	maxHeld = 32 << 20
	small   = 64 << 10

	// readsAtOnce per request. One container's variables rarely name more.
	readsAtOnce = 8

	// comeAgain is what a caller is told when nobody else knows better.
	comeAgain = 3 * time.Second

	// again is for what the API server will know in a moment.
	again = time.Second
)

// Broker answers requests. Between them it keeps nothing but who asked how often.
type Broker struct {
	cluster Cluster
	vault   vault.Reader
	log     *slog.Logger
	metrics *Metrics
	limits  *limits
	guard   Guard
	slots   chan struct{}
	hands   chan struct{} // render: more than there are processors would only take memory
	memory  *semaphore.Weighted
}

// A Guard keeps values from containers that were started long ago, in namespaces that
// ask for it. The zero Guard guards none.
type Guard struct {
	StartBudget time.Duration // how long after its start a container may ask
	// Guarded says whether a namespace asks for it. An error is an outage.
	Guarded func(ctx context.Context, namespace string) (bool, error)
}

// An Option of New.
type Option func(*Broker)

// WithGuard sets the Guard.
func WithGuard(g Guard) Option { return func(b *Broker) { b.guard = g } }

// New hands a broker its parts.
func New(cluster Cluster, reader vault.Reader, metrics *Metrics, log *slog.Logger, options ...Option) *Broker {
	b := &Broker{
		cluster: cluster, vault: reader, log: log, metrics: metrics, limits: newLimits(),
		slots:  make(chan struct{}, maxRequests),
		hands:  make(chan struct{}, runtime.GOMAXPROCS(0)),
		memory: semaphore.NewWeighted(maxHeld),
	}
	for _, set := range options {
		set(b)
	}
	return b
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
	defer b.memory.Release(o.weight)
	o.write(w)
	elapsed := time.Since(began)
	b.metrics.answered(o.result, elapsed)
	b.audit(r.Context(), o, elapsed)
}

// guarded keeps a panic from ending the process, and its value from being seen:
// it may have to do with what was being rendered.
func (b *Broker) guarded(w http.ResponseWriter, r *http.Request) (o outcome) { //nolint:nonamedreturns // recover can speak through a named result only
	source := sourceOf(r.RemoteAddr)
	defer func() {
		if recover() != nil {
			b.log.Error("a request ended in a panic", "stack", stack())
			o = failed()
		}
		o.source = source
	}()
	if h := b.limits.sources.take(neighbourhood(source), time.Now()); h != nil {
		return limited(grant.Verdict{}, *h)
	}
	q, refusal := parse(w, r)
	if refusal == nil {
		answer := b.seated(r.Context(), q)
		refusal = &answer
	}
	o = *refusal
	o.claim, o.verdict.Container = q.claim, q.container
	if o.verdict.Rule == grant.RuleTokenRejected {
		b.limits.sources.charge(neighbourhood(source), rejectedCosts, time.Now())
	}
	return o
}

// seated is for requests that were read to their end: whoever sends one slowly must
// not keep others from their slots.
func (b *Broker) seated(ctx context.Context, q request) outcome {
	select {
	case b.slots <- struct{}{}:
		defer func() { <-b.slots }()
		return b.respond(ctx, q)
	default:
		return busy(grant.Verdict{})
	}
}

// respond is the story of one request.
func (b *Broker) respond(ctx context.Context, q request) outcome {
	caller, err := b.cluster.Caller(ctx, q.token)
	if err != nil {
		return b.unauthenticated(ctx, err)
	}
	if h := b.limits.admit(caller, time.Now()); h != nil {
		return limited(grant.Verdict{Caller: caller}, *h)
	}
	pod, err := b.cluster.Pod(ctx, caller.Namespace, caller.Pod)
	if err != nil {
		return b.noAPIServer(ctx, grant.Verdict{Caller: caller}, err)
	}
	verdict, err := b.check(ctx, grant.Request{Caller: caller, Pod: pod, Container: q.container, Now: time.Now()})
	if err != nil {
		return b.noAPIServer(ctx, verdict, err)
	}
	if !verdict.Allowed {
		return denied(verdict)
	}
	weight, ok := b.hold(environment(verdict)) // until the vault has answered
	if !ok {
		return busy(verdict)
	}
	defer b.memory.Release(weight)
	secrets, err := b.cluster.Secrets(ctx, caller.Namespace, grant.Names(verdict.Variables))
	if err != nil {
		return b.noAPIServer(ctx, verdict, err)
	}
	needs, values := grant.Resolve(verdict.Variables, secrets)
	if len(values.Problems) > 0 { // nothing will start, so nothing need be read
		return refused(verdict, values)
	}
	return b.render(ctx, verdict, needs, values)
}

// check lets package grant decide. Whether the namespace is guarded is asked of the API
// server only where the verdict hangs on it, so that a start costs nothing more.
func (b *Broker) check(ctx context.Context, r grant.Request) (grant.Verdict, error) {
	r.Guarded, r.StartBudget = b.guard.Guarded != nil, b.guard.StartBudget
	verdict := grant.Check(r)
	if verdict.Rule != grant.RuleLate {
		return verdict, nil
	}
	guarded, err := b.guard.Guarded(ctx, r.Caller.Namespace)
	switch {
	case err != nil: // no rule has decided
		return grant.Verdict{Caller: r.Caller, Container: r.Container}, err
	case guarded:
		return verdict, nil
	default:
		r.Guarded = false
		return grant.Check(r), nil
	}
}

// render reads and renders, the latter when it is this request's turn.
func (b *Broker) render(ctx context.Context, verdict grant.Verdict, needs []grant.Need, values grant.Values) outcome {
	reads := b.read(ctx, grant.References(needs))
	select {
	case b.hands <- struct{}{}:
		defer func() { <-b.hands }()
	case <-ctx.Done():
		return busy(verdict)
	}
	values = grant.Fill(needs, values, reads)
	o := refused(verdict, values)
	if len(values.Problems) == 0 {
		o = b.granted(verdict, values)
	}
	o.records = grant.Records(needs, reads)
	return o
}

// granted is the answer, if there is room for it.
func (b *Broker) granted(verdict grant.Verdict, values grant.Values) outcome {
	o := granted(verdict, values)
	weight, ok := b.hold(len(o.body))
	if !ok {
		clear(o.body)
		return busy(verdict)
	}
	o.weight = weight
	return o
}

// hold takes what something of this size weighs, if there is as much.
func (b *Broker) hold(size int) (int64, bool) {
	if size <= small {
		return 0, true
	}
	return int64(size), b.memory.TryAcquire(int64(size))
}

// environment is the size of the texts with placeholders.
func environment(v grant.Verdict) int {
	size := 0
	for _, variable := range v.Variables {
		size += len(variable.Text)
	}
	return size
}
