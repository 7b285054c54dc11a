// SPDX-License-Identifier: Apache-2.0

package seed

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

var errDuration = errors.New("is not a duration such as 250ms or 2s")

var (
	vaultName  = regexp.MustCompile(`\A[A-Za-z0-9-]{3,24}\z`)
	objectName = regexp.MustCompile(`\A[0-9A-Za-z-]{1,127}\z`)
	versionID  = regexp.MustCompile(`\A[0-9a-f]{32}\z`)
	quoted     = regexp.MustCompile("`[^`]*`|'[^']*'")
)

// MaxSecretBytes is the largest secret value a vault takes.
const MaxSecretBytes = 25 * 1024

// Load reads a seed file; names of files in it are relative to its directory.
func Load(path string) (Seed, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Seed{}, fmt.Errorf("reading the seed file: %w", err)
	}
	dir := filepath.Dir(path)
	parsed, err := Parse(data, func(name string) ([]byte, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(dir, name)
		}
		return os.ReadFile(name)
	})
	if err != nil {
		return Seed{}, fmt.Errorf("seed file %s: %w", path, err)
	}
	return parsed, nil
}

// Parse reads a seed and the files it names through read. Unknown fields are errors, so that a misspelt one is
// never silently nothing.
func Parse(data []byte, read func(name string) ([]byte, error)) (Seed, error) {
	var s Seed
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	decoder.KnownFields(true)
	if err := decoder.Decode(&s); err != nil && !errors.Is(err, io.EOF) {
		return Seed{}, syntaxError(err)
	}
	var extra any
	if err := decoder.Decode(&extra); !errors.Is(err, io.EOF) {
		return Seed{}, errors.New("holds more than one document")
	}
	p := &problems{read: read}
	p.seed(&s)
	if err := errors.Join(p.found...); err != nil {
		return Seed{}, err
	}
	return s, nil
}

// syntaxError repeats what the parser says about where and what, without the values it quotes.
func syntaxError(err error) error {
	text, fromParser := strings.CutPrefix(err.Error(), "yaml: ")
	lines := []string{text}
	typed, isType := errors.AsType[*yaml.TypeError](err)
	switch {
	case isType:
		lines = typed.Errors
	case errors.Is(err, errDuration):
		return fmt.Errorf("a duration %w", errDuration)
	case !fromParser:
		return errors.New("a value has the wrong form; dates are written as 2030-01-31T00:00:00Z")
	}
	found := make([]error, 0, len(lines))
	for _, line := range lines {
		found = append(found, errors.New(quoted.ReplaceAllString(line, "value")))
	}
	return errors.Join(found...)
}

// problems walks a seed, fills in defaults and files, and gathers everything that is wrong.
type problems struct {
	read  func(string) ([]byte, error)
	found []error
}

func (p *problems) add(where, format string, args ...any) {
	p.found = append(p.found, fmt.Errorf("%s: %s", where, fmt.Sprintf(format, args...)))
}

func (p *problems) seed(s *Seed) {
	if s.Tenant == "" {
		s.Tenant = DefaultTenant
	}
	names := map[string]bool{}
	for i := range s.Principals {
		p.principal(place("", "principals", i, s.Principals[i].Name), &s.Principals[i], s.Tenant, names)
	}
	p.eventGrid("eventGrid", s.EventGrid)
	p.faults("signIn", s.SignIn.Faults, SignInFaultKinds())
	vaults := map[string]bool{}
	for i := range s.Vaults {
		v := &s.Vaults[i]
		where := place("", "vaults", i, v.Name)
		if vaults[strings.ToLower(v.Name)] {
			p.add(where, "the name is taken by another vault")
		}
		vaults[strings.ToLower(v.Name)] = true
		p.vault(where, v, s.Tenant, names)
	}
}

func place(parent, list string, index int, name string) string {
	at := fmt.Sprintf("%s[%d]", list, index)
	if name != "" {
		at += " (" + name + ")"
	}
	if parent == "" {
		return at
	}
	return parent + ": " + at
}

