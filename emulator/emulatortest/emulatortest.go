// SPDX-License-Identifier: Apache-2.0

// Package emulatortest runs the Key Vault emulator inside a test. Start is all there is to begin with: what it returns
// says how to reach the emulator and changes what the vaults hold. It ends with the test.
package emulatortest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/akv2k8s/akv2k8s/emulator"
	"github.com/akv2k8s/akv2k8s/emulator/admin"
	"github.com/akv2k8s/akv2k8s/emulator/keyvault"
	"github.com/akv2k8s/akv2k8s/emulator/pki"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// Instance is an emulator that runs for one test. Its methods end the test when they fail.
type Instance struct {
	// ProxyURL is the value for HTTPS_PROXY and HTTP_PROXY, CAFile for SSL_CERT_FILE.
	ProxyURL string
	CAFile   string
	CAPool   *x509.CertPool
	AdminURL string
	// CA signs what else is to be reached through the proxy, a queue service for one.
	CA *pki.CA
	// Emulator is the emulator itself, for what has no method here.
	Emulator *emulator.Emulator

	tb testing.TB
}

// Start runs an emulator with a seed in the form of a seed file; files that it names are relative to the test's
// working directory.
func Start(tb testing.TB, seedYAML string) *Instance {
	tb.Helper()
	parsed, err := seed.Parse([]byte(seedYAML), os.ReadFile)
	if err != nil {
		tb.Fatalf("parsing the emulator's seed: %v", err)
	}
	ca, err := pki.New()
	if err != nil {
		tb.Fatal(err)
	}
	caFile := filepath.Join(tb.TempDir(), "emulator-ca.crt")
	if err := os.WriteFile(caFile, ca.PEM(), 0o600); err != nil {
		tb.Fatal(err)
	}
	running, err := emulator.Start(tb.Context(), emulator.Config{Seed: parsed, CA: ca})
	if err != nil {
		tb.Fatalf("starting the emulator: %v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), time.Second)
		defer cancel()
		_ = running.Close(ctx) // clients that keep connections open are cut off
	})
	return &Instance{
		ProxyURL: running.ProxyURL(), AdminURL: running.AdminURL(), CAFile: caFile, CAPool: ca.Pool(), CA: ca, Emulator: running,
		tb: tb,
	}
}

