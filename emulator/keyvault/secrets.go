// SPDX-License-Identifier: Apache-2.0

package keyvault

import (
	"net/http"

	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// Content types of the secrets behind certificates.
const (
	ContentTypePFX = "application/x-pkcs12"
	ContentTypePEM = "application/x-pem-file"
)

type secretBundle struct {
	deletedFields

	Value           *string           `json:"value,omitempty"`
	ContentType     string            `json:"contentType,omitempty"`
	ID              string            `json:"id"`
	Managed         bool              `json:"managed,omitempty"`
	KeyID           string            `json:"kid,omitempty"`
	PreviousVersion string            `json:"previousVersion,omitempty"`
	Attributes      attributes        `json:"attributes"`
	Tags            map[string]string `json:"tags,omitempty"`
}

func secretRoutes() []route {
	return []route{
		at(http.MethodPut, "secrets/{name}", secrets, "set", "set", setSecret),
		at(http.MethodGet, "secrets/{name}/{version}", secrets, "get", "get", getSecret),
		at(http.MethodPatch, "secrets/{name}/{version}", secrets, "update", "set", updateSecret),
	}
}

func (v *vault) secretBundle(o *object, ver *version, withValue bool) secretBundle {
	out := secretBundle{
		deletedFields: v.deletedFields(secrets, o), ContentType: ver.contentType, ID: v.id(secrets, o.name, ver.id),
		Managed: o.managed, PreviousVersion: ver.previous, Attributes: ver.attributes, Tags: ver.tags,
	}
	if withValue {
		out.Value = &ver.value
	}
	if o.managed {
		out.KeyID = v.id(keys, o.name, ver.id)
	}
	return out
}

func (v *vault) secretItem(o *object, ver *version, id string) secretBundle {
	out := v.secretBundle(o, ver, false)
	out.ID, out.KeyID, out.PreviousVersion = id, "", ""
	return out
}

func setSecret(c *call) (*reply, *failure) {
	var in struct {
		Value       *string           `json:"value"`
		ContentType string            `json:"contentType"`
		Attributes  *attributesIn     `json:"attributes"`
		Tags        map[string]string `json:"tags"`
	}
	if bad := c.decode(&in); bad != nil {
		return nil, bad
	}
	if in.Value == nil {
		return nil, badParameter("Required parameter value is missing.")
	}
	if bad := checkSecret(*in.Value, in.ContentType, in.Tags); bad != nil {
		return nil, bad
	}
	o, ver, bad := c.vault.addSecret(c.name, &version{
		value: *in.Value, contentType: in.ContentType, attributes: c.vault.fresh(in.Attributes), tags: in.Tags,
	})
	if bad != nil {
		return nil, bad
	}
	return ok(c.vault.secretBundle(o, ver, true)), nil
}

func checkSecret(value, contentType string, tags map[string]string) *failure {
	switch {
	case len(value) > seed.MaxSecretBytes:
		return badParameter("Secret value is too large. The maximum size is %d bytes.", seed.MaxSecretBytes)
	case len(contentType) > 255:
		return badParameter("Property contentType exceeds the maximum length of 255 characters.")
	}
	return checkTags(tags)
}

// addSecret adds a version to a plain secret, making the secret when it is new.
func (v *vault) addSecret(name string, ver *version) (*object, *version, *failure) {
	o, bad := v.claim(secrets, name)
	if bad != nil {
		return nil, nil, bad
	}
	if o.managed {
		return nil, nil, managedByVault(secrets, "set")
	}
	if ver.id == "" {
		ver.id = newVersionID()
	}
	o.versions = append(o.versions, ver)
	v.put(secrets, o)
	v.announce(secrets, o, ver)
	return o, ver, nil
}

func getSecret(c *call) (*reply, *failure) {
	o, ver, bad := c.vault.version(secrets, c.name, c.version)
	if bad != nil {
		return nil, bad
	}
	if !ver.attributes.Enabled {
		return nil, disabled(secrets, "get")
	}
	out := c.vault.secretBundle(o, ver, true)
	if wanted := c.request.URL.Query().Get("outContentType"); wanted != "" {
		return c.convert(out, ver, wanted)
	}
	return ok(out), nil
}

// convert answers outContentType: the one conversion there is goes from the PFX behind a certificate to PEM.
func (c *call) convert(out secretBundle, ver *version, wanted string) (*reply, *failure) {
	switch {
	case wanted == ver.contentType:
		return ok(out), nil
	case wanted != ContentTypePEM:
		return nil, badParameter("The '%s' content type is not supported as outContentType.", wanted)
	case ver.contentType != ContentTypePFX:
		return nil, badParameter("The 'Unsupported' to 'PEM' transformation is not supported. Only PFX to PEM transformation is supported.")
	}
	text, err := pfxToPEM(ver.value)
	if err != nil {
		return nil, badParameter("The secret value is not a PFX without a password.")
	}
	out.Value, out.ContentType = &text, ContentTypePEM
	return ok(out), nil
}

func updateSecret(c *call) (*reply, *failure) {
	var in struct {
		ContentType *string           `json:"contentType"`
		Attributes  *attributesIn     `json:"attributes"`
		Tags        map[string]string `json:"tags"`
	}
	if bad := c.decode(&in); bad != nil {
		return nil, bad
	}
	o, ver, bad := c.vault.version(secrets, c.name, c.version)
	if bad != nil {
		return nil, bad
	}
	if o.managed {
		return nil, managedByVault(secrets, "update")
	}
	contentType := ver.contentType
	if in.ContentType != nil {
		contentType = *in.ContentType
	}
	if bad := checkSecret("", contentType, in.Tags); bad != nil {
		return nil, bad
	}
	ver.contentType = contentType
	c.vault.update(ver, in.Attributes, in.Tags)
	return ok(c.vault.secretBundle(o, ver, false)), nil
}
