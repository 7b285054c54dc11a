// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// Method is a way to find out how to sign in; it is the value of AUTH_TYPE.
type Method string

// The methods of signing in.
const (
	// MethodCloudConfig reads the node's azure.json.
	MethodCloudConfig Method = "azureCloudConfig"
	// MethodEnvironment reads AZURE_* variables: client secret, certificate, managed identity.
	MethodEnvironment Method = "environment"
	// MethodDefault tries what the Azure SDK tries, workload identity included.
	MethodDefault Method = "environment-azidentity"
)

// DefaultCloudConfig is where a node of AKS keeps its cloud config.
const DefaultCloudConfig = "/etc/kubernetes/azure.json"

// SignIn says how this process signs in.
type SignIn struct {
	Method      Method // empty is MethodCloudConfig
	CloudConfig string // file; empty is DefaultCloudConfig
	// Cloud is the name of the cloud. Empty is what AZURE_ENVIRONMENT says.
	// MethodCloudConfig ignores both: the file names its own.
	Cloud string
	// Getenv reads a variable. Nil is os.Getenv. MethodDefault reads the process's
	// own environment whatever this says.
	Getenv func(string) string
	HTTP   *http.Client // from NewHTTPClient; nil is one with its defaults
	Log    *slog.Logger // nil is silence
	// Federated takes the place of Method, and of every variable that says who signs in.
	Federated *Federated
	// Metrics hears of the requests of this credential and of the Readers that use it;
	// nil is nobody.
	Metrics Metrics
}

// Federated is an application that trusts a token of somebody else's, such as a
// cluster's of a service account.
type Federated struct {
	ClientID, TenantID string
	TokenFile          string
}

const cloudVariable = "AZURE_ENVIRONMENT"

func (s SignIn) getenv(name string) string {
	if name == cloudVariable && s.Cloud != "" {
		return s.Cloud
	}
	return s.Getenv(name)
}

// Credential signs in to Azure. What it was made of (the cloud config, a
// certificate file) is read again whenever a token is needed, so that a rotated
// secret needs no restart; what can no longer be read leaves the last good one in
// place. It is safe for concurrent use.
type Credential struct {
	cloud Cloud
	http  *http.Client
	log   *slog.Logger
	read  func() (settings, error) // nil: nothing to read again

	metrics Metrics

	mu          sync.Mutex
	inner       azcore.TokenCredential
	settings    settings
	complaint   string // last thing logged about reading again
	renew       bool   // the next token must not come from a cache
	lastRenewal time.Time
}

// NewCredential reads how to sign in and checks it; nobody is called yet. Errors
// are sentences that name the file or variable and the field, never the content.
func NewCredential(cfg SignIn) (*Credential, error) {
	if cfg.Getenv == nil {
		cfg.Getenv = os.Getenv
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.HTTP == nil {
		client, err := NewHTTPClient(HTTPOptions{})
		if err != nil {
			return nil, err
		}
		cfg.HTTP = client
	}
	if cfg.Metrics == nil {
		cfg.Metrics = nobody{}
	}
	c := &Credential{http: cfg.HTTP, log: cfg.Log, metrics: cfg.Metrics}
	if cfg.Federated != nil {
		return c.federated(*cfg.Federated, cfg.Cloud)
	}
	switch cfg.Method {
	case MethodCloudConfig, "":
		path := cfg.CloudConfig
		if path == "" {
			path = DefaultCloudConfig
		}
		return c.from(func() (settings, error) { return readCloudConfig(path) })
	case MethodEnvironment:
		return c.from(func() (settings, error) { return readEnvironment(cfg.getenv) })
	case MethodDefault:
		return c.fromDefaults(cfg.getenv(cloudVariable))
	default:
		return nil, fmt.Errorf("the sign-in method %q is not one of %s, %s, %s", cfg.Method, MethodCloudConfig, MethodEnvironment, MethodDefault)
	}
}

func (c *Credential) from(read func() (settings, error)) (*Credential, error) {
	s, err := read()
	if err != nil {
		return nil, err
	}
	if c.cloud, err = ParseCloud(s.cloud); err != nil {
		return nil, fmt.Errorf("%s: %w", s.origin, err)
	}
	if c.inner, err = c.build(s); err != nil {
		return nil, err
	}
	c.read, c.settings = read, s
	return c, nil
}

func (c *Credential) fromDefaults(cloudName string) (*Credential, error) {
	var err error
	if c.cloud, err = ParseCloud(cloudName); err != nil {
		return nil, fmt.Errorf("environment: %w", err)
	}
	c.inner, err = azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{ClientOptions: c.options()})
	if err != nil {
		return nil, errors.New("environment: the Azure SDK found no way to sign in; check the AZURE_* variables")
	}
	return c, nil
}

// federated heeds no variable: they are those of whoever shares the process's
// environment, and AZURE_AUTHORITY_HOST would take the token elsewhere.
func (c *Credential) federated(f Federated, cloudName string) (*Credential, error) {
	var err error
	if c.cloud, err = ParseCloud(cloudName); err != nil {
		return nil, err
	}
	if c.cloud.authority.ActiveDirectoryAuthorityHost == "" {
		c.cloud.authority = cloud.AzurePublic
	}
	if f.ClientID == "" || f.TenantID == "" || f.TokenFile == "" { // the SDK would ask variables
		return nil, errFederated
	}
	c.inner, err = azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
		ClientOptions: c.options(), ClientID: f.ClientID, TenantID: f.TenantID, TokenFilePath: f.TokenFile,
		DisableInstanceDiscovery: true, // the authority is one of ours: a request less for each process
	})
	if err != nil {
		return nil, errFederated
	}
	return c, nil
}

