// SPDX-License-Identifier: Apache-2.0

package keyvault

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// The ways a change from outside fails; errors.Is finds them. Anything else says what is wrong with the input.
var (
	ErrNoVault  = errors.New("no such vault")
	ErrNoObject = errors.New("no such object")
)

// fill puts the seed's objects into a vault.
func (s *Server) fill(v *vault, spec seed.Vault) error {
	for _, it := range spec.Secrets {
		if _, err := s.setSecret(v, it); err != nil {
			return fmt.Errorf("secret %s: %w", it.Name, err)
		}
	}
	for _, it := range spec.Certificates {
		if _, err := s.putCertificate(v, it); err != nil {
			return fmt.Errorf("certificate %s: %w", it.Name, err)
		}
	}
	for _, it := range spec.Keys {
		if err := s.putKey(v, it); err != nil {
			return fmt.Errorf("key %s: %w", it.Name, err)
		}
	}
	if err := checkFaults(spec.Faults); err != nil {
		return err
	}
	s.setFaults(v, spec.Faults)
	return nil
}

func (s *Server) byName(name string) (*vault, error) {
	for _, v := range s.vaults {
		if strings.EqualFold(v.name, name) {
			return v, nil
		}
	}
	return nil, ErrNoVault
}

// asError turns an answer that is not a result into an error, without the nil-in-an-interface trap.
func asError(bad *failure) error {
	switch {
	case bad == nil:
		return nil
	case strings.HasSuffix(bad.code, "NotFound"):
		return ErrNoObject
	default:
		return bad
	}
}

func metaAttributes(m seed.Meta) *attributesIn {
	return &attributesIn{Enabled: m.Enabled, NotBefore: unix(m.NotBefore), Expires: unix(m.Expires)}
}

func unix(t *time.Time) *int64 {
	if t == nil {
		return nil
	}
	return new(t.Unix())
}

// SetSecret adds a version to a secret, which it makes when it is new, and returns the version's id.
func (s *Server) SetSecret(vaultName string, it seed.Secret) (string, error) {
	v, err := s.byName(vaultName)
	if err != nil {
		return "", err
	}
	if err := seed.CheckSecret(&it); err != nil {
		return "", err
	}
	return s.setSecret(v, it)
}

func (s *Server) setSecret(v *vault, it seed.Secret) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	_, ver, bad := v.addSecret(it.Name, &version{
		id: it.Version, value: it.Value, contentType: it.ContentType, attributes: v.fresh(metaAttributes(it.Meta)), tags: it.Tags,
	})
	if bad != nil {
		return "", asError(bad)
	}
	return ver.id, nil
}

// PutCertificate adds a version to a certificate, imported or made as described, and returns the version's id.
func (s *Server) PutCertificate(vaultName string, it seed.Certificate) (string, error) {
	v, err := s.byName(vaultName)
	if err != nil {
		return "", err
	}
	if err := seed.CheckCertificate(&it, v.pfx); err != nil {
		return "", err
	}
	return s.putCertificate(v, it)
}

