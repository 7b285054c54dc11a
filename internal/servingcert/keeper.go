// SPDX-License-Identifier: Apache-2.0

// Package servingcert keeps the certificates by which the API server knows the
// webhook and injected pods know the broker. It makes an authority, keeps it in
// one Secret, serves a leaf from memory, writes the broker's leaf into another
// Secret and the authority into the webhook's registrations; and it renews all of
// them without a restart.
//
// Every replica does the same and needs no leader: what is there and good is
// taken, what is missing or due is made, and of two who make it the API server
// lets one win. Both Secrets exist, empty, before: the process may update those
// two and create none, because whoever may create Secrets may have the cluster
// put any service account's token into one.
//
// Start at Sync.
package servingcert

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Lives of what is made. A leaf is renewed after two thirds, and so is the
// authority: a pod keeps a working authority for a third of that life after it
// was injected, at least.
const (
	AuthorityLife = 10 * 365 * 24 * time.Hour
	LeafLife      = 90 * 24 * time.Hour
)

const (
	// attempts of a write that others may win; each loss is somebody's success.
	attempts = 5
	// interval between looks, and the longest wait after a failure. It bounds how
	// long a wrong registration or address refuses pods.
	interval = 10 * time.Second
	// firstWait is the wait after a first failure; it doubles up to interval.
	firstWait = time.Second
)

// ErrNotYet is a certificate that is asked for before there is one.
var ErrNotYet = errors.New("there is no serving certificate yet")

// A Client reads and writes single objects.
type Client interface {
	Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error
	Update(ctx context.Context, obj client.Object, opts ...client.UpdateOption) error
	Patch(ctx context.Context, obj client.Object, patch client.Patch, opts ...client.PatchOption) error
}

// Options says where things are.
type Options struct {
	Namespace     string // of both Secrets and both Services
	AuthorityName string // of the authority's Secret
	BrokerSecret  string // name of the Secret with the broker's leaf; empty if there is no broker
	Registration  string // name of the MutatingWebhookConfiguration
	Advice        string // name of the ValidatingWebhookConfiguration, which no pod's creation waits for, or empty

	Service       string // name of the webhook's Service
	BrokerService string // name of the broker's Service

	AuthorityLife time.Duration
	LeafLife      time.Duration
	Now           func() time.Time
	Log           *slog.Logger
}

// Keeper keeps the certificates. It is safe for concurrent use.
type Keeper struct {
	client  Client
	options Options
	held    atomic.Pointer[holding]
	done    atomic.Bool // one Sync has succeeded
	failure atomic.Pointer[string]
}

// holding is what one Sync left in memory.
type holding struct {
	authority authority
	leaf      tls.Certificate
}

// NewKeeper returns a Keeper that holds nothing until the first Sync.
func NewKeeper(c Client, o Options) *Keeper { return &Keeper{client: c, options: o} }

// ServerName is the name in the broker's certificate.
func (k *Keeper) ServerName() string { return k.options.BrokerService + "." + k.domain() }

func (k *Keeper) webhookName() string { return k.options.Service + "." + k.domain() }

func (k *Keeper) domain() string { return k.options.Namespace + ".svc" }

// GetCertificate is for tls.Config.
func (k *Keeper) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	h := k.held.Load()
	if h == nil {
		return nil, ErrNotYet
	}
	return &h.leaf, nil
}

// Bundle is the PEM of whom injected pods must trust, or empty.
func (k *Keeper) Bundle() string {
	h := k.held.Load()
	if h == nil {
		return ""
	}
	return string(h.authority.bundle(k.options.Now()))
}

// Ends returns when the authority and when the leaf in memory ends, or zero times.
func (k *Keeper) Ends() (time.Time, time.Time) {
	h := k.held.Load()
	if h == nil {
		return time.Time{}, time.Time{}
	}
	return h.authority.cert.NotAfter, h.leaf.Leaf.NotAfter
}

