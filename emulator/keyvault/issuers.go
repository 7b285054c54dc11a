// SPDX-License-Identifier: Apache-2.0

package keyvault

import (
	"maps"
	"net/http"
	"slices"
	"strings"
)

// Issuers and contacts are kept and given back; nothing is ever ordered from an issuer and nobody is ever written to.
func issuerRoutes() []route {
	const k, one, contacts = certificates, "certificates/issuers/{name}", "certificates/contacts"
	return []route{
		at(http.MethodGet, "certificates/issuers", k, "listIssuers", "listissuers", listIssuers),
		at(http.MethodGet, one, k, "getIssuer", "getissuers", getIssuer),
		at(http.MethodPut, one, k, "setIssuer", "setissuers", setIssuer),
		at(http.MethodPatch, one, k, "updateIssuer", "setissuers", updateIssuer),
		at(http.MethodDelete, one, k, "deleteIssuer", "deleteissuers", deleteIssuer),
		at(http.MethodGet, contacts, k, "getContacts", "managecontacts", getContacts),
		at(http.MethodPut, contacts, k, "setContacts", "managecontacts", setContacts),
		at(http.MethodDelete, contacts, k, "deleteContacts", "managecontacts", deleteContacts),
	}
}

func issuerNotFound(name string) *failure {
	return &failure{status: http.StatusNotFound, code: "CertificateIssuerNotFound", message: "Issuer not found: " + name}
}

func listIssuers(c *call) (*reply, *failure) {
	return c.page(slices.Sorted(maps.Keys(c.vault.issuers)), func(name string) any {
		it := c.vault.issuers[name]
		return map[string]any{"id": it["id"], "provider": it["provider"]}
	})
}

func (c *call) issuer() (map[string]any, *failure) {
	if it := c.vault.issuers[strings.ToLower(c.name)]; it != nil {
		return it, nil
	}
	return nil, issuerNotFound(c.name)
}

func getIssuer(c *call) (*reply, *failure) {
	it, bad := c.issuer()
	if bad != nil {
		return nil, bad
	}
	return ok(it), nil
}

func setIssuer(c *call) (*reply, *failure) {
	in := map[string]any{}
	if bad := c.decode(&in); bad != nil {
		return nil, bad
	}
	if provider, _ := in["provider"].(string); provider == "" {
		return nil, badParameter("Required property provider is missing.")
	}
	now := c.vault.now().Unix()
	in["id"] = c.vault.id(certificates, "issuers", c.name)
	given, _ := in["attributes"].(map[string]any)
	merged := map[string]any{"enabled": true, "created": now, "updated": now}
	maps.Copy(merged, given)
	in["attributes"] = merged
	c.vault.issuers[strings.ToLower(c.name)] = in
	return ok(in), nil
}

func updateIssuer(c *call) (*reply, *failure) {
	in := map[string]any{}
	if bad := c.decode(&in); bad != nil {
		return nil, bad
	}
	it, bad := c.issuer()
	if bad != nil {
		return nil, bad
	}
	kept, _ := it["attributes"].(map[string]any)
	changed, _ := in["attributes"].(map[string]any)
	maps.Copy(it, in)
	maps.Copy(kept, changed)
	kept["updated"] = c.vault.now().Unix()
	it["attributes"] = kept
	return ok(it), nil
}

func deleteIssuer(c *call) (*reply, *failure) {
	it, bad := c.issuer()
	if bad != nil {
		return nil, bad
	}
	delete(c.vault.issuers, strings.ToLower(c.name))
	return ok(it), nil
}

func (v *vault) contactList() map[string]any {
	return map[string]any{"id": v.id(certificates, "contacts"), "contacts": v.contacts}
}

func getContacts(c *call) (*reply, *failure) {
	if c.vault.contacts == nil {
		return nil, &failure{status: http.StatusNotFound, code: "ContactsNotFound", message: "Contacts not found"}
	}
	return ok(c.vault.contactList()), nil
}

func setContacts(c *call) (*reply, *failure) {
	var in struct {
		Contacts []map[string]any `json:"contacts"`
	}
	if bad := c.decode(&in); bad != nil {
		return nil, bad
	}
	c.vault.contacts = in.Contacts
	return ok(c.vault.contactList()), nil
}

func deleteContacts(c *call) (*reply, *failure) {
	gone := c.vault.contactList()
	c.vault.contacts = nil
	return ok(gone), nil
}
