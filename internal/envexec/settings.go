// SPDX-License-Identifier: Apache-2.0

package envexec

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

const (
	defaultRetries = 3
	defaultWait    = 3 * time.Second
	// maxRetries and maxWait keep a typing error from making a container wait for
	// days: ten doublings of a second are 17 minutes, five of a minute half an hour.
	maxRetries = 10
	maxWait    = time.Minute
)

// settings is what the ENV_INJECTOR_ variables say of the broker.
type settings struct {
	container  string
	brokers    []string // address:port
	serverName string
	roots      *x509.CertPool
}

// budget is how often to ask again, whoever is asked.
type budget struct {
	retries int
	wait    time.Duration
}

// parseSettings reports every problem at once.
func parseSettings(environ []string) (settings, error) {
	var errs []error
	need := func(name string) string {
		text := variable(environ, name)
		if text == "" {
			errs = append(errs, fmt.Errorf("%s is not set: the Env Injector sets it when it admits a pod", name))
		}
		return text
	}
	s := settings{
		container:  need(brokerapi.EnvContainer),
		brokers:    addresses(need(brokerapi.EnvBroker)),
		serverName: need(brokerapi.EnvServerName),
		roots:      x509.NewCertPool(),
	}
	if bundle := need(brokerapi.EnvCABundle); bundle != "" && !s.roots.AppendCertsFromPEM([]byte(bundle)) {
		errs = append(errs, fmt.Errorf("%s holds no PEM certificate", brokerapi.EnvCABundle))
	}
	return s, errors.Join(errs...)
}

func parseBudget(environ []string) (budget, error) {
	retries, err1 := number(environ, brokerapi.EnvRetries, defaultRetries, maxRetries)
	wait, err2 := number(environ, brokerapi.EnvRetryWait, int(defaultWait/time.Second), int(maxWait/time.Second))
	return budget{retries, time.Duration(wait) * time.Second}, errors.Join(err1, err2)
}

func addresses(list string) []string {
	var out []string
	for a := range strings.SplitSeq(list, ",") {
		if a = strings.TrimSpace(a); a != "" {
			out = append(out, a)
		}
	}
	return out
}

func number(environ []string, name string, otherwise, limit int) (int, error) {
	text := variable(environ, name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > limit {
		return 0, fmt.Errorf("%s must be a whole number from 0 to %d", name, limit)
	}
	return n, nil
}

// variable is the last entry of that name, which is the one that Kubernetes
// means when a name occurs twice.
func variable(environ []string, name string) string {
	value := ""
	for _, entry := range environ {
		if n, v, ok := strings.Cut(entry, "="); ok && n == name {
			value = v
		}
	}
	return value
}
