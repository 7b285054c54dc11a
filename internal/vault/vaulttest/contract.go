// SPDX-License-Identifier: Apache-2.0

package vaulttest

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"reflect"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/certs"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Source is what the contract is about.
type Source interface {
	vault.Reader
	vault.Lister
}

// Stage is a vault in which the contract can arrange things, and a Reader of it.
type Stage struct {
	Reader Source
	Vault  string // its name; no vault named no-such-vault may exist

	// SetSecret, CreateCertificate (exportable, self-signed) and CreateKey (an RSA
	// key, or an EC key on P-256) add a version and return its id.
	SetSecret         func(name, value, contentType string) string
	CreateCertificate func(name string) string
	CreateKey         func(name string, ec bool) string
	// Disable disables a version, or the latest.
	Disable func(ref vault.Reference)
	// Delete deletes an object with all versions.
	Delete func(ref vault.Reference)
	// Break makes every request to the vault meet a fault until it is called with
	// FaultNone. Throttling uses retryAfter; zero is an answer that does not say.
	Break func(fault Fault, retryAfter time.Duration)
}

// Fault is a way in which a vault can fail to answer.
type Fault int

// The faults of the contract.
const (
	FaultNone Fault = iota
	FaultForbidden
	FaultFirewall
	FaultThrottled
	FaultServer // 5xx
	FaultReset  // the connection ends without an answer
	FaultSignIn // the identity cannot sign in
)

// RunContract checks what vault.Reader and vault.Lister promise. newStage is called for every
// case, and each case uses names of its own.
func RunContract(t *testing.T, newStage func(t *testing.T) Stage) {
	t.Helper()
	for name, check := range map[string]func(*testing.T, Stage){
		"Secret":        checkSecret,
		"Versions":      checkVersions,
		"Certificate":   checkCertificate,
		"Keys":          checkKeys,
		"Missing":       checkMissing,
		"KindsAreApart": checkKinds,
		"BadNames":      checkBadNames,
		"Disabled":      checkDisabled,
		"Deleted":       checkDeleted,
		"Faults":        checkFaults,
		"Canceled":      checkCanceled,
		"Concurrent":    checkConcurrent,
		"AnyCase":       checkAnyCase,
		"List":          checkList,
		"ListPages":     checkListPages,
		"ListUpdated":   checkListUpdated,
		"ListRefused":   checkListRefused,
		"ListFaults":    checkListFaults,
		"ListCanceled":  checkListCanceled,
	} {
		t.Run(name, func(t *testing.T) { check(t, newStage(t)) })
	}
}

var versionPattern = regexp.MustCompile(`\A[0-9a-f]{32}\z`)

func checkSecret(t *testing.T, s Stage) {
	t.Helper()
	for name, value := range map[string]string{"plain": "s3cret", "unicode": "blåbær\n", "bytes": "\x00\x01 \t"} {
		want := s.SetSecret(name, value, "text/plain")
		obj := read(t, s, vault.Reference{Kind: vault.KindSecret, Name: name})
		if got := string(obj.Value.Reveal()); got != value {
			t.Errorf("%s: the value differs: %d bytes, want %d", name, len(got), len(value))
		}
		if obj.Version != want || !versionPattern.MatchString(obj.Version) {
			t.Errorf("%s: version %q, want %q", name, obj.Version, want)
		}
		if obj.ContentType != "text/plain" {
			t.Errorf("%s: content type %q, want text/plain", name, obj.ContentType)
		}
		if obj.Updated.IsZero() {
			t.Errorf("%s: no time of update", name)
		}
		if obj.Answered.Before(obj.Updated) {
			t.Errorf("%s: answered at %v, updated at %v", name, obj.Answered, obj.Updated)
		}
	}
	s.SetSecret("untyped", "v", "")
	if obj := read(t, s, vault.Reference{Kind: vault.KindSecret, Name: "untyped"}); obj.ContentType != "" {
		t.Errorf("content type %q, want none", obj.ContentType)
	}
}

func checkVersions(t *testing.T, s Stage) {
	t.Helper()
	first, second := s.SetSecret("rotated", "one", ""), s.SetSecret("rotated", "two", "")
	for version, want := range map[string]string{"": "two", first: "one", second: "two"} {
		obj := read(t, s, vault.Reference{Kind: vault.KindSecret, Name: "rotated", Version: version})
		if got := string(obj.Value.Reveal()); got != want {
			t.Errorf("version %q: %q, want %q", version, got, want)
		}
		if version != "" && obj.Version != version {
			t.Errorf("asked for version %q, got %q", version, obj.Version)
		}
	}
}

