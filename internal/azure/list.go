// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azcertificates"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// List implements vault.Lister: one page with one request.
func (r *Reader) List(ctx context.Context, of vault.Collection, next string) (vault.Page, error) {
	if !vaultPattern.MatchString(of.Vault) {
		return vault.Page{}, vault.ErrNoVault
	}
	page, err := ask(ctx, r, of, func(ctx context.Context, c *client) (vault.Page, error) {
		if next != "" && !r.leadsTo(of.Vault, next) {
			return vault.Page{}, errAnswer
		}
		return c.list(ctx, of.Kind, next)
	})
	if err != nil {
		return vault.Page{}, r.report(ctx, of, "", err)
	}
	return page, nil
}

// leadsTo says whether a link is the vault's own. The SDK would follow any, with our
// token. Key Vault's links name the port, which its host does not.
func (r *Reader) leadsTo(vaultName, link string) bool {
	to, err := url.Parse(link)
	host := r.host(vaultName)
	return err == nil && to.Scheme == "https" && to.User == nil &&
		(strings.EqualFold(to.Host, host) || strings.EqualFold(to.Host, host+":443"))
}

func (c *client) list(ctx context.Context, kind vault.Kind, next string) (vault.Page, error) {
	switch kind {
	case vault.KindSecret:
		return page(ctx, c.secrets.NewListSecretPropertiesPager(nil), next, func(p azsecrets.ListSecretPropertiesResponse) vault.Page {
			return listed(p.NextLink, p.Value, secretProperties)
		})
	case vault.KindCertificate:
		return page(ctx, c.certificates.NewListCertificatePropertiesPager(nil), next, func(p azcertificates.ListCertificatePropertiesResponse) vault.Page {
			return listed(p.NextLink, p.Value, certificateProperties)
		})
	case vault.KindKey:
		return page(ctx, c.keys.NewListKeyPropertiesPager(nil), next, func(p azkeys.ListKeyPropertiesResponse) vault.Page {
			return listed(p.NextLink, p.Value, keyProperties)
		})
	}
	return vault.Page{}, fmt.Errorf("%w: unknown kind", errAnswer)
}

// page fetches the first page or the one behind a link. The SDK's pager cannot be
// used again once it failed, so each page has its own, which is told how far the
// one before had come.
func page[T any](ctx context.Context, pager *runtime.Pager[T], next string, read func(T) vault.Page) (vault.Page, error) {
	if next != "" {
		before, err := json.Marshal(map[string]string{"nextLink": next})
		if err != nil {
			return vault.Page{}, errAnswer
		}
		if err := json.Unmarshal(before, pager); err != nil {
			return vault.Page{}, errAnswer
		}
		if _, err := pager.NextPage(ctx); err != nil { // what it was told
			return vault.Page{}, err
		}
	}
	got, err := pager.NextPage(ctx)
	if err != nil {
		return vault.Page{}, err
	}
	return read(got), nil
}

// listed leaves out an item that does not say what it is about.
func listed[T any](next *string, items []*T, properties func(*T) (vault.Properties, bool)) vault.Page {
	out := vault.Page{Items: make([]vault.Properties, 0, len(items))}
	if next != nil {
		out.Next = *next
	}
	for _, item := range items {
		if item == nil {
			continue
		}
		if p, ok := properties(item); ok {
			out.Items = append(out.Items, p)
		}
	}
	return out
}

func secretProperties(p *azsecrets.SecretProperties) (vault.Properties, bool) {
	if p.ID == nil || p.Attributes == nil {
		return vault.Properties{}, false
	}
	return properties(p.ID.Name(), p.Attributes.Updated, p.Attributes.Enabled), true
}

func certificateProperties(p *azcertificates.CertificateProperties) (vault.Properties, bool) {
	if p.ID == nil || p.Attributes == nil {
		return vault.Properties{}, false
	}
	return properties(p.ID.Name(), p.Attributes.Updated, p.Attributes.Enabled), true
}

func keyProperties(p *azkeys.KeyProperties) (vault.Properties, bool) {
	if p.KID == nil || p.Attributes == nil {
		return vault.Properties{}, false
	}
	return properties(p.KID.Name(), p.Attributes.Updated, p.Attributes.Enabled), true
}

// properties takes what does not say that it is disabled for enabled, as Key Vault
// does when it is written.
func properties(name string, updated *time.Time, enabled *bool) vault.Properties {
	return vault.Properties{Name: name, Updated: instant(updated), Enabled: enabled == nil || *enabled}
}