var errFederated = errors.New("the tenant id or client id of the identity is malformed")

// Cloud is where this credential signs in.
func (c *Credential) Cloud() Cloud { return c.cloud }

// build makes the SDK's credential. The SDK's error texts may quote what they
// were given, so none is passed on.
func (c *Credential) build(s settings) (azcore.TokenCredential, error) { //nolint:ireturn // the SDK has one interface for its many credentials
	cred, err := c.buildSDK(s)
	if err != nil {
		return nil, fmt.Errorf("%s: the tenant id, client id or credential is malformed", s.origin)
	}
	return cred, nil
}

func (c *Credential) buildSDK(s settings) (azcore.TokenCredential, error) { //nolint:ireturn // the SDK has one interface for its many credentials
	switch {
	case s.managed:
		return azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ClientOptions: c.options(), ID: identityID(s.identity)})
	case s.secret != "":
		return azidentity.NewClientSecretCredential(s.tenant, s.client, s.secret, &azidentity.ClientSecretCredentialOptions{ClientOptions: c.options()})
	}
	certs, key, err := s.parseCertificate()
	if err != nil {
		return nil, err
	}
	return azidentity.NewClientCertificateCredential(s.tenant, s.client, certs, key, &azidentity.ClientCertificateCredentialOptions{
		ClientOptions: c.options(), SendCertificateChain: true, // needed for trust by subject and issuer, ignored otherwise
	})
}

// identityID tells a resource id from a client id; the cloud config allows both.
func identityID(id string) azidentity.ManagedIDKind { //nolint:ireturn // the SDK's option takes this interface
	switch {
	case id == "":
		return nil
	case strings.HasPrefix(id, "/"):
		return azidentity.ResourceID(id)
	}
	return azidentity.ClientID(id)
}

// options allow two quick retries: sign-in is rare and its hiccups are short,
// while IMDS's defaults would hold a worker for minutes.
func (c *Credential) options() azcore.ClientOptions {
	return azcore.ClientOptions{
		Cloud:     c.cloud.authority,
		Transport: c.http,
		Telemetry: policy.TelemetryOptions{Disabled: true},
		Retry:     policy.RetryOptions{MaxRetries: 2, RetryDelay: 200 * time.Millisecond, MaxRetryDelay: time.Second, TryTimeout: 10 * time.Second},
	}
}

// GetToken implements azcore.TokenCredential. Its errors are *signInError.
func (c *Credential) GetToken(ctx context.Context, opts policy.TokenRequestOptions) (azcore.AccessToken, error) {
	inner, renew := c.next()
	if renew && opts.Claims == "" {
		opts.Claims = freshToken(time.Now())
	}
	seen := &trace{}
	token, err := getToken(seen.watch(ctx), inner, opts)
	if err != nil {
		if renew {
			c.mu.Lock()
			c.renew = true
			c.mu.Unlock()
		}
		failed := newSignInError(seen, err)
		c.metrics.Token(failed.outcome())
		return azcore.AccessToken{}, failed
	}
	if status, _ := seen.last(); status != 0 { // or the SDK had one
		c.metrics.Token(OutcomeOK)
	}
	return token, nil
}

// getToken turns a panic of the SDK into an error. One that passed through would
// leave the SDK's lock on the token taken for ever.
func getToken(ctx context.Context, inner azcore.TokenCredential, opts policy.TokenRequestOptions) (token azcore.AccessToken, err error) { //nolint:nonamedreturns // recover can speak through a named result only
	defer func() {
		if p := recover(); p != nil {
			err = errPanic
		}
	}()
	return inner.GetToken(ctx, opts)
}

// freshToken asks for a token issued from now on, in the words of continuous
// access evaluation; the SDK answers claims from no cache.
func freshToken(now time.Time) string {
	return fmt.Sprintf(`{"access_token":{"nbf":{"essential":true,"value":"%d"}}}`, now.Unix())
}

// renewalInterval keeps a vault that always answers 401 from making us sign in
// over and over.
const renewalInterval = 30 * time.Second

// renewToken makes the next token a fresh one, because a vault refused one that
// has not expired: it was revoked, or the authority's keys changed. It reports
// whether trying again is worth it.
func (c *Credential) renewToken(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now.Sub(c.lastRenewal) < renewalInterval {
		return false
	}
	c.renew, c.lastRenewal = true, now
	return true
}

// next returns the credential to use now, made anew if its settings changed.
func (c *Credential) next() (azcore.TokenCredential, bool) { //nolint:ireturn // the SDK has one interface for its many credentials
	c.mu.Lock()
	defer c.mu.Unlock()
	renew := c.renew
	c.renew = false
	if c.read == nil {
		return c.inner, renew
	}
	s, err := c.read()
	if err == nil && s == c.settings {
		return c.inner, renew
	}
	var inner azcore.TokenCredential
	if err == nil {
		inner, err = c.build(s)
	}
	if err != nil {
		c.complain(err.Error())
		return c.inner, renew
	}
	if s.cloud != c.settings.cloud {
		c.log.Warn("the cloud of the sign-in settings changed; a restart is needed to follow", keyCloud, c.cloud.Name)
	}
	c.inner, c.settings, c.complaint = inner, s, ""
	c.log.Info("sign-in settings changed and were read again", keyOrigin, s.origin)
	return c.inner, renew
}

// complain logs each new fault once; the text is one of our own sentences.
func (c *Credential) complain(text string) {
	if text == c.complaint {
		return
	}
	c.complaint = text
	c.log.Error("sign-in settings cannot be read again; the last good ones stay", keyReason, text)
}