// Client is an HTTP client that goes through the proxy and trusts the emulator's CA and nothing else.
func (i *Instance) Client() *http.Client {
	transport := i.Transport()
	i.tb.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// Transport is the transport of Client.
func (i *Instance) Transport() *http.Transport {
	i.tb.Helper()
	through, err := url.Parse(i.ProxyURL)
	if err != nil {
		i.tb.Fatal(err)
	}
	return &http.Transport{Proxy: http.ProxyURL(through), TLSClientConfig: &tls.Config{RootCAs: i.CAPool, MinVersion: tls.VersionTLS12}}
}

// SetSecret adds a version to a secret and returns its id.
func (i *Instance) SetSecret(vault, name, value string) string {
	i.tb.Helper()
	return i.PutSecret(vault, seed.Secret{Meta: seed.Meta{Name: name}, Value: value})
}

// PutSecret is SetSecret with everything that a secret can have.
func (i *Instance) PutSecret(vault string, it seed.Secret) string {
	i.tb.Helper()
	value, err := i.Emulator.Vaults.SetSecret(vault, it)
	i.check("setting a secret", err)
	return value
}

// PutCertificate adds a version to a certificate, imported or generated, and returns its id.
func (i *Instance) PutCertificate(vault string, it seed.Certificate) string {
	i.tb.Helper()
	value, err := i.Emulator.Vaults.PutCertificate(vault, it)
	i.check("putting a certificate", err)
	return value
}

// RotateCertificate adds a version with a new key to a certificate that the vault made, and returns its id.
func (i *Instance) RotateCertificate(vault, name string) string {
	i.tb.Helper()
	value, err := i.Emulator.Vaults.RotateCertificate(vault, name)
	i.check("rotating a certificate", err)
	return value
}

// Certificate reads the current version of a certificate.
func (i *Instance) Certificate(vault, name string) keyvault.CertificateState {
	i.tb.Helper()
	value, err := i.Emulator.Vaults.Certificate(vault, name)
	i.check("reading a certificate", err)
	return value
}

// Secret reads the current version of a secret.
func (i *Instance) Secret(vault, name string) keyvault.SecretState {
	i.tb.Helper()
	value, err := i.Emulator.Vaults.Secret(vault, name)
	i.check("reading a secret", err)
	return value
}

// SetEnabled enables or disables an object; kind is secrets, certificates or keys.
func (i *Instance) SetEnabled(vault, kind, name string, enabled bool) {
	i.tb.Helper()
	i.check("enabling or disabling an object", i.Emulator.Vaults.SetEnabled(vault, kind, name, enabled))
}

// Delete deletes an object softly.
func (i *Instance) Delete(vault, kind, name string) {
	i.tb.Helper()
	i.check("deleting an object", i.Emulator.Vaults.Delete(vault, kind, name, false))
}

// Recover brings a deleted object back.
func (i *Instance) Recover(vault, kind, name string) {
	i.tb.Helper()
	i.check("recovering an object", i.Emulator.Vaults.Recover(vault, kind, name))
}

// SetPermissions replaces who may do what in a vault.
func (i *Instance) SetPermissions(vault string, list ...seed.Permission) {
	i.tb.Helper()
	i.check("setting permissions", i.Emulator.Vaults.SetPermissions(vault, list))
}

// SetFaults replaces the faults of a vault; none clears them.
func (i *Instance) SetFaults(vault string, list ...seed.Fault) {
	i.tb.Helper()
	i.check("setting faults", i.Emulator.Vaults.SetFaults(vault, list))
}

// SendEvents puts the events of all vaults from now on into a queue, which clients then find through the proxy.
func (i *Instance) SendEvents(to seed.EventGrid) {
	i.tb.Helper()
	i.check("sending events", seed.CheckEventGrid(&to))
	i.Emulator.Events.Subscribe("", &to)
}

// Publish sends an event of an object (NewVersionCreated, NearExpiry or Expired); kind is secrets, certificates or keys.
func (i *Instance) Publish(event, vault, kind, name string) {
	i.tb.Helper()
	version, err := i.Emulator.Vaults.Newest(vault, kind, name)
	i.check("describing an object", err)
	i.check("publishing an event", i.Emulator.Events.Publish(event, version))
}

// SetSignInFaults replaces the faults of the login hosts and the metadata service; none clears them.
func (i *Instance) SetSignInFaults(list ...seed.Fault) {
	i.tb.Helper()
	i.check("setting faults of the sign-in", i.Emulator.SetSignInFaults(list))
}

// SetLimit bounds the transactions of a vault, beginning with a full bucket that refills within per; zeros stand for
// what Key Vault grants. ClearLimit takes the limit away.
func (i *Instance) SetLimit(vault string, transactions int, per time.Duration) {
	i.tb.Helper()
	limit := &seed.Limit{Transactions: transactions, Per: seed.Duration(per)}
	i.check("setting a limit", i.Emulator.Vaults.SetLimit(vault, limit))
}

// ClearLimit takes the limit of a vault away.
func (i *Instance) ClearLimit(vault string) {
	i.tb.Helper()
	i.check("clearing a limit", i.Emulator.Vaults.SetLimit(vault, nil))
}

// SetClock puts a vault's clock ahead by an offset, or back by a negative one.
func (i *Instance) SetClock(vault string, offset time.Duration) {
	i.tb.Helper()
	i.check("setting a clock", i.Emulator.Vaults.SetClock(vault, offset))
}

// SetTags replaces the tags of an object; kind is secrets, certificates or keys.
func (i *Instance) SetTags(vault, kind, name string, tags map[string]string) {
	i.tb.Helper()
	i.check("setting tags", i.Emulator.Vaults.Update(vault, kind, name, keyvault.Change{Tags: tags}))
}

// AwaitHanging returns once a hang fault of a vault holds at least n requests.
func (i *Instance) AwaitHanging(vault string, n int) {
	i.tb.Helper()
	i.check("waiting for requests that hang", i.Emulator.Vaults.AwaitHanging(i.tb.Context(), vault, n))
}

// AwaitSignInHanging is AwaitHanging for the login hosts and the metadata service.
func (i *Instance) AwaitSignInHanging(n int) {
	i.tb.Helper()
	i.check("waiting for sign-ins that hang", i.Emulator.AwaitSignInHanging(i.tb.Context(), n))
}

// Counters reads all counters; ResetCounters clears them.
func (i *Instance) Counters() admin.Counters { return i.Emulator.Counters() }

// ResetCounters starts all counters at zero again.
func (i *Instance) ResetCounters() { i.Emulator.ResetCounters() }

// Requests counts the answers to an operation such as "secrets/get" with a status, in all vaults; status 0 is any.
func (i *Instance) Requests(operation string, status int) int {
	total := 0
	for _, each := range i.Emulator.Vaults.Counters() {
		if each.Operation == operation && (status == 0 || each.Status == status) {
			total += each.Count
		}
	}
	return total
}

func (i *Instance) check(what string, err error) {
	i.tb.Helper()
	if err != nil {
		i.tb.Fatalf("%s: %v", what, err)
	}
}
