// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

// The ways to bear a vault that does not answer.
const (
	UnavailableFail      = "fail"
	UnavailableUseCached = "use-cached"
)

// The start budget must be longer than a wrapper waits between its tries, 21 s in all,
// and than clocks differ; and short beside the time that a container runs.
const (
	minStartBudget = 30 * time.Second
	maxStartBudget = time.Hour
)

// Broker is the configuration of azure-keyvault-broker.
type Broker struct {
	Log     Log
	Azure   Azure
	Reading Reading

	// OnVaultUnavailable is what a container gets when its vault does not answer:
	// UnavailableFail or UnavailableUseCached.
	OnVaultUnavailable string
	CachedMaxAge       time.Duration // the oldest value that UnavailableUseCached gives

	// ExecGuardBudget is how long after its start a container of a guarded namespace may
	// ask; 0 guards none.
	ExecGuardBudget time.Duration

	Kubeconfig string // file; empty is the pod's own account
	Master     string // address of the API server; empty is the kubeconfig's

	TLSPort  int    // of POST /v1/values
	HTTPPort int    // of /healthz, /readyz and /metrics
	CertDir  string // holds tls.crt and tls.key, read again when they change

	Version bool // print the version and end
}

// ParseBroker reads the broker's flags, then its environment. Help and the
// flags' own complaints go to output.
func ParseBroker(args []string, getenv func(string) string, output io.Writer) (Broker, error) {
	var b Broker
	o := newOptions("azure-keyvault-broker",
		"azure-keyvault-broker answers starting containers with the values from Azure Key Vault that their pod may have.", output)
	b.Azure.declare(o)
	b.Reading.declare(o)
	o.text(&b.OnVaultUnavailable, "on-vault-unavailable", "ON_VAULT_UNAVAILABLE", UnavailableFail,
		"what a starting container gets when its vault does not answer, fails or throttles: fail, or use-cached for the last value that this process read, from its memory")
	o.duration(&b.CachedMaxAge, "cached-max-age", "CACHED_MAX_AGE", time.Hour, "the oldest value that use-cached gives")
	o.duration(&b.ExecGuardBudget, "exec-guard-start-budget", "EXEC_GUARD_START_BUDGET", 0,
		"how long after its start a container may ask for its values in namespaces with the label "+brokerapi.GuardLabel+": "+brokerapi.GuardValue+"; 0 makes nothing of that label")
	o.text(&b.Kubeconfig, "kubeconfig", "KUBECONFIG", "", "kubeconfig file, to run outside of a cluster")
	o.text(&b.Master, "master", "", "", "address of the API server, when the kubeconfig's does not fit")
	o.integer(&b.TLSPort, "tls-port", "TLS_PORT", 9443, "port for containers, with TLS")
	o.integer(&b.HTTPPort, "http-port", "HTTP_PORT", 8080, "port of /healthz, /readyz and /metrics, without TLS")
	o.text(&b.CertDir, "cert-dir", "CERT_DIR", "/etc/azure-keyvault-broker/tls", "directory of the serving certificate, tls.crt and tls.key; read again when they change")
	b.Log.declare(o)
	o.boolean(&b.Version, "version", "", false, "print the version and end")
	if err := o.parse(args, getenv); err != nil {
		return Broker{}, err
	}
	return b, b.validate()
}

func (b *Broker) validate() error {
	errs := []error{
		b.Azure.validate(), b.Log.validate(), b.Reading.validate(),
		oneOf("--on-vault-unavailable", b.OnVaultUnavailable, UnavailableFail, UnavailableUseCached),
		port("--tls-port", b.TLSPort), port("--http-port", b.HTTPPort),
	}
	if b.CachedMaxAge < time.Second || b.CachedMaxAge > 7*24*time.Hour {
		errs = append(errs, fmt.Errorf("--cached-max-age: %s is not between 1s and 168h", b.CachedMaxAge))
	}
	if b.ExecGuardBudget != 0 && (b.ExecGuardBudget < minStartBudget || b.ExecGuardBudget > maxStartBudget) {
		errs = append(errs, fmt.Errorf("--exec-guard-start-budget: %s is neither 0 nor between %s and %s", b.ExecGuardBudget, minStartBudget, maxStartBudget))
	}
	if b.TLSPort == b.HTTPPort {
		errs = append(errs, fmt.Errorf("--tls-port and --http-port: both are %d", b.TLSPort))
	}
	if b.CertDir == "" {
		errs = append(errs, errors.New("--cert-dir: the serving certificate must come from somewhere"))
	}
	return errors.Join(errs...)
}