func checkCertificate(t *testing.T, s Stage) {
	t.Helper()
	version := s.CreateCertificate("web")
	public := read(t, s, vault.Reference{Kind: vault.KindCertificate, Name: "web"})
	if _, err := x509.ParseCertificate(public.Certificate); err != nil {
		t.Fatalf("the certificate does not parse: %v", err)
	}
	if public.Value.Len() != 0 {
		t.Error("the private key came without being asked for")
	}
	private := read(t, s, vault.Reference{Kind: vault.KindCertificate, Name: "web", PrivateKey: true})
	if public.Version != version || private.Version != version {
		t.Errorf("versions %q and %q, want %q", public.Version, private.Version, version)
	}
	parsed, err := certs.Parse(private.Value)
	if err != nil {
		t.Fatalf("the backing secret is no certificate with its key: %v", err)
	}
	chain, err := parsed.ServerFirst()
	if err != nil {
		t.Fatal(err)
	}
	if leaf, _ := pem.Decode(chain); leaf == nil || !slices.Equal(leaf.Bytes, public.Certificate) {
		t.Error("the key's certificate and the public one differ")
	}
}

func checkKeys(t *testing.T, s Stage) {
	t.Helper()
	rsaVersion, ecVersion := s.CreateKey("rsa", false), s.CreateKey("ec", true)
	rsa := read(t, s, vault.Reference{Kind: vault.KindKey, Name: "rsa"})
	if rsa.Version != rsaVersion || rsa.Key.Type != "RSA" || len(rsa.Key.N) < 256 || len(rsa.Key.E) == 0 || rsa.Key.Curve != "" {
		t.Errorf("the RSA key is incomplete: %+v", rsa)
	}
	ec := read(t, s, vault.Reference{Kind: vault.KindKey, Name: "ec", Version: ecVersion})
	if ec.Version != ecVersion || ec.Key.Type != "EC" || ec.Key.Curve != "P-256" || len(ec.Key.X) == 0 || len(ec.Key.Y) == 0 {
		t.Errorf("the EC key is incomplete: %+v", ec)
	}
}

func checkMissing(t *testing.T, s Stage) {
	t.Helper()
	s.SetSecret("there", "v", "")
	const noVersion = "0123456789abcdef0123456789abcdef"
	for name, ref := range map[string]vault.Reference{
		"Secret":      {Kind: vault.KindSecret, Name: "absent"},
		"Certificate": {Kind: vault.KindCertificate, Name: "absent"},
		"PrivateKey":  {Kind: vault.KindCertificate, Name: "absent", PrivateKey: true},
		"Key":         {Kind: vault.KindKey, Name: "absent"},
		"Version":     {Kind: vault.KindSecret, Name: "there", Version: noVersion},
	} {
		t.Run(name, func(t *testing.T) { refuse(t, s, ref, vault.ErrNotFound) })
	}
	t.Run("Vault", func(t *testing.T) {
		refuse(t, s, vault.Reference{Vault: "no-such-vault", Kind: vault.KindSecret, Name: "there"}, vault.ErrNoVault)
	})
}

func checkKinds(t *testing.T, s Stage) {
	t.Helper()
	s.SetSecret("a-secret", "v", "")
	s.CreateKey("a-key", true)
	refuse(t, s, vault.Reference{Kind: vault.KindKey, Name: "a-secret"}, vault.ErrNotFound)
	refuse(t, s, vault.Reference{Kind: vault.KindCertificate, Name: "a-secret"}, vault.ErrNotFound)
	refuse(t, s, vault.Reference{Kind: vault.KindSecret, Name: "a-key"}, vault.ErrNotFound)
}

// checkBadNames: what cannot exist is not there, whatever it would do to a URL.
func checkBadNames(t *testing.T, s Stage) {
	t.Helper()
	s.SetSecret("there", "v", "")
	for name, ref := range map[string]vault.Reference{
		"Slash":    {Kind: vault.KindSecret, Name: "there/x"},
		"DotDot":   {Kind: vault.KindSecret, Name: "../secrets/there"},
		"Query":    {Kind: vault.KindSecret, Name: "there?api-version=7.0"},
		"NoName":   {Kind: vault.KindSecret},
		"Newline":  {Kind: vault.KindSecret, Name: "there\n"},
		"Versions": {Kind: vault.KindSecret, Name: "there", Version: "versions"},
	} {
		t.Run(name, func(t *testing.T) { refuse(t, s, ref, vault.ErrNotFound) })
	}
	for name, host := range map[string]string{
		"Host": "evil.example", "Port": "evil:443", "User": "user@evil", "Path": "evil/x", "Short": "ab", "Fragment": "evil#x",
	} {
		t.Run("Vault"+name, func(t *testing.T) {
			refuse(t, s, vault.Reference{Vault: host, Kind: vault.KindSecret, Name: "there"}, vault.ErrNoVault)
		})
	}
}