func (p *problems) principal(where string, it *Principal, tenant string, names map[string]bool) {
	switch {
	case it.Name == "":
		p.add(where, "name is missing")
	case names[it.Name]:
		p.add(where, "the name is taken by another principal")
	}
	names[it.Name] = true
	if it.Tenant == "" {
		it.Tenant = tenant
	}
	if it.ClientID == "" {
		p.add(where, "clientId is missing")
	}
	for i, text := range it.Certificates {
		if strings.Contains(text, "-----BEGIN") {
			continue
		}
		if data, ok := p.file(fmt.Sprintf("%s: certificates[%d]", where, i), text); ok {
			it.Certificates[i] = string(data)
		}
	}
	for i := range it.Federated {
		f := &it.Federated[i]
		at := fmt.Sprintf("%s: federated[%d]", where, i)
		if f.Issuer == "" || f.Subject == "" {
			p.add(at, "issuer and subject are both needed")
		}
		if (f.JWKSFile == "") == (f.JWKSURL == "") {
			p.add(at, "exactly one of jwksFile and jwksUrl is needed")
		}
		if f.Audience == "" {
			f.Audience = "api://AzureADTokenExchange"
		}
	}
}

func (p *problems) file(where, name string) ([]byte, bool) {
	if p.read == nil {
		p.add(where, "files cannot be named here")
		return nil, false
	}
	data, err := p.read(name)
	if err != nil {
		p.add(where, "file %s cannot be read", name)
		return nil, false
	}
	return data, true
}

func (p *problems) vault(where string, v *Vault, tenant string, principals map[string]bool) {
	if !vaultName.MatchString(v.Name) {
		p.add(where, "name must be 3 to 24 letters, digits and hyphens")
	}
	if v.Tenant == "" {
		v.Tenant = tenant
	}
	if v.DNSSuffix == "" {
		v.DNSSuffix = "vault.azure.net"
	}
	if v.Access == "" {
		v.Access = AccessRBAC
	}
	if v.PFX == "" {
		v.PFX = TripleDES
	}
	p.oneOf(where+": access", string(v.Access), string(AccessRBAC), string(AccessPolicy))
	p.oneOf(where+": pfx", string(v.PFX), string(TripleDES), string(AES256))
	for i := range v.Permissions {
		p.permission(place(where, "permissions", i, v.Permissions[i].Principal), v.Permissions[i], v.Access, principals)
	}
	p.faults(where, v.Faults, FaultKinds())
	if v.Limit != nil {
		p.limit(where+": limit", v.Limit)
	}
	if v.Generate != nil {
		p.generate(where+": generate", v)
	}
	p.eventGrid(where+": eventGrid", v.EventGrid)
	p.objects(where, v)
}

// maxGenerated is more than any test needs and less than a slip of the finger costs.
const maxGenerated = 1_000_000

// generate adds to the secrets of a vault what it only describes.
func (p *problems) generate(where string, v *Vault) {
	g := *v.Generate
	if g.Count < 1 || g.Count > maxGenerated {
		p.add(where, "count must be 1 to %d", maxGenerated)
		return
	}
	if !objectName.MatchString(g.Prefix + strconv.Itoa(g.Count)) {
		p.add(where, "prefix and number must be 1 to 127 letters, digits and hyphens")
		return
	}
	v.Secrets = slices.Grow(v.Secrets, g.Count)
	for i := range g.Count {
		name := g.Prefix + strconv.Itoa(i)
		v.Secrets = append(v.Secrets, Secret{Meta: Meta{Name: name}, Value: name})
	}
}

func (p *problems) objects(where string, v *Vault) {
	taken := map[string]bool{}
	claim := func(at, name string, kinds ...string) {
		for _, kind := range kinds {
			key := kind + "/" + strings.ToLower(name)
			if taken[key] {
				p.add(at, "the vault already has %s", key)
			}
			taken[key] = true
		}
	}
	for i := range v.Certificates {
		at := place(where, "certificates", i, v.Certificates[i].Name)
		p.certificate(at, &v.Certificates[i], v.PFX)
		claim(at, v.Certificates[i].Name, "certificates", "secrets", "keys")
	}
	for i := range v.Secrets {
		at := place(where, "secrets", i, v.Secrets[i].Name)
		p.secret(at, &v.Secrets[i])
		claim(at, v.Secrets[i].Name, "secrets")
	}
	for i := range v.Keys {
		at := place(where, "keys", i, v.Keys[i].Name)
		p.key(at, &v.Keys[i])
		claim(at, v.Keys[i].Name, "keys")
	}
}

