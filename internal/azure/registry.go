// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"k8s.io/apimachinery/pkg/util/cache"

	"github.com/akv2k8s/akv2k8s/internal/secret"
)

// registryScope is what a token for container registries is good for, in every
// cloud; no vault takes one.
const registryScope = "https://containerregistry.azure.net/.default"

const (
	// A registry's refresh token lasts three hours.
	refreshTokenLife = time.Hour
	// Whoever creates pods may name any registry.
	maxRegistries = 256
)

// RegistryIdentity signs in to the container registries of a Credential's cloud.
// It is safe for concurrent use.
type RegistryIdentity struct {
	credential *Credential
	tokens     *cache.LRUExpireCache // host → secret.Value
}

// NewRegistryIdentity signs in as c does. c should be able to read no vault.
func NewRegistryIdentity(c *Credential) *RegistryIdentity {
	return &RegistryIdentity{credential: c, tokens: cache.NewLRUExpireCache(maxRegistries)}
}

// registryName is the part of a registry's host before the cloud's suffix: its
// name, or with those of a region.
var registryName = regexp.MustCompile(`\A[a-z0-9][a-z0-9-]*(\.[a-z0-9][a-z0-9-]*)*\z`)

// Serves says whether a host is a registry of the cloud. A tenant chooses the
// host, so nothing else may ever see a token, on no other port either.
func (r *RegistryIdentity) Serves(host string) bool {
	name, ok := strings.CutSuffix(host, "."+r.credential.cloud.registrySuffix)
	return ok && registryName.MatchString(name)
}

// errForeign is a host that Serves does not know.
var errForeign = errors.New("the host is no container registry of this cloud")

// RefreshToken exchanges a token of Entra ID for one of the registry. The errors
// hold nothing of what the registry said but its status.
func (r *RegistryIdentity) RefreshToken(ctx context.Context, host string) (secret.Value, error) {
	if !r.Serves(host) {
		return secret.Value{}, errForeign
	}
	if kept, ok := r.tokens.Get(host); ok {
		return kept.(secret.Value), nil //nolint:forcetypeassert // only tokens are put in
	}
	token, err := r.credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{registryScope}})
	if err != nil {
		return secret.Value{}, err
	}
	refresh, err := r.exchange(ctx, host, token.Token)
	if err != nil {
		return secret.Value{}, err
	}
	r.tokens.Add(host, refresh, refreshTokenLife)
	return refresh, nil
}

func (r *RegistryIdentity) exchange(ctx context.Context, host, token string) (secret.Value, error) {
	form := url.Values{"grant_type": {"access_token"}, "service": {host}, "access_token": {token}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+host+"/oauth2/exchange", strings.NewReader(form.Encode()))
	if err != nil {
		return secret.Value{}, errForeign
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := r.credential.http.Do(request)
	if err != nil {
		return secret.Value{}, fmt.Errorf("exchanging a token at %s: %w", host, errors.Unwrap(err)) // without the URL
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return secret.Value{}, fmt.Errorf("exchanging a token at %s: status %d", host, response.StatusCode)
	}
	var answer struct {
		RefreshToken string `json:"refresh_token"` //nolint:tagliatelle // the protocol's name
	}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil || answer.RefreshToken == "" {
		return secret.Value{}, fmt.Errorf("exchanging a token at %s: the answer holds none", host)
	}
	return secret.New([]byte(answer.RefreshToken)), nil
}
