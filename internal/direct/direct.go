// SPDX-License-Identifier: Apache-2.0

// Package direct answers a container that starts in the broker's place, inside that
// container: the process signs in as its own pod and reads the vaults itself. What may be
// asked for, how it is rendered and what is said when it fails are the broker's (packages
// grant and render); what becomes of the answer is the wrapper's (package envexec).
//
// It asks no API server. Admission has written into the environment what it needs to
// know:
//
//	ENV_INJECTOR_CONTAINER         name of the container; that there is one shows an admitted container
//	ENV_INJECTOR_SECRETS           what the container's AzureKeyVaultSecrets say
//	ENV_INJECTOR_CLIENT_ID         identity to sign in as
//	ENV_INJECTOR_TENANT_ID         its tenant
//	ENV_INJECTOR_CLOUD             the Azure cloud, if not the public one
//	ENV_INJECTOR_VAULT_DNS_SUFFIX  DNS suffix of the vaults, if not the cloud's
//	ENV_INJECTOR_CA_BUNDLE         PEM of authorities to trust besides the usual ones
//
// Start at Source.
package direct

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/envexec"
	"github.com/akv2k8s/akv2k8s/internal/grant"
	"github.com/akv2k8s/akv2k8s/internal/placeholder"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Identity is as whom to sign in, and where.
type Identity struct {
	ClientID, TenantID string
	TokenFile          string
	Cloud, VaultSuffix string // empty is the public cloud, and the cloud's own
	CABundle           string // PEM; may be empty
}

// Connect makes a Reader that signs in as this identity. Nobody is called yet.
type Connect func(Identity, *slog.Logger) (vault.Reader, error)

// readsAtOnce is the broker's.
const readsAtOnce = 8

// Source asks the vaults that connect leads to.
func Source(connect Connect) envexec.Source {
	return func(w envexec.World, log *slog.Logger) (envexec.Ask, error) {
		s, err := parse(w)
		if err != nil {
			return nil, err
		}
		reader, err := connect(s.identity, log)
		if err != nil {
			return nil, fmt.Errorf("signing in to Azure: %w", err)
		}
		needs, values := grant.Resolve(s.variables, s.secrets)
		for i := range values.Problems {
			if values.Problems[i].Reason == v2beta1.ReasonUnknownSecret {
				values.Problems[i].Message = unknown
			}
		}
		return asker{reader, needs, values}.ask, nil
	}
}

// unknown is said of what admission has not seen: it refuses what does not exist.
const unknown = "its AzureKeyVaultSecret is not among those that the pod was created with, which are all that it knows: " +
	"create the pod again if a ConfigMap or Secret has changed since; of what the image sets, repeat it in the container's env"

// settings is what the environment says.
type settings struct {
	identity  Identity
	secrets   map[string]*v2beta1.AzureKeyVaultSecret
	variables []grant.Variable
}

// parse reports every problem at once.
func parse(w envexec.World) (settings, error) {
	var errs []error
	env := map[string]string{}
	var s settings
	for _, entry := range w.Environ {
		name, text, _ := strings.Cut(entry, "=")
		env[name] = text // of entries with one name the last counts
		if !strings.HasPrefix(name, brokerapi.EnvPrefix) && placeholder.In(text) {
			s.variables = append(s.variables, grant.Variable{Name: name, Text: text})
		}
	}
	// The kubelet gives them in any order; what is said of them must not change with it.
	slices.SortStableFunc(s.variables, func(a, b grant.Variable) int { return cmp.Compare(a.Name, b.Name) })
	for _, name := range []string{brokerapi.EnvContainer, brokerapi.EnvSecrets, brokerapi.EnvClientID, brokerapi.EnvTenantID} {
		if env[name] == "" {
			errs = append(errs, fmt.Errorf("%s is not set: the Env Injector sets it when it admits a pod", name))
		}
	}
	s.identity = Identity{
		ClientID: env[brokerapi.EnvClientID], TenantID: env[brokerapi.EnvTenantID], TokenFile: w.TokenFile,
		Cloud: env[brokerapi.EnvCloud], VaultSuffix: env[brokerapi.EnvVaultSuffix], CABundle: env[brokerapi.EnvTrusted],
	}
	if text := env[brokerapi.EnvSecrets]; text != "" {
		var err error
		if s.secrets, err = render.ReadSpecs(text); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", brokerapi.EnvSecrets, err))
		}
	}
	return s, errors.Join(errs...)
}

// asker knows what there is to read.
type asker struct {
	reader vault.Reader
	needs  []grant.Need
	values grant.Values // as far as they are known without reading
}

func (a asker) ask(ctx context.Context) (brokerapi.Response, *envexec.Failure) {
	if len(a.values.Problems) > 0 { // nothing will start, so nothing need be read
		return brokerapi.Response{}, refused(a.values)
	}
	values := grant.Fill(a.needs, a.values, a.read(ctx, grant.References(a.needs)))
	if len(values.Problems) > 0 {
		return brokerapi.Response{}, refused(values)
	}
	if values.Bytes > grant.MaxBytes {
		return brokerapi.Response{}, envexec.Refused(brokerapi.Failure{Message: grant.TooLarge})
	}
	return answer(values), nil
}

func answer(v grant.Values) brokerapi.Response {
	r := brokerapi.Response{Values: revealed(v.Values), Directories: map[string]map[string][]byte{}, Absent: v.Absent}
	for key, files := range v.Directories {
		r.Directories[key] = revealed(files)
	}
	return r
}

func revealed(values map[string]secret.Value) map[string][]byte {
	out := make(map[string][]byte, len(values))
	for name, value := range values {
		out[name] = value.Reveal()
	}
	return out
}

func refused(v grant.Values) *envexec.Failure {
	f := envexec.Refused(v.Failure())
	f.After = v.RetryAfter
	return f
}

// read reads what is needed, a few at a time.
func (a asker) read(ctx context.Context, refs []vault.Reference) map[vault.Reference]grant.Read {
	return grant.Gather(refs, func(wanted map[vault.Reference]vault.Reference) map[vault.Reference]grant.Read {
		return vault.Each(wanted, readsAtOnce, func(ref vault.Reference) grant.Read { return a.readOne(ctx, ref) })
	})
}

// readOne keeps a panic in an adapter from being printed.
func (a asker) readOne(ctx context.Context, ref vault.Reference) (read grant.Read) { //nolint:nonamedreturns // recover can speak through a named result only
	defer func() {
		if recover() != nil {
			read = grant.Read{Err: vault.ErrUnavailable}
		}
	}()
	obj, err := a.reader.Read(ctx, ref)
	return grant.Read{Object: obj, Err: err}
}