func checkDisabled(t *testing.T, s Stage) {
	t.Helper()
	old := s.SetSecret("versioned", "old", "")
	s.SetSecret("versioned", "new", "")
	s.Disable(vault.Reference{Vault: s.Vault, Kind: vault.KindSecret, Name: "versioned", Version: old})
	refuse(t, s, vault.Reference{Kind: vault.KindSecret, Name: "versioned", Version: old}, vault.ErrDisabled)
	read(t, s, vault.Reference{Kind: vault.KindSecret, Name: "versioned"})

	s.CreateCertificate("certificate")
	off := vault.Reference{Vault: s.Vault, Kind: vault.KindCertificate, Name: "certificate", PrivateKey: true}
	s.Disable(off)
	refuse(t, s, off, vault.ErrDisabled)
}

func checkDeleted(t *testing.T, s Stage) {
	t.Helper()
	s.SetSecret("gone", "v", "")
	ref := vault.Reference{Vault: s.Vault, Kind: vault.KindSecret, Name: "gone"}
	read(t, s, ref)
	s.Delete(ref)
	refuse(t, s, ref, vault.ErrNotFound)
}

// faults are what a request says that meets one, be it for an object or for a list.
var faults = map[string]struct {
	fault      Fault
	retryAfter time.Duration
	want       error
}{
	"Forbidden":        {FaultForbidden, 0, vault.ErrForbidden},
	"Firewall":         {FaultFirewall, 0, vault.ErrFirewall},
	"Throttled":        {FaultThrottled, 0, vault.Throttled{}},
	"ThrottledForLong": {FaultThrottled, 7 * time.Second, vault.Throttled{RetryAfter: 7 * time.Second}},
	"Server":           {FaultServer, 0, vault.ErrUnavailable},
	"Reset":            {FaultReset, 0, vault.ErrUnavailable},
	"SignIn":           {FaultSignIn, 0, vault.ErrSignIn},
}

func checkFaults(t *testing.T, s Stage) {
	t.Helper()
	s.SetSecret("there", "v", "")
	ref := vault.Reference{Vault: s.Vault, Kind: vault.KindSecret, Name: "there"}
	for name, tc := range faults {
		t.Run(name, func(t *testing.T) {
			s.Break(tc.fault, tc.retryAfter)
			refuse(t, s, ref, tc.want)
			s.Break(FaultNone, 0)
			read(t, s, ref)
		})
	}
}

func checkCanceled(t *testing.T, s Stage) {
	t.Helper()
	s.SetSecret("there", "v", "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Reader.Read(ctx, vault.Reference{Vault: s.Vault, Kind: vault.KindSecret, Name: "there"})
	if !errors.Is(err, vault.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v and %v", err, vault.ErrUnavailable, context.Canceled)
	}
}

func checkConcurrent(t *testing.T, s Stage) {
	t.Helper()
	s.SetSecret("there", "v", "")
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			obj, err := s.Reader.Read(t.Context(), vault.Reference{Vault: s.Vault, Kind: vault.KindSecret, Name: "there"})
			if err != nil || string(obj.Value.Reveal()) != "v" {
				t.Errorf("a read among many: %v", err)
			}
		})
	}
	all.Wait()
}

func read(t *testing.T, s Stage, ref vault.Reference) vault.Object {
	t.Helper()
	ref.Vault = s.Vault
	obj, err := s.Reader.Read(t.Context(), ref)
	if err != nil {
		t.Fatalf("reading %s %q: %v", ref.Kind, ref.Name, err)
	}
	return obj
}

// refuse demands one of the errors of package vault and its text: nothing that
// came over the wire may be in what people read.
func refuse(t *testing.T, s Stage, ref vault.Reference, want error) {
	t.Helper()
	if ref.Vault == "" {
		ref.Vault = s.Vault
	}
	obj, err := s.Reader.Read(t.Context(), ref)
	refused(t, ref, obj, err, want)
}

func refused(t *testing.T, asked, out any, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("asking for %+v: %v, want %v", asked, err, want)
	}
	if err.Error() != want.Error() {
		t.Errorf("the error reads %q, want %q", err, want)
	}
	if !reflect.ValueOf(out).IsZero() {
		t.Error("something came with the error")
	}
}
