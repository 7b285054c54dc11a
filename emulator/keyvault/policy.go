// SPDX-License-Identifier: Apache-2.0

package keyvault

import (
	"crypto/x509"
	"strings"
)

// policy says how a certificate is made. Parts that a client sends are kept as sent; parts it leaves out are filled
// in when the certificate is made, and a PATCH replaces whole parts.
type policy struct {
	ID         string           `json:"id,omitempty"`
	Key        *keyProps        `json:"key_props,omitempty"`
	Secret     *secretProps     `json:"secret_props,omitempty"`
	X509       *x509Props       `json:"x509_props,omitempty"`
	Actions    []lifetimeAction `json:"lifetime_actions,omitempty"`
	Issuer     *issuerParams    `json:"issuer,omitempty"`
	Attributes *attributes      `json:"attributes,omitempty"`
}

type keyProps struct {
	Exportable *bool  `json:"exportable,omitempty"`
	Type       string `json:"kty,omitempty"`
	Size       int    `json:"key_size,omitempty"`
	Reuse      *bool  `json:"reuse_key,omitempty"`
	Curve      string `json:"crv,omitempty"`
}

type secretProps struct {
	ContentType string `json:"contentType,omitempty"`
}

type x509Props struct {
	Subject     string       `json:"subject"`
	Names       *subjectAlts `json:"sans,omitempty"`
	Usages      []string     `json:"ekus,omitempty"`
	KeyUsages   []string     `json:"key_usage,omitempty"`
	Months      int          `json:"validity_months,omitempty"`
	Constraints *constraints `json:"basic_constraints,omitempty"`
}

type constraints struct {
	CA bool `json:"ca"`
}

type subjectAlts struct {
	DNS    []string `json:"dns_names,omitempty"`
	Emails []string `json:"emails,omitempty"`
	UPNs   []string `json:"upns,omitempty"`
	IPs    []string `json:"ipAddresses,omitempty"`
	URIs   []string `json:"uris,omitempty"`
}

type lifetimeAction struct {
	Trigger lifetimeTrigger `json:"trigger"`
	Action  lifetimeVerb    `json:"action"`
}

type lifetimeTrigger struct {
	Percentage int `json:"lifetime_percentage,omitempty"`
	Days       int `json:"days_before_expiry,omitempty"`
}

type lifetimeVerb struct {
	Type string `json:"action_type"`
}

type issuerParams struct {
	Name         string `json:"name,omitempty"`
	Type         string `json:"cty,omitempty"`
	Transparency *bool  `json:"cert_transparency,omitempty"`
}

const (
	serverAuth = "1.3.6.1.5.5.7.3.1"
	clientAuth = "1.3.6.1.5.5.7.3.2"
)

// complete fills in what the service fills in.
func (p *policy) complete() *failure {
	switch {
	case p == nil:
		return badParameter("Required property policy is missing.")
	case p.Issuer == nil || p.Issuer.Name == "":
		return badParameter("Required property policy.issuer.name is missing.")
	case p.X509 == nil || p.X509.Subject == "" && (p.X509.Names == nil || len(p.X509.Names.DNS) == 0):
		return badParameter("Required property policy.x509_props.subject is missing.")
	}
	if bad := p.completeKey(); bad != nil {
		return bad
	}
	if p.Secret == nil || p.Secret.ContentType == "" {
		p.Secret = &secretProps{ContentType: ContentTypePFX}
	}
	if p.Secret.ContentType != ContentTypePFX && p.Secret.ContentType != ContentTypePEM {
		return badParameter("Property policy.secret_props.contentType has an invalid value.")
	}
	p.completeX509()
	if p.Actions == nil {
		p.Actions = []lifetimeAction{{Trigger: lifetimeTrigger{Percentage: 80}, Action: lifetimeVerb{Type: "AutoRenew"}}}
		if !p.selfSigned() {
			p.Actions[0].Action.Type = "EmailContacts"
		}
	}
	return nil
}

func (p *policy) completeKey() *failure {
	if p.Key == nil {
		p.Key = &keyProps{}
	}
	k := p.Key
	if k.Type == "" {
		k.Type = "RSA"
	}
	if k.Exportable == nil {
		k.Exportable = new(true)
	}
	if k.Reuse == nil {
		k.Reuse = new(false)
	}
	if strings.HasPrefix(k.Type, "RSA") && k.Size == 0 {
		k.Size = 2048
	}
	if strings.HasPrefix(k.Type, "EC") && k.Curve == "" {
		k.Curve = curveP256
	}
	if k.Curve == curveP256K {
		return notEmulated("a certificate with a P-256K key")
	}
	return nil
}

func (p *policy) completeX509() {
	x := p.X509
	if x.Usages == nil {
		x.Usages = []string{serverAuth, clientAuth}
	}
	if x.KeyUsages == nil {
		x.KeyUsages = []string{"digitalSignature", "keyEncipherment"}
	}
	if x.Months == 0 {
		x.Months = 12
	}
	if x.Constraints == nil {
		x.Constraints = &constraints{}
	}
}

func (p *policy) selfSigned() bool {
	return p.Issuer != nil && strings.EqualFold(p.Issuer.Name, "self")
}

func (p *policy) exportable() bool {
	return p.Key == nil || p.Key.Exportable == nil || *p.Key.Exportable
}

// merge replaces the parts that a PATCH sends.
func (p *policy) merge(in policy) {
	if in.Key != nil {
		p.Key = in.Key
	}
	if in.Secret != nil {
		p.Secret = in.Secret
	}
	if in.X509 != nil {
		p.X509 = in.X509
	}
	if in.Actions != nil {
		p.Actions = in.Actions
	}
	if in.Issuer != nil {
		p.Issuer = in.Issuer
	}
}

// policyOf describes an imported certificate.
func policyOf(leaf *x509.Certificate, m *material, given *policy, contentType string) *policy {
	p := &policy{
		Key:     &keyProps{Type: m.kind(), Curve: m.curve(), Exportable: new(true), Reuse: new(false)},
		Secret:  &secretProps{ContentType: contentType},
		X509:    &x509Props{Subject: leaf.Subject.String(), Months: monthsOf(leaf), Constraints: &constraints{CA: leaf.IsCA}},
		Issuer:  &issuerParams{Name: "Unknown"},
		Actions: []lifetimeAction{{Trigger: lifetimeTrigger{Percentage: 80}, Action: lifetimeVerb{Type: "EmailContacts"}}},
	}
	if m.rsa != nil {
		p.Key.Size = m.bits()
	}
	if len(leaf.DNSNames) > 0 {
		p.X509.Names = &subjectAlts{DNS: leaf.DNSNames}
	}
	if given != nil {
		if given.Key != nil && given.Key.Exportable != nil {
			p.Key.Exportable = given.Key.Exportable
		}
		p.merge(policy{Secret: given.Secret, Actions: given.Actions, Issuer: given.Issuer})
	}
	return p
}

func monthsOf(leaf *x509.Certificate) int {
	return max(1, int(leaf.NotAfter.Sub(leaf.NotBefore).Hours()/24/30))
}
