// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// ours are the texts of all errors that rendering may give, but for those about a query.
var ours = func() []string {
	texts := []string{
		"spec.output.secret.dataKey is required",
		"spec.output.configMap.dataKey is required",
		"a kubernetes.io/tls needs the keys tls.crt and tls.key",
		"a kubernetes.io/basic-auth needs the key username or password",
		"a kubernetes.io/dockerconfigjson needs the key .dockerconfigjson",
		"a kubernetes.io/dockercfg needs the key .dockercfg",
		"a kubernetes.io/ssh-auth needs the key ssh-privatekey",
	}
	for _, err := range sentinels {
		texts = append(texts, err.Error())
	}
	return append(texts, // of placeholders
		"the value is not of the form username:password",
		"an EC key has no modulus: ask for ?pem or ?jwk, or set spec.output.format",
		"a key on the curve P-256K has no PEM form here: ask for ?jwk",
	)
}()

var sentinels = []error{
	render.ErrNotExportable, render.ErrUnsupported, render.ErrReserved, render.ErrRequired, render.ErrTransform, render.ErrDataKey,
	render.ErrDataKeyName, render.ErrSize, render.ErrBasicAuth, render.ErrDockerConfig, render.ErrSSHKey, render.ErrCertificate,
	render.ErrNoLeaf, render.ErrChain, render.ErrKey, render.ErrKeyFormat, render.ErrCurve, render.ErrContentType, render.ErrEntries,
	render.ErrEntriesSize, render.ErrEntryName, render.ErrEntryTwice, render.ErrEntryValue, render.ErrEntryBinary,
}

var position = regexp.MustCompile(`^entry [1-9][0-9]*: `)

// mustBeOurs wants an error that is explained, fits a condition and holds nothing
// of the value: it is one of our sentences, or names subjects of certificates.
func mustBeOurs(t *testing.T, err error, raw []byte) {
	t.Helper()
	text := err.Error()
	if fault := render.Explain(err); fault.Outage || fault.Text != text {
		t.Fatalf("%q is explained as %+v", text, fault)
	}
	if len([]rune(text)) > 105 {
		t.Fatalf("too long for a condition: %q", text)
	}
	if slices.Contains(ours, position.ReplaceAllString(text, "")) {
		return
	}
	if strings.HasPrefix(text, "no place in the chain for ") {
		if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Fatalf("an error that does not print: %q", text)
		}
		return
	}
	for i := 0; i+12 <= len(raw); i++ {
		if strings.Contains(text, string(raw[i:i+12])) {
			t.Fatal("an error holds a part of the value")
		}
	}
	t.Fatalf("an error of another making: %q", text)
}

// Whatever a vault holds and however it is asked for, rendering neither panics
// nor lets any of it into an error.
func FuzzOutput(f *testing.F) {
	f.Add([]byte(kept().pfx), "kubernetes.io/tls", "certificate", "base64decode", true)
	f.Add([]byte(kept().pem+pemOf(kept().other)), "kubernetes.io/tls", "secret", "trim", true)
	f.Add([]byte(kept().pfx), "Opaque", "certificate", "trim", false)
	f.Add([]byte("user:pass"), "kubernetes.io/basic-auth", "secret", "trim", false)
	f.Add([]byte("x"), "kubernetes.io/ssh-auth", "secret", "trim", false)
	f.Add([]byte("x"), "", "key", "trim", false)
	f.Fuzz(func(t *testing.T, value []byte, secretType, objectType, transform string, first bool) {
		s := spec(v2beta1.ObjectType(objectType), secretType, "k", transforms(v2beta1.Transform(transform)), content(v2beta1.ContentYAML))
		if first {
			serverFirst(&s)
		}
		payload, err := render.Output(s, render.Secret, vault.Object{Value: secret.New(value)})
		if err != nil {
			mustBeOurs(t, err, value)
			return
		}
		shape, err := render.OutputShape(s, render.Secret)
		if err != nil || shape.Type != payload.Type || !shape.Open && len(shape.Keys) != len(payload.Data) {
			t.Fatalf("shape %+v, payload of %s with %d keys, error %v", shape, payload.Type, len(payload.Data), err)
		}
	})
}

// Whatever a vault holds and whatever is asked of it, a value comes out only where
// EnvReference said that one may, and no error tells of the value.
func FuzzEnv(f *testing.F) {
	for i, of := range objectTypes {
		for _, query := range queriesOf(of) {
			f.Add([]byte(kept().pem), query, i, "trim", true)
			f.Add([]byte(several), query, i, "", false)
		}
	}
	f.Add([]byte("dTpw"), "password", 0, "base64decode", false)
	f.Add([]byte(kept().pfx), "raw", 1, "", false)
	f.Add([]byte("a: b"), "*", 3, "", false)
	f.Fuzz(func(t *testing.T, value []byte, query string, of int, transform string, first bool) {
		s := spec(objectTypes[uint(of)%uint(len(objectTypes))], "", "", content(v2beta1.ContentYAML), format(v2beta1.KeyFormat(transform)))
		if transform != "" {
			transforms(v2beta1.Transform(transform))(&s)
		}
		if first {
			serverFirst(&s)
		}
		_, errRef := render.EnvReference(s, query)
		got, err := render.Open(s, vault.Object{Value: secret.New(value), Certificate: value, Key: vaultKeys["p256k"]}).Env(query)
		switch {
		case errors.Is(errRef, render.ErrQuery) != errors.Is(err, render.ErrQuery):
			t.Fatalf("reference: error %v, value: %v", errRef, err)
		case err != nil && got.Len() > 0:
			t.Fatalf("a value beside the error %v", err)
		case errors.Is(err, render.ErrNoEntry):
			if err.Error() != "its value has no entry of the name "+query {
				t.Fatalf("an error of another making: %q", err)
			}
		case err != nil && errRef == nil:
			mustBeOurs(t, err, value)
		}
	})
}

// Whatever a multi-key-value-secret holds, it becomes keys that the API server
// takes, or an error that tells nothing of it.
func FuzzMultiValue(f *testing.F) {
	for ending, contentType := range contents {
		for _, text := range inputs(f, "entries/*."+ending) {
			f.Add([]byte(text), contentType == v2beta1.ContentJSON)
		}
	}
	f.Add([]byte(bomb()), false)
	f.Add([]byte("a: b\n---\nc: d"), false)
	f.Add([]byte("? &a [*a]\n: !!binary x"), false)
	f.Add([]byte(`{"a":{"b":[1,2]},"a":"\ud800"}`), true)
	valid := regexp.MustCompile(`^[-._a-zA-Z0-9]{1,253}$`)
	f.Fuzz(func(t *testing.T, raw []byte, isJSON bool) {
		s := spec(v2beta1.ObjectMultiKeyValue, "", "", content(map[bool]v2beta1.ContentType{true: v2beta1.ContentJSON, false: v2beta1.ContentYAML}[isJSON]))
		payload, err := render.Output(s, render.Secret, vault.Object{Value: secret.New(raw)})
		if err != nil {
			mustBeOurs(t, err, raw)
			return
		}
		for key := range payload.Data {
			if !valid.MatchString(key) || key == "." || strings.HasPrefix(key, "..") {
				t.Fatalf("the key %q", key)
			}
		}
	})
}