func (s *Server) putCertificate(v *vault, it seed.Certificate) (string, error) {
	if it.Data != "" {
		return s.importSeeded(v, it)
	}
	p := policyFrom(it)
	if bad := p.complete(); bad != nil {
		return "", asError(bad)
	}
	var from *issuer
	if it.Chain > 1 {
		made, err := newIssuer(it.Name, it.Chain-1, keyRequest{Type: p.Key.Type, Size: p.Key.Size, Curve: p.Key.Curve}, v.now())
		if err != nil {
			return "", err
		}
		from = made
	}
	made, bad := v.make(&object{authority: from}, createCertificateBody{Policy: p, Attributes: metaAttributes(it.Meta), Tags: it.Tags})
	if bad != nil {
		return "", asError(bad)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	o, bad := v.claimCertificate(it.Name)
	if bad != nil {
		return "", asError(bad)
	}
	o.policy, o.authority, o.spec = p, from, it
	return v.addSeeded(o, made.ver, it.Meta)
}

func (v *vault) addSeeded(o *object, ver *version, meta seed.Meta) (string, error) {
	if meta.Version != "" {
		ver.id = meta.Version
	}
	metaAttributes(meta).apply(&ver.attributes)
	if bad := v.addCertificate(o, ver); bad != nil {
		return "", asError(bad)
	}
	return ver.id, nil
}

func (s *Server) importSeeded(v *vault, it seed.Certificate) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	o, bad := v.claimCertificate(it.Name)
	if bad != nil {
		return "", asError(bad)
	}
	given := &policy{Key: &keyProps{Exportable: it.Exportable}}
	if it.ContentType != "" {
		given.Secret = &secretProps{ContentType: it.ContentType}
	}
	ver, bad := v.imported(o, importBody{
		createCertificateBody: createCertificateBody{Policy: given, Tags: it.Tags}, Value: it.Data, Password: it.Password,
	})
	if bad != nil {
		return "", errImport
	}
	o.spec = it
	o.spec.Data, o.spec.Password = "", ""
	return v.addSeeded(o, ver, it.Meta)
}

func policyFrom(it seed.Certificate) *policy {
	p := &policy{
		Key:    &keyProps{Type: it.KeyType, Size: it.KeySize, Curve: it.Curve, Exportable: it.Exportable},
		Secret: &secretProps{ContentType: it.ContentType},
		X509:   &x509Props{Subject: it.Subject, Months: it.ValidityMonths},
		Issuer: &issuerParams{Name: "Self"},
	}
	if p.X509.Subject == "" {
		p.X509.Subject = "CN=" + it.Name
	}
	if len(it.DNSNames) > 0 {
		p.X509.Names = &subjectAlts{DNS: it.DNSNames}
	}
	return p
}