// Ready says why pods cannot be served. Once everything was in place, a failing
// API server does not matter as long as the leaf is valid.
func (k *Keeper) Ready() error {
	h := k.held.Load()
	switch {
	case !k.done.Load() && k.failure.Load() != nil:
		return errors.New(*k.failure.Load())
	case !k.done.Load() || h == nil:
		return ErrNotYet
	case !k.options.Now().Before(h.leaf.Leaf.NotAfter):
		return errors.New("the serving certificate has ended")
	default:
		return nil
	}
}

// Run syncs until ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	wait := time.Duration(0)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		if err := k.Sync(ctx); err != nil && ctx.Err() == nil {
			wait = min(max(2*wait, firstWait), interval)
			k.fail(err)
			continue
		}
		wait = interval
	}
}

// fail logs an error when it begins, not each time it is met.
func (k *Keeper) fail(err error) {
	text := err.Error()
	if before := k.failure.Swap(&text); before == nil || *before != text {
		k.options.Log.Error("cannot keep the serving certificates", "error", err)
	}
}

// Sync looks once, and makes what is missing or due. The parts do not wait for
// each other: a registration that cannot be written must not keep the broker
// from its certificate. Nor must one that only warns keep pods from starting, so
// that one counts for the error alone.
func (k *Keeper) Sync(ctx context.Context) error {
	a, err := k.authority(ctx)
	if err != nil {
		return fmt.Errorf("keeping Secret %s: %w", k.options.AuthorityName, err)
	}
	err = errors.Join(k.leaf(a), k.broker(ctx, a), k.mutating(ctx, a))
	if err == nil {
		k.done.Store(true)
	}
	if err = errors.Join(err, k.advising(ctx, a)); err == nil {
		k.failure.Store(nil)
	}
	return err
}

// authority reads it, makes it if there is none, and follows it up when due.
func (k *Keeper) authority(ctx context.Context) (authority, error) {
	var result authority
	err := k.write(ctx, k.options.AuthorityName, func(data map[string][]byte) (map[string][]byte, error) {
		a, changed, err := k.decideAuthority(data)
		result = a
		if err != nil || !changed {
			return nil, err
		}
		return a.encode()
	})
	return result, err
}

func (k *Keeper) decideAuthority(data map[string][]byte) (authority, bool, error) {
	now := k.options.Now()
	if len(data[keyCert]) == 0 && len(data[keyKey]) == 0 {
		a, err := k.anew(now)
		return a, true, err
	}
	a, err := decode(data)
	if err != nil || !due(a.cert, now) {
		return a, false, err
	}
	a, err = a.next(k.domain(), now, k.options.AuthorityLife)
	return a, true, err
}

// anew makes an authority where the Secret holds none. Who has emptied it while we
// run wants another authority and no outage: the new one then follows the one in
// memory, so that what trusts that goes on working. Emptied once more, the Secret
// knows the first one no longer.
func (k *Keeper) anew(now time.Time) (authority, error) {
	if h := k.held.Load(); h != nil {
		return h.authority.next(k.domain(), now, k.options.AuthorityLife)
	}
	return newAuthority(k.domain(), now, k.options.AuthorityLife)
}

// leaf replaces our own certificate if need be. Each replica has its own.
func (k *Keeper) leaf(a authority) error {
	now := k.options.Now()
	leaf := tls.Certificate{}
	if h := k.held.Load(); h != nil {
		leaf = h.leaf
	}
	if !a.good(leaf.Leaf, k.webhookName(), now) {
		made, err := a.issue(k.webhookName(), now, k.options.LeafLife)
		if err != nil {
			return err
		}
		k.options.Log.Info("made the webhook's serving certificate", "until", made.Leaf.NotAfter)
		leaf = made
	}
	k.held.Store(&holding{authority: a, leaf: leaf})
	return nil
}

// The keys of the broker's Secret.
const keyBundle = "ca.crt"

