// SPDX-License-Identifier: Apache-2.0

package keyvault

import (
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

type certificateBundle struct {
	deletedFields

	ID            string            `json:"id"`
	KeyID         string            `json:"kid,omitempty"`
	SecretID      string            `json:"sid,omitempty"`
	Thumbprint    string            `json:"x5t,omitempty"`
	Certificate   string            `json:"cer,omitempty"`
	Attributes    attributes        `json:"attributes"`
	Tags          map[string]string `json:"tags,omitempty"`
	Policy        *policy           `json:"policy,omitempty"`
	Pending       *pendingLink      `json:"pending,omitempty"`
	PreserveOrder *bool             `json:"preserveCertOrder,omitempty"`
}

type pendingLink struct {
	ID string `json:"id"`
}

// operation is the creation of a certificate that is or was under way.
type operation struct {
	ID            string        `json:"id"`
	Issuer        *issuerParams `json:"issuer"`
	CSR           string        `json:"csr"`
	Cancelled     bool          `json:"cancellation_requested"`
	Status        string        `json:"status"`
	Details       string        `json:"status_details,omitempty"`
	RequestID     string        `json:"request_id"`
	Target        string        `json:"target,omitempty"`
	PreserveOrder *bool         `json:"preserveCertOrder,omitempty"`

	// version waits for its certificate: everything but the chain is there.
	version *version
}

const (
	statusInProgress = "inProgress"
	statusCompleted  = "completed"
	statusCancelled  = "cancelled"
)

// certificateRoutes are those with fixed words where others have names; they come before the common ones.
func certificateRoutes() []route {
	const k, base = certificates, "certificates/{name}/"
	return append(issuerRoutes(),
		prepared(at(http.MethodPost, base+"create", k, "create", "create", nil), prepareCertificate, createCertificate),
		at(http.MethodPost, base+"import", k, "import", "import", importCertificate),
		at(http.MethodGet, base+"policy", k, "getPolicy", "get", getPolicy),
		at(http.MethodPatch, base+"policy", k, "updatePolicy", "update", updatePolicy),
		at(http.MethodGet, base+"pending", k, "getOperation", "get", getOperation),
		at(http.MethodPatch, base+"pending", k, "updateOperation", "update", updateOperation),
		at(http.MethodDelete, base+"pending", k, "deleteOperation", "update", deleteOperation),
		at(http.MethodPost, base+"pending/merge", k, "merge", "create", mergeCertificate),
	)
}

func certificateVersionRoutes() []route {
	return []route{
		at(http.MethodGet, "certificates/{name}/{version}", certificates, "get", "get", getCertificate),
		at(http.MethodPatch, "certificates/{name}/{version}", certificates, "update", "update", updateCertificate),
	}
}

// certificateBundle renders a version; nil is a certificate that is still being made.
func (v *vault) certificateBundle(o *object, ver *version) certificateBundle {
	out := v.certificateItem(o, ver, v.id(certificates, o.name))
	shown := *o.policy
	shown.ID = v.id(certificates, o.name, "policy")
	out.Policy = &shown
	if o.pending != nil {
		out.Pending = &pendingLink{o.pending.ID}
	}
	if ver == nil {
		return out
	}
	out.ID = v.id(certificates, o.name, ver.id)
	out.KeyID, out.SecretID = v.id(keys, o.name, ver.id), v.id(secrets, o.name, ver.id)
	out.Certificate = base64.StdEncoding.EncodeToString(ver.chain[0].Raw)
	out.PreserveOrder = ver.preserveOrder
	return out
}

func (v *vault) certificateItem(o *object, ver *version, id string) certificateBundle {
	out := certificateBundle{deletedFields: v.deletedFields(certificates, o), ID: id}
	if ver == nil {
		if o.pending != nil && o.pending.version != nil {
			out.Attributes, out.Tags = o.pending.version.attributes, o.pending.version.tags
			out.Attributes.Enabled = false
		}
		return out
	}
	sum := sha1.Sum(ver.chain[0].Raw)
	out.Thumbprint, out.Attributes, out.Tags = encode64(sum[:]), ver.attributes, ver.tags
	return out
}

type createCertificateBody struct {
	Policy        *policy           `json:"policy"`
	Attributes    *attributesIn     `json:"attributes"`
	Tags          map[string]string `json:"tags"`
	PreserveOrder *bool             `json:"preserveCertOrder"`
}

// creation is a certificate on its way: what was asked and what was made for it.
type creation struct {
	policy *policy
	ver    *version
	csr    []byte
}

// prepareCertificate makes the key, and the certificate where the vault is its own issuer.
func prepareCertificate(c *call) (any, *failure) {
	var in createCertificateBody
	if bad := c.decode(&in); bad != nil {
		return nil, bad
	}
	if bad := checkTags(in.Tags); bad != nil {
		return nil, bad
	}
	c.vault.mu.Lock()
	old := c.vault.shelves[certificates].live.get(c.name)
	if in.Policy == nil && old != nil {
		kept := *old.policy
		in.Policy = &kept
	}
	c.vault.mu.Unlock()
	if bad := in.Policy.complete(); bad != nil {
		return nil, bad
	}
	return c.vault.make(old, in)
}

// make does the slow part of a new version: its key, its request and, where the vault is the issuer, its chain.
func (v *vault) make(old *object, in createCertificateBody) (*creation, *failure) {
	from, latest := v.lineage(old)
	m, bad := keyFor(latest, in.Policy)
	if bad != nil {
		return nil, bad
	}
	csr, err := in.Policy.request(m)
	if err != nil {
		return nil, badParameter("Property policy.x509_props.subject has an invalid value; it may have CN, O, OU, L, ST and C.")
	}
	ver := &version{
		id: newVersionID(), material: m, operations: defaultOperations(m), attributes: v.fresh(in.Attributes),
		tags: in.Tags, preserveOrder: in.PreserveOrder,
	}
	if !in.Policy.selfSigned() {
		return &creation{in.Policy, ver, csr}, nil
	}
	chain, err := in.Policy.issue(m, from, v.now())
	if err != nil {
		return nil, badParameter("Property policy.x509_props has an invalid value.")
	}
	ver.complete(chain)
	return &creation{in.Policy, ver, csr}, nil
}

// lineage is what a new version takes over from the object: the authority above it and the version before it.
func (v *vault) lineage(o *object) (*issuer, *version) {
	if o == nil {
		return nil, nil
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	return o.authority, o.latest()
}

func keyFor(latest *version, p *policy) (*material, *failure) {
	if latest != nil && p.Key.Reuse != nil && *p.Key.Reuse {
		return latest.material, nil
	}
	return generate(keyRequest{Type: p.Key.Type, Size: p.Key.Size, Curve: p.Key.Curve})
}

// complete gives a version its chain; its times become the certificate's.
func (v *version) complete(chain []*x509.Certificate) {
	v.chain = chain
	v.attributes.NotBefore = new(chain[0].NotBefore.Unix())
	v.attributes.Expires = new(chain[0].NotAfter.Unix())
}

func createCertificate(c *call, made any) (*reply, *failure) {
	in, _ := made.(*creation)
	o, bad := c.vault.claimCertificate(c.name)
	if bad != nil {
		return nil, bad
	}
	if !in.policy.selfSigned() && !strings.EqualFold(in.policy.Issuer.Name, "unknown") &&
		c.vault.issuers[strings.ToLower(in.policy.Issuer.Name)] == nil {
		return nil, badParameter("Issuer %s was not found in this key vault.", in.policy.Issuer.Name)
	}
	if o.pending != nil && o.pending.Status == statusInProgress {
		return nil, &failure{
			status: http.StatusConflict, code: "Conflict",
			message: "A new key vault certificate can not be created or imported while a pending key vault certificate's status is inProgress.",
		}
	}
	o.policy = in.policy
	op := &operation{
		ID: c.vault.id(certificates, o.name, "pending"), Issuer: in.policy.Issuer, CSR: base64.StdEncoding.EncodeToString(in.csr),
		Status: statusInProgress, RequestID: newVersionID(), PreserveOrder: in.ver.preserveOrder, version: in.ver,
		Details: "Pending certificate created. Certificate request is in progress. This may take some time based on the issuer provider. Please check again later.",
	}
	o.pending = op
	c.vault.put(certificates, o)
	first := *op
	if in.ver.chain != nil {
		if bad := c.vault.finish(o); bad != nil {
			return nil, bad
		}
	}
	return &reply{status: http.StatusAccepted, body: first, header: http.Header{
		"Location":    {op.ID + "?api-version=" + c.request.URL.Query().Get("api-version") + "&request_id=" + op.RequestID},
		"Retry-After": {"10"},
	}}, nil
}

// claimCertificate is claim for a certificate, which needs the names of its secret and key as well.
func (v *vault) claimCertificate(name string) (*object, *failure) {
	o, bad := v.claim(certificates, name)
	if bad != nil {
		return nil, bad
	}
	if o.spec.Order == "" {
		o.spec.Order, o.spec.PFX = seed.OrderService, v.pfx
	}
	for _, k := range []kind{secrets, keys} {
		part, bad := v.claim(k, name)
		if bad != nil {
			return nil, bad
		}
		if part.latest() != nil && !part.managed {
			return nil, existsConflict(k, name)
		}
	}
	return o, nil
}

// finish turns the pending version into the newest one.
func (v *vault) finish(o *object) *failure {
	op := o.pending
	if bad := v.addCertificate(o, op.version); bad != nil {
		return bad
	}
	op.version, op.Status, op.Details, op.Target = nil, statusCompleted, "", v.id(certificates, o.name)
	return nil
}

// addCertificate adds a complete version to a certificate, and its secret and key with it.
func (v *vault) addCertificate(o *object, ver *version) *failure {
	value, err := o.secretValue(ver)
	if err != nil {
		return serverError(http.StatusInternalServerError)
	}
	previous := ""
	if last := o.latest(); last != nil {
		previous = last.id
	}
	o.versions = append(o.versions, ver)
	v.put(certificates, o)
	v.addManaged(secrets, o, &version{
		id: ver.id, attributes: ver.attributes, tags: ver.tags, value: value, contentType: o.policy.Secret.ContentType,
		previous: previous,
	})
	v.addManaged(keys, o, &version{
		id: ver.id, attributes: ver.attributes, tags: ver.tags, material: ver.material, operations: ver.operations,
	})
	v.announce(certificates, o, ver)
	return nil
}

func (v *vault) addManaged(k kind, o *object, ver *version) {
	part := v.shelves[k].live.get(o.name)
	if part == nil {
		part = &object{name: o.name, managed: true}
		v.put(k, part)
	}
	part.versions = append(part.versions, ver)
}

type importBody struct {
	createCertificateBody

	Value    string `json:"value"`
	Password string `json:"pwd"`
}

func importCertificate(c *call) (*reply, *failure) {
	var in importBody
	if bad := c.decode(&in); bad != nil {
		return nil, bad
	}
	if bad := checkTags(in.Tags); bad != nil {
		return nil, bad
	}
	o, bad := c.vault.claimCertificate(c.name)
	if bad != nil {
		return nil, bad
	}
	ver, bad := c.vault.imported(o, in)
	if bad != nil {
		return nil, bad
	}
	if bad := c.vault.addCertificate(o, ver); bad != nil {
		return nil, bad
	}
	return ok(c.vault.certificateBundle(o, ver)), nil
}

// imported reads what is to be imported and gives the object the policy that fits it.
func (v *vault) imported(o *object, in importBody) (*version, *failure) {
	found, err := parseIdentity(in.Value, in.Password)
	if err != nil {
		return nil, badParameter("The specified PKCS#12 X.509 certificate content can not be read. Please check if certificate is in valid PKCS#12 format.")
	}
	contentType := ContentTypePFX
	if found.pem {
		contentType = ContentTypePEM
	}
	o.policy = policyOf(found.chain[0], found.material, in.Policy, contentType)
	o.authority = nil
	ver := &version{
		id: newVersionID(), material: found.material, operations: defaultOperations(found.material), tags: in.Tags,
		attributes: v.fresh(nil), imported: found.imported, preserveOrder: in.PreserveOrder,
	}
	ver.complete(found.chain)
	if in.Attributes != nil {
		in.Attributes.apply(&ver.attributes)
	}
	return ver, nil
}

func getCertificate(c *call) (*reply, *failure) {
	if o := c.vault.shelves[certificates].live.get(c.name); o != nil && o.latest() == nil && c.version == "" {
		return ok(c.vault.certificateBundle(o, nil)), nil
	}
	o, ver, bad := c.vault.version(certificates, c.name, c.version)
	if bad != nil {
		return nil, bad
	}
	return ok(c.vault.certificateBundle(o, ver)), nil
}

func updateCertificate(c *call) (*reply, *failure) {
	var in createCertificateBody
	if bad := c.decode(&in); bad != nil {
		return nil, bad
	}
	if bad := checkTags(in.Tags); bad != nil {
		return nil, bad
	}
	o, ver, bad := c.vault.version(certificates, c.name, c.version)
	if bad != nil {
		return nil, bad
	}
	if in.Policy != nil {
		o.policy.merge(*in.Policy)
	}
	c.vault.updateEverywhere(o, ver, in.Attributes, in.Tags)
	return ok(c.vault.certificateBundle(o, ver)), nil
}

// updateEverywhere changes a certificate's version together with its secret and key.
func (v *vault) updateEverywhere(o *object, ver *version, in *attributesIn, tags map[string]string) {
	v.update(ver, in, tags)
	for _, k := range []kind{secrets, keys} {
		if part := v.shelves[k].live.get(o.name); part != nil {
			if one := part.find(ver.id); one != nil {
				v.update(one, in, tags)
			}
		}
	}
}

func getPolicy(c *call) (*reply, *failure) {
	o, bad := c.vault.object(certificates, c.name)
	if bad != nil {
		return nil, bad
	}
	return ok(c.vault.certificateBundle(o, o.latest()).Policy), nil
}

func updatePolicy(c *call) (*reply, *failure) {
	var in policy
	if bad := c.decode(&in); bad != nil {
		return nil, bad
	}
	if bad := c.mergePolicy(in); bad != nil {
		return nil, bad
	}
	return getPolicy(c)
}

func (c *call) mergePolicy(in policy) *failure {
	o, bad := c.vault.object(certificates, c.name)
	if bad != nil {
		return bad
	}
	o.policy.merge(in)
	return nil
}

func (c *call) operation() (*object, *failure) {
	o := c.vault.shelves[certificates].live.get(c.name)
	if o == nil || o.pending == nil {
		return nil, pendingNotFound(c.name)
	}
	return o, nil
}

func getOperation(c *call) (*reply, *failure) {
	o, bad := c.operation()
	if bad != nil {
		return nil, bad
	}
	return ok(o.pending), nil
}

func updateOperation(c *call) (*reply, *failure) {
	var in struct {
		Cancel bool `json:"cancellation_requested"`
	}
	if bad := c.decode(&in); bad != nil {
		return nil, bad
	}
	o, bad := c.operation()
	if bad != nil {
		return nil, bad
	}
	if in.Cancel && o.pending.Status == statusInProgress {
		o.pending.Cancelled, o.pending.Status = true, statusCancelled
		o.pending.Details = "The operation was cancelled at the caller's request."
	}
	return ok(o.pending), nil
}

func deleteOperation(c *call) (*reply, *failure) {
	o, bad := c.operation()
	if bad != nil {
		return nil, bad
	}
	gone := o.pending
	o.pending = nil
	if o.latest() == nil {
		c.vault.shelves[certificates].live.drop(o.name)
	}
	return ok(gone), nil
}

// mergeCertificate completes a pending certificate with what another authority signed.
func mergeCertificate(c *call) (*reply, *failure) {
	var in struct {
		Chain      []string          `json:"x5c"`
		Attributes *attributesIn     `json:"attributes"`
		Tags       map[string]string `json:"tags"`
	}
	if bad := c.decode(&in); bad != nil {
		return nil, bad
	}
	o, bad := c.operation()
	switch {
	case bad != nil:
		return nil, bad
	case o.pending.version == nil || o.pending.Status != statusInProgress:
		return nil, badParameter("The certificate operation is not waiting for a certificate.")
	}
	chain, bad := parseChain(in.Chain, o.pending.version.material)
	if bad != nil {
		return nil, bad
	}
	ver := o.pending.version
	ver.complete(leafFirst(chain.certs, chain.leaf))
	ver.imported = chain.certs
	c.vault.update(ver, in.Attributes, in.Tags)
	if bad := c.vault.finish(o); bad != nil {
		return nil, bad
	}
	return &reply{status: http.StatusCreated, body: c.vault.certificateBundle(o, ver)}, nil
}

type parsedChain struct {
	certs []*x509.Certificate
	leaf  int
}

func parseChain(encoded []string, m *material) (parsedChain, *failure) {
	var out parsedChain
	for _, text := range encoded {
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return out, badParameter("Property x5c has an invalid value.")
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return out, badParameter("Property x5c has an invalid value.")
		}
		out.certs = append(out.certs, cert)
	}
	out.leaf = slices.IndexFunc(out.certs, func(cert *x509.Certificate) bool { return samePublicKey(cert.PublicKey, m) })
	if out.leaf < 0 {
		return out, badParameter("The public key of the end-entity certificate in the specified X.509 certificate content does not match the public part of the specified private key.")
	}
	return out, nil
}