// RotateCertificate adds a version with a new key and certificate of the same policy, chain and settings, and
// returns its id.
func (s *Server) RotateCertificate(vaultName, name string) (string, error) {
	v, err := s.byName(vaultName)
	if err != nil {
		return "", err
	}
	v.mu.Lock()
	o, bad := v.object(certificates, name)
	if bad != nil {
		v.mu.Unlock()
		return "", asError(bad)
	}
	kept := *o.policy
	v.mu.Unlock()
	if !kept.selfSigned() {
		return "", errors.New("the vault did not make this certificate; rotate it by importing its successor")
	}
	made, bad := v.make(o, createCertificateBody{Policy: &kept})
	if bad != nil {
		return "", asError(bad)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	made.ver.tags = o.latest().tags
	return v.addSeeded(o, made.ver, seed.Meta{})
}

func (s *Server) putKey(v *vault, it seed.Key) error {
	kty := it.Type
	if kty == "" {
		kty = "RSA"
	}
	m, bad := generate(keyRequest{Type: kty, Size: it.Size, Curve: it.Curve})
	if bad != nil {
		return asError(bad)
	}
	operations := it.Operations
	if operations == nil {
		operations = defaultOperations(m)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	_, bad = v.addKey(it.Name, &version{
		id: it.Version, material: m, operations: operations, attributes: v.fresh(metaAttributes(it.Meta)), tags: it.Tags,
	})
	return asError(bad)
}

// knownKind checks a kind that came from outside.
func knownKind(k string) (kind, error) {
	if !slices.Contains([]kind{secrets, certificates, keys}, kind(k)) {
		return "", ErrNoObject
	}
	return kind(k), nil
}

// SetEnabled enables or disables the newest version of an object; a certificate takes its secret and key along.
func (s *Server) SetEnabled(vaultName, kindName, name string, enabled bool) error {
	return s.Update(vaultName, kindName, name, Change{Enabled: &enabled})
}

// Change is what may be changed of a version from outside; what is nil stays.
type Change struct {
	Enabled *bool             `json:"enabled"`
	Tags    map[string]string `json:"tags"`
}

// Update changes the newest version of an object; a certificate takes its secret and key along.
func (s *Server) Update(vaultName, kindName, name string, change Change) error {
	v, err := s.byName(vaultName)
	if err != nil {
		return err
	}
	k, err := knownKind(kindName)
	if err != nil {
		return err
	}
	if bad := checkTags(change.Tags); bad != nil {
		return bad
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	o, ver, bad := v.version(k, name, "")
	if bad != nil {
		return asError(bad)
	}
	in := &attributesIn{Enabled: change.Enabled}
	if k == certificates {
		v.updateEverywhere(o, ver, in, change.Tags)
		return nil
	}
	v.update(ver, in, change.Tags)
	return nil
}

// Delete deletes an object softly, or for good when purge is set.
func (s *Server) Delete(vaultName, kindName, name string, purge bool) error {
	v, err := s.byName(vaultName)
	if err != nil {
		return err
	}
	k, err := knownKind(kindName)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, bad := v.remove(k, name); bad != nil {
		return asError(bad)
	}
	if purge {
		return asError(v.purge(k, name))
	}
	return nil
}

// Recover brings a deleted object back.
func (s *Server) Recover(vaultName, kindName, name string) error {
	v, err := s.byName(vaultName)
	if err != nil {
		return err
	}
	k, err := knownKind(kindName)
	if err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	_, bad := v.recover(k, name)
	return asError(bad)
}

// SetPermissions replaces who may do what in a vault.
func (s *Server) SetPermissions(vaultName string, list []seed.Permission) error {
	v, err := s.byName(vaultName)
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for name := range s.principals {
		known[name] = true
	}
	if err := seed.CheckPermissions(list, v.access, known); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.permissions = list
	return nil
}

// SetFaults replaces the faults of a vault; none clears them.
func (s *Server) SetFaults(vaultName string, list []seed.Fault) error {
	v, err := s.byName(vaultName)
	if err != nil {
		return err
	}
	if err := seed.CheckFaults(list); err != nil {
		return err
	}
	if err := checkFaults(list); err != nil {
		return err
	}
	s.setFaults(v, list)
	return nil
}

// AwaitHanging returns once at least n requests hang in a vault, or with the error of ctx.
func (s *Server) AwaitHanging(ctx context.Context, vaultName string, n int) error {
	v, err := s.byName(vaultName)
	if err != nil {
		return err
	}
	return v.faults.Await(ctx, n)
}

// SetLimit bounds the transactions of a vault, beginning with a full bucket; nil takes the limit away.
func (s *Server) SetLimit(vaultName string, limit *seed.Limit) error {
	v, err := s.byName(vaultName)
	if err != nil {
		return err
	}
	if limit != nil {
		if err := seed.CheckLimit(limit); err != nil {
			return err
		}
	}
	v.limit.set(limit)
	return nil
}

// SetClock puts a vault's clock ahead by an offset, or back by a negative one.
func (s *Server) SetClock(vaultName string, offset time.Duration) error {
	v, err := s.byName(vaultName)
	if err != nil {
		return err
	}
	v.offset.Store(int64(offset))
	return nil
}

// SecretState is a secret's newest version, read past permissions and faults.
type SecretState struct {
	ID          string `json:"id"`
	Version     string `json:"version"`
	Value       string `json:"value"`
	ContentType string `json:"contentType,omitempty"`
	Enabled     bool   `json:"enabled"`
}

// Secret reads a secret, for tests and people who want to compare.
func (s *Server) Secret(vaultName, name string) (SecretState, error) {
	v, err := s.byName(vaultName)
	if err != nil {
		return SecretState{}, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	o, ver, bad := v.version(secrets, name, "")
	if bad != nil {
		return SecretState{}, asError(bad)
	}
	return SecretState{
		ID: v.id(secrets, o.name, ver.id), Version: ver.id, Value: ver.value, ContentType: ver.contentType,
		Enabled: ver.attributes.Enabled,
	}, nil
}

// CertificateState is a certificate's newest version, private key included, read past permissions and faults.
type CertificateState struct {
	ID         string `json:"id"`
	Version    string `json:"version"`
	Subject    string `json:"subject"`
	Thumbprint string `json:"thumbprint"` // SHA-1, hexadecimal
	Enabled    bool   `json:"enabled"`
	Exportable bool   `json:"exportable"`
	// LeafPEM is the leaf, ChainPEM leaf and issuers in that order, KeyPEM the private key as PKCS#8.
	LeafPEM  string `json:"leafPem"`
	ChainPEM string `json:"chainPem"`
	KeyPEM   string `json:"keyPem"`
	// SecretValue is the value of the secret behind it, as a client with permission reads it.
	SecretValue string `json:"secretValue"`
	ContentType string `json:"contentType"`
}

// Certificate reads a certificate, for tests and people who want to compare.
func (s *Server) Certificate(vaultName, name string) (CertificateState, error) {
	v, err := s.byName(vaultName)
	if err != nil {
		return CertificateState{}, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	o, ver, bad := v.version(certificates, name, "")
	if bad != nil {
		return CertificateState{}, asError(bad)
	}
	leaf, _ := encodePEM(nil, ver.chain[:1]) // without a key nothing can fail
	chain, _ := encodePEM(nil, ver.chain)
	key, err := encodePEM(ver.material.signer(), nil)
	if err != nil {
		return CertificateState{}, err
	}
	sum := sha1.Sum(ver.chain[0].Raw)
	out := CertificateState{
		ID: v.id(certificates, o.name, ver.id), Version: ver.id, Subject: ver.chain[0].Subject.String(),
		Thumbprint: hex.EncodeToString(sum[:]), Enabled: ver.attributes.Enabled, Exportable: o.policy.exportable(),
		LeafPEM: leaf, ChainPEM: chain, KeyPEM: key, ContentType: o.policy.Secret.ContentType,
	}
	if _, secret, bad := v.version(secrets, name, ver.id); bad == nil {
		out.SecretValue = secret.value
	}
	return out, nil
}

// VaultState says what a vault holds, without values.
type VaultState struct {
	Name         string            `json:"name"`
	Host         string            `json:"host"`
	Tenant       string            `json:"tenant"`
	Access       seed.Access       `json:"access"`
	Secrets      []string          `json:"secrets"`
	Certificates []string          `json:"certificates"`
	Keys         []string          `json:"keys"`
	Permissions  []seed.Permission `json:"permissions"`
	Faults       []seed.Fault      `json:"faults"`
	// Hanging is how many requests a hang fault holds now.
	Hanging     int           `json:"hanging"`
	Limit       *seed.Limit   `json:"limit"`
	ClockOffset seed.Duration `json:"clockOffset"`
}

// Vaults lists all vaults by name.
func (s *Server) Vaults() []VaultState {
	var out []VaultState
	for _, host := range s.Hosts() {
		out = append(out, s.vaults[host].state(host))
	}
	return out
}

func (v *vault) state(host string) VaultState {
	v.mu.Lock()
	defer v.mu.Unlock()
	names := func(k kind) []string {
		out := []string{}
		for _, o := range v.shelves[k].live.byName {
			if !o.managed {
				out = append(out, o.name)
			}
		}
		slices.Sort(out)
		return out
	}
	return VaultState{
		Name: v.name, Host: host, Tenant: v.tenant, Access: v.access, Secrets: names(secrets),
		Certificates: names(certificates), Keys: names(keys), Permissions: v.permissions, Faults: v.faults.List(),
		Hanging: v.faults.Hanging(), Limit: v.limit.get(), ClockOffset: seed.Duration(v.offset.Load()),
	}
}