func (p *problems) oneOf(where, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		p.add(where, "must be one of %s", strings.Join(allowed, ", "))
	}
}

func (p *problems) meta(where string, m *Meta) {
	if !objectName.MatchString(m.Name) {
		p.add(where, "name must be 1 to 127 letters, digits and hyphens")
	}
	if m.Version != "" && !versionID.MatchString(m.Version) {
		p.add(where, "version must be 32 lower-case hexadecimal digits")
	}
	if len(m.Tags) > 15 {
		p.add(where, "more than 15 tags")
	}
}

func (p *problems) secret(where string, s *Secret) {
	p.meta(where, &s.Meta)
	if s.Value != "" && s.ValueFile != "" {
		p.add(where, "value and valueFile exclude each other")
	}
	if s.ValueFile != "" {
		data, _ := p.file(where+": valueFile", s.ValueFile)
		s.Value = string(data)
	}
	if len(s.Value) > MaxSecretBytes {
		p.add(where, "the value is larger than %d bytes", MaxSecretBytes)
	}
	if len(s.ContentType) > 255 {
		p.add(where, "contentType is longer than 255 characters")
	}
}

func (p *problems) certificate(where string, c *Certificate, pfx PFX) {
	p.meta(where, &c.Meta)
	if c.File != "" && c.Data != "" {
		p.add(where, "file and data exclude each other")
	}
	if c.File != "" {
		if data, ok := p.file(where+": file", c.File); ok {
			c.Data = importable(data)
		}
	}
	if c.Data != "" && c.generated() {
		p.add(where, "an imported certificate cannot also say what to generate")
	}
	if c.Order == "" {
		c.Order = OrderService
	}
	if c.PFX == "" {
		c.PFX = pfx
	}
	p.oneOf(where+": order", string(c.Order), string(OrderService), string(OrderLeafFirst), string(OrderRootFirst), string(OrderAsImported))
	p.oneOf(where+": pfx", string(c.PFX), string(TripleDES), string(AES256))
	p.oneOf(where+": contentType", c.ContentType, "", "application/x-pkcs12", "application/x-pem-file")
	p.within(where+": chain", c.Chain, 5)
	p.within(where+": validityMonths", c.ValidityMonths, 120)
	p.pair(where, c.KeyType, c.KeySize, c.Curve, []string{"P-256", "P-384", "P-521"})
}

// generated reports whether anything is said about a certificate to generate.
func (c *Certificate) generated() bool {
	asked := c.Subject + c.KeyType + c.Curve + strings.Join(c.DNSNames, "")
	return asked != "" || c.Chain != 0 || c.KeySize != 0 || c.ValidityMonths != 0
}

// within checks a number that may be left out.
func (p *problems) within(where string, n, most int) {
	if n < 0 || n > most {
		p.add(where, "must be 1 to %d", most)
	}
}

// importable is the text form of a file: PEM as it is, anything else as base64.
func importable(data []byte) string {
	if bytes.Contains(data, []byte("-----BEGIN")) {
		return string(data)
	}
	return base64.StdEncoding.EncodeToString(data)
}

func (p *problems) key(where string, k *Key) {
	p.meta(where, &k.Meta)
	p.pair(where, k.Type, k.Size, k.Curve, []string{"P-256", "P-256K", "P-384", "P-521"})
}

// pair checks what is asked of a key pair.
func (p *problems) pair(where, kind string, size int, curve string, curves []string) {
	switch kind {
	case "", "RSA":
		if !slices.Contains([]int{0, 2048, 3072, 4096}, size) {
			p.add(where, "an RSA key has 2048, 3072 or 4096 bits")
		}
		if curve != "" {
			p.add(where, "a curve needs an EC key")
		}
	case "EC":
		if size != 0 {
			p.add(where, "an EC key is chosen by its curve, not by a size")
		}
		if curve != "" {
			p.oneOf(where+": curve", curve, curves...)
		}
	default:
		p.add(where, "the key type must be RSA or EC")
	}
}
