// SPDX-License-Identifier: Apache-2.0

// Command azure-keyvault-env-direct is azure-keyvault-env for pods that read their vaults
// themselves: it fills the placeholders of its environment and becomes the program given
// as arguments. Packages direct and envexec say how it is configured.
package main

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/akv2k8s/akv2k8s/internal/azure"
	"github.com/akv2k8s/akv2k8s/internal/direct"
	"github.com/akv2k8s/akv2k8s/internal/envexec"
	"github.com/akv2k8s/akv2k8s/internal/placeholder"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

func main() { os.Exit(envexec.Run(world())) }

// heeded are variables of the program that count for the wrapper too.
var heeded = []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"}

// world is that of the wrapper, but for where the values come from.
func world() envexec.World {
	azure.Silence() // the variables are the program's
	w := envexec.System()
	heed(w.Environ)
	w.Source = direct.Source(connect)
	return w
}

// connect signs in by nothing but the pod's token. Azure is outside of the cluster, so
// that the container's proxy counts, and so do the authorities that its image or
// SSL_CERT_FILE trusts.
func connect(id direct.Identity, log *slog.Logger) (vault.Reader, error) { //nolint:ireturn // what package direct asks for
	log = slog.New(quiet{log.Handler()})
	client, err := azure.NewHTTPClient(azure.HTTPOptions{CAs: id.CABundle, HTTP1: true})
	if err != nil {
		return nil, err
	}
	credential, err := azure.NewCredential(azure.SignIn{
		Federated: &azure.Federated{ClientID: id.ClientID, TenantID: id.TenantID, TokenFile: id.TokenFile},
		Cloud:     id.Cloud, HTTP: client, Log: log,
	})
	if err != nil {
		return nil, err
	}
	return azure.NewReader(credential, azure.Options{VaultSuffix: id.VaultSuffix, Log: log})
}

// quiet tells of what is less than a warning only to who debugs: the log is the program's,
// and an object that does not exist and can be done without is no news.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return q.Handler.Enabled(ctx, level) && (level >= slog.LevelWarn || q.Handler.Enabled(ctx, slog.LevelDebug))
}

// heed gives this process back what is heeded, but for what has no value yet.
func heed(environ []string) {
	for _, entry := range environ {
		if name, text, _ := strings.Cut(entry, "="); slices.Contains(heeded, name) && !placeholder.In(text) {
			_ = os.Setenv(name, text)
		}
	}
}
