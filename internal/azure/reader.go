// SPDX-License-Identifier: Apache-2.0

// Package azure is the only package that speaks to Azure: it signs in, reads
// objects of Key Vault in the words of package vault, and receives from a Storage
// queue what Event Grid put there.
//
// It neither caches nor retries nor schedules; that is for whoever calls it. No
// text of a remote answer leaves it but for status and error codes in the log.
// Start at NewCredential, NewReader and NewQueue.
package azure

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Options of a Reader. The zero value is good for production.
type Options struct {
	// VaultSuffix replaces the suffix of the credential's cloud. It is the
	// operator's to choose: every host below it may be sent our tokens.
	VaultSuffix string
	// Timeout bounds one read, sign-in included. The default is 20 seconds.
	Timeout time.Duration
	Log     *slog.Logger // nil is silence
}

const defaultTimeout = 20 * time.Second

// Reader reads objects of any vault below one DNS suffix. It is safe for
// concurrent use and implements vault.Reader and vault.Lister.
type Reader struct {
	cred    *Credential
	suffix  string
	timeout time.Duration
	log     *slog.Logger

	mu     sync.Mutex
	vaults map[string]*client
}

var (
	_ vault.Reader = (*Reader)(nil)
	_ vault.Lister = (*Reader)(nil)
)

// NewReader makes a Reader that signs in with cred and shares its HTTP client.
func NewReader(cred *Credential, o Options) (*Reader, error) {
	suffix := cred.Cloud().VaultSuffix
	if o.VaultSuffix != "" {
		var err error
		if suffix, err = parseSuffix(o.VaultSuffix); err != nil {
			return nil, err
		}
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Reader{cred: cred, suffix: suffix, timeout: o.Timeout, log: o.Log, vaults: map[string]*client{}}, nil
}

// client speaks to one vault. The SDK's clients are kept because each starts with
// a request that only finds out how the vault wants to be spoken to.
type client struct {
	secrets      *azsecrets.Client
	certificates *azcertificates.Client
	keys         *azkeys.Client
	first        map[vault.Kind]*first
}

// first lets the first request to a vault go alone: each that goes before one was
// answered would find out for itself how the vault wants to be spoken to.
type first struct {
	turn chan struct{} // holds one token
	done atomic.Bool
}

func newFirst() *first {
	f := &first{turn: make(chan struct{}, 1)}
	f.turn <- struct{}{}
	return f
}

// wait returns what to call with the outcome once there is one.
func (f *first) wait(ctx context.Context) (func(error), error) {
	nothing := func(error) {}
	if f == nil || f.done.Load() {
		return nothing, nil
	}
	select {
	case <-ctx.Done():
		return nothing, ctx.Err()
	case <-f.turn:
	}
	if f.done.Load() {
		f.turn <- struct{}{}
		return nothing, nil
	}
	return func(err error) {
		_, answered := errors.AsType[*azcore.ResponseError](err)
		f.done.Store(err == nil || answered && !refusedToken(err))
		f.turn <- struct{}{}
	}, nil
}

var (
	vaultPattern   = regexp.MustCompile(`\A[A-Za-z0-9-]{3,24}\z`)
	objectPattern  = regexp.MustCompile(`\A[0-9A-Za-z-]{1,127}\z`)
	versionPattern = regexp.MustCompile(`\A([0-9A-Fa-f]{32})?\z`)
)

// Read reads one object with one request, or two where the vault must first say
// how to sign in. It fails with the errors of package vault. What the vault
// answered beyond that is logged, once, scrubbed.
func (r *Reader) Read(ctx context.Context, ref vault.Reference) (vault.Object, error) {
	// A name that cannot exist is not worth a request, and must not get to shape one.
	switch {
	case !vaultPattern.MatchString(ref.Vault):
		return vault.Object{}, vault.ErrNoVault
	case !objectPattern.MatchString(ref.Name), !versionPattern.MatchString(ref.Version):
		return vault.Object{}, vault.ErrNotFound
	}
	var clock *http.Response
	obj, err := ask(policy.WithCaptureResponse(ctx, &clock), r, ref.Collection(), func(ctx context.Context, c *client) (vault.Object, error) {
		return c.read(ctx, ref)
	})
	if err != nil {
		return vault.Object{}, r.report(ctx, ref.Collection(), ref.Name, err)
	}
	obj.Answered = dateOf(clock)
	return obj, nil
}

// ask sends a request, and once more with a fresh token where the vault refused one
// that has not expired.
func ask[T any](ctx context.Context, r *Reader, of vault.Collection, request func(context.Context, *client) (T, error)) (T, error) { //nolint:ireturn // an object or a page
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	out, err := attempt(ctx, r, of, request)
	if refusedToken(err) && r.cred.renewToken(time.Now()) {
		out, err = attempt(ctx, r, of, request)
	}
	return out, err
}

// dateOf is the vault's clock at its answer.
func dateOf(resp *http.Response) time.Time {
	if resp == nil {
		return time.Time{}
	}
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return time.Time{}
	}
	return date
}

func refusedToken(err error) bool {
	e, ok := errors.AsType[*azcore.ResponseError](err)
	return ok && e.StatusCode == 401
}

// attempt turns a panic into an error: the SDK takes a challenge apart with
// little care, and an odd one must not end the process.
func attempt[T any](ctx context.Context, r *Reader, of vault.Collection, request func(context.Context, *client) (T, error)) (out T, err error) { //nolint:ireturn,nonamedreturns // T is an object or a page; recover can speak through a named result only
	settle := func(error) {}
	defer func() {
		if p := recover(); p != nil {
			out, err = *new(T), errPanic
		}
		settle(err)
	}()
	c, err := r.client(of.Vault)
	if err != nil {
		return *new(T), err
	}
	if settle, err = c.first[of.Kind].wait(ctx); err != nil {
		return *new(T), err
	}
	return request(ctx, c)
}