// broker replaces the broker's certificate if need be.
func (k *Keeper) broker(ctx context.Context, a authority) error {
	if k.options.BrokerSecret == "" {
		return nil
	}
	err := k.write(ctx, k.options.BrokerSecret, func(data map[string][]byte) (map[string][]byte, error) {
		now := k.options.Now()
		if k.pairIsGood(a, data, now) && bytes.Equal(data[keyBundle], a.bundle(now)) {
			return nil, nil
		}
		leaf, err := a.issue(k.ServerName(), now, k.options.LeafLife)
		if err != nil {
			return nil, err
		}
		key, err := encodeKey(leaf.PrivateKey)
		return map[string][]byte{corev1.TLSCertKey: encodeChain(leaf), corev1.TLSPrivateKeyKey: key, keyBundle: a.bundle(now)}, err
	})
	if err != nil {
		return fmt.Errorf("keeping Secret %s: %w", k.options.BrokerSecret, err)
	}
	return nil
}

func (k *Keeper) pairIsGood(a authority, data map[string][]byte, now time.Time) bool {
	pair, err := tls.X509KeyPair(data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey])
	return err == nil && a.good(pair.Leaf, k.ServerName(), now)
}

// write reads a Secret and writes what decide makes of its data, nothing if that
// is nil. Of several writers one wins; the others decide again about what it
// wrote. Nothing but the data changes.
func (k *Keeper) write(ctx context.Context, name string, decide func(map[string][]byte) (map[string][]byte, error)) error {
	for range attempts {
		var s corev1.Secret
		if err := k.client.Get(ctx, client.ObjectKey{Namespace: k.options.Namespace, Name: name}, &s); err != nil {
			return err
		}
		data, err := decide(s.Data)
		if err != nil || data == nil {
			return err
		}
		s.Data = data
		err = k.client.Update(ctx, &s) // with the version that was read
		if err == nil {
			k.options.Log.Info("wrote a Secret", "name", name)
		}
		if !apierrors.IsConflict(err) {
			return err
		}
	}
	return errors.New("others keep changing it")
}

// operation is one of a JSON patch.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// mutating and advising keep the two registrations.
func (k *Keeper) mutating(ctx context.Context, a authority) error {
	var r admissionv1.MutatingWebhookConfiguration
	return k.register(ctx, a, registration{"MutatingWebhookConfiguration", k.options.Registration, &r}, func() []hook {
		hooks := make([]hook, 0, len(r.Webhooks))
		for _, w := range r.Webhooks {
			hooks = append(hooks, hook{w.Name, w.ClientConfig.CABundle})
		}
		return hooks
	})
}

func (k *Keeper) advising(ctx context.Context, a authority) error {
	if k.options.Advice == "" {
		return nil
	}
	var r admissionv1.ValidatingWebhookConfiguration
	return k.register(ctx, a, registration{"ValidatingWebhookConfiguration", k.options.Advice, &r}, func() []hook {
		hooks := make([]hook, 0, len(r.Webhooks))
		for _, w := range r.Webhooks {
			hooks = append(hooks, hook{w.Name, w.ClientConfig.CABundle})
		}
		return hooks
	})
}

// registration is what tells the API server of webhooks.
type registration struct {
	kind, name string
	object     client.Object // to read it into
}

// hook is one of a registration, and whom the API server trusts when it calls it.
type hook struct {
	name    string
	trusted []byte
}

// register writes whom the API server must trust when it calls us. A patch of the
// one field leaves alone what a newer API server knows of the rest.
func (k *Keeper) register(ctx context.Context, a authority, r registration, hooks func() []hook) error {
	if err := k.client.Get(ctx, client.ObjectKey{Name: r.name}, r.object); err != nil {
		return fmt.Errorf("reading %s %s: %w", r.kind, r.name, err)
	}
	bundle := a.bundle(k.options.Now())
	var patch []operation
	for i, h := range hooks() {
		if !bytes.Equal(h.trusted, bundle) {
			at := fmt.Sprintf("/webhooks/%d/", i)
			patch = append(patch, operation{"test", at + "name", h.name}, operation{"add", at + "clientConfig/caBundle", bundle})
		}
	}
	if len(patch) == 0 {
		return nil
	}
	text, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("writing a patch: %w", err)
	}
	if err := k.client.Patch(ctx, r.object, client.RawPatch(types.JSONPatchType, text)); err != nil {
		return fmt.Errorf("patching %s %s: %w", r.kind, r.name, err)
	}
	k.options.Log.Info("wrote the authority into a registration", "kind", r.kind, "name", r.name)
	return nil
}
