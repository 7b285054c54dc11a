// SPDX-License-Identifier: Apache-2.0

package emulator

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"

	"github.com/akv2k8s/akv2k8s/emulator/entra"
	"github.com/akv2k8s/akv2k8s/emulator/eventgrid"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// eventGridApp is the application id of Event Grid in every tenant.
const eventGridApp = "4962773b-9cdb-44cf-a8bf-237846a00ab7"

// newEvents makes the publisher and tells it what the seed says. It signs in as Event Grid, at this authority and
// without asking anybody.
func newEvents(cfg Config, authority *entra.Authority) *eventgrid.Publisher {
	tenant := cfg.Seed.Tenant
	if tenant == "" {
		tenant = seed.DefaultTenant
	}
	self := entra.Principal{
		Name: "event-grid", TenantID: tenant, ClientID: eventGridApp, ObjectID: derivedID(tenant, eventGridApp),
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots(cfg)}}
	events := eventgrid.New(eventgrid.Config{
		Token: func() (string, error) {
			token, err := authority.Issue(self, "https://storage.azure.com")
			return token.Raw, err
		},
		HTTP: &http.Client{Transport: transport}, Log: cfg.Log,
	})
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		if host, _, err := net.SplitHostPort(address); err == nil {
			if routed, ok := events.Route(host); ok {
				address = routed
			}
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	events.Subscribe("", cfg.Seed.EventGrid)
	for _, v := range cfg.Seed.Vaults {
		events.Subscribe(v.Name, v.EventGrid)
	}
	return events
}

// roots are the machine's authorities and the emulator's own.
func roots(cfg Config) *x509.CertPool {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if cfg.CA != nil {
		pool.AppendCertsFromPEM(cfg.CA.PEM())
	}
	return pool
}