// report logs a failure once, and translates it. A list has no object.
func (r *Reader) report(ctx context.Context, of vault.Collection, object string, err error) error {
	f := classify(err, r.host(of.Vault), time.Now())
	if errors.Is(f.err, vault.ErrNoVault) {
		r.forget(of.Vault)
	}
	attributes := []any{keyVault, of.Vault, keyKind, string(of.Kind)}
	if object != "" {
		attributes = append(attributes, keyObject, object)
	}
	r.log.Log(ctx, f.level(), "reading from the vault failed", append(attributes, f.attributes()...)...)
	return f.err
}

// VaultSuffix is the DNS suffix of the vaults.
func (r *Reader) VaultSuffix() string { return r.suffix }

func (r *Reader) host(name string) string { return strings.ToLower(name) + "." + r.suffix }

func (r *Reader) client(name string) (*client, error) {
	name = strings.ToLower(name)
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, ok := r.vaults[name]; ok {
		return c, nil
	}
	c, err := newClient("https://"+r.host(name), name, r.cred)
	if err != nil {
		return nil, err
	}
	r.vaults[name] = c
	return c, nil
}

// forget drops the client of a vault that does not exist, lest invented names
// fill the memory.
func (r *Reader) forget(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.vaults, strings.ToLower(name))
}

func newClient(url, name string, cred *Credential) (*client, error) {
	options := azcore.ClientOptions{
		PerRetryPolicies: []policy.Policy{counter{name, cred.metrics}},
		Transport:        cred.http,
		// Retrying belongs to whoever schedules reads for the whole process: the
		// SDK would hold a worker for ten seconds at a 429.
		Retry:     policy.RetryOptions{MaxRetries: -1},
		Telemetry: policy.TelemetryOptions{Disabled: true},
	}
	secrets, err1 := azsecrets.NewClient(url, cred, &azsecrets.ClientOptions{ClientOptions: options})
	certificates, err2 := azcertificates.NewClient(url, cred, &azcertificates.ClientOptions{ClientOptions: options})
	keys, err3 := azkeys.NewClient(url, cred, &azkeys.ClientOptions{ClientOptions: options})
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("making the vault's client: %w", err)
	}
	return &client{secrets, certificates, keys, map[vault.Kind]*first{
		vault.KindSecret: newFirst(), vault.KindCertificate: newFirst(), vault.KindKey: newFirst(),
	}}, nil
}

func (c *client) read(ctx context.Context, ref vault.Reference) (vault.Object, error) {
	switch {
	case ref.Kind == vault.KindSecret, ref.Kind == vault.KindCertificate && ref.PrivateKey:
		return c.readSecret(ctx, ref)
	case ref.Kind == vault.KindCertificate:
		return c.readCertificate(ctx, ref)
	case ref.Kind == vault.KindKey:
		return c.readKey(ctx, ref)
	}
	return vault.Object{}, fmt.Errorf("%w: unknown kind", errAnswer)
}

func (c *client) readSecret(ctx context.Context, ref vault.Reference) (vault.Object, error) {
	resp, err := c.secrets.GetSecret(ctx, ref.Name, ref.Version, nil)
	if err != nil {
		return vault.Object{}, err
	}
	if resp.Value == nil || resp.ID == nil {
		return vault.Object{}, errAnswer
	}
	obj := vault.Object{Version: resp.ID.Version(), Value: secret.New([]byte(*resp.Value))}
	if resp.ContentType != nil {
		obj.ContentType = *resp.ContentType
	}
	if a := resp.Attributes; a != nil {
		obj.Updated, obj.NotBefore, obj.Expires = instant(a.Updated), instant(a.NotBefore), instant(a.Expires)
	}
	return obj, nil
}

func (c *client) readCertificate(ctx context.Context, ref vault.Reference) (vault.Object, error) {
	resp, err := c.certificates.GetCertificate(ctx, ref.Name, ref.Version, nil)
	if err != nil {
		return vault.Object{}, err
	}
	switch {
	case resp.ID == nil:
		return vault.Object{}, errAnswer
	case len(resp.CER) == 0:
		return vault.Object{}, vault.ErrPending
	}
	obj := vault.Object{Version: resp.ID.Version(), Certificate: resp.CER}
	if a := resp.Attributes; a != nil {
		obj.Updated, obj.NotBefore, obj.Expires = instant(a.Updated), instant(a.NotBefore), instant(a.Expires)
	}
	return obj, nil
}

func (c *client) readKey(ctx context.Context, ref vault.Reference) (vault.Object, error) {
	resp, err := c.keys.GetKey(ctx, ref.Name, ref.Version, nil)
	if err != nil {
		return vault.Object{}, err
	}
	if resp.Key == nil || resp.Key.KID == nil || resp.Key.Kty == nil {
		return vault.Object{}, errAnswer
	}
	k := vault.Key{Type: string(*resp.Key.Kty), N: resp.Key.N, E: resp.Key.E, X: resp.Key.X, Y: resp.Key.Y}
	if resp.Key.Crv != nil {
		k.Curve = string(*resp.Key.Crv)
	}
	obj := vault.Object{Version: resp.Key.KID.Version(), Key: k}
	if a := resp.Attributes; a != nil {
		obj.Updated, obj.NotBefore, obj.Expires = instant(a.Updated), instant(a.NotBefore), instant(a.Expires)
	}
	return obj, nil
}

// instant is the zero time for what the vault does not say.
func instant(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}
