// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

var testCert = vault.Reference{Vault: "my-kv", Kind: vault.KindCertificate, Name: "test-cert"}

func TestACertificateBecomesATLSSecretAndFollowsItsRotation(t *testing.T) {
	t.Parallel()
	s := newStage(t, often)
	const name = "my-first-azure-keyvault-certificate"
	for i, subject := range []string{"one", "two"} {
		version := s.vault.Put(testCert, vault.Object{Value: secret.New([]byte(certificate(t, subject, true)))})
		if i == 0 {
			if err := admin.Create(t.Context(), manifest(t, article, "v1alpha1", s.namespace)); err != nil {
				t.Fatal(err)
			}
		}
		out := s.holdsCertificate(t, subject)
		if _, err := tls.X509KeyPair(out.Data["tls.crt"], out.Data["tls.key"]); err != nil || len(out.Data) != 2 || out.Type != corev1.SecretTypeTLS {
			t.Errorf("a %s of %d keys, no pair: %v", out.Type, len(out.Data), err)
		}
		eventually(t, "the status tells the version", func() error {
			if got := s.get(t, name).Status.ObjectVersion; got != version {
				return fmt.Errorf("%q", got)
			}
			return nil
		})
		akvs := s.get(t, name)
		bearsOurMarks(t, out, akvs)
		if st := akvs.Status; st.SecretName != "keyvault-certificate" || len(st.SecretHash) != 32 || st.LastAzureUpdate == nil || st.ObservedGeneration != akvs.Generation {
			t.Errorf("status %+v", st)
		}
	}
	if got := s.ready(t, name, "True Synced"); got != "my-kv/test-cert: Secret keyvault-certificate holds it" {
		t.Errorf("message %q", got)
	}
	if got := s.event(t, name, "Synced"); !strings.HasPrefix(got, "my-kv/test-cert: Secret keyvault-certificate ") {
		t.Errorf("event %q", got)
	}
}

// holdsCertificate waits until the article's Secret has one of this subject.
func (s *stage) holdsCertificate(t *testing.T, subject string) *corev1.Secret {
	t.Helper()
	var out *corev1.Secret
	eventually(t, "keyvault-certificate holds "+subject, func() error {
		var err error
		if out, err = s.secret(t.Context(), "keyvault-certificate"); err != nil {
			return err
		}
		if got := subjectOf(t, out.Data["tls.crt"]); got != subject {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	return out
}

// bearsOurMarks looks at what makes an output ours: owner, label, field manager.
func bearsOurMarks(t *testing.T, out metav1.Object, akvs *v2beta1.AzureKeyVaultSecret) {
	t.Helper()
	no, yes := false, true
	if diff := cmp.Diff([]metav1.OwnerReference{{
		APIVersion: "spv.no/v2beta1", Kind: "AzureKeyVaultSecret", Name: akvs.Name, UID: akvs.UID, Controller: &no, BlockOwnerDeletion: &yes,
	}}, out.GetOwnerReferences()); diff != "" {
		t.Errorf("owners (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"spv.no/output-of": "AzureKeyVaultSecret"}, out.GetLabels()); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if by := out.GetManagedFields(); len(by) != 1 || by[0].Manager != "akvs-"+string(akvs.UID) || by[0].Operation != metav1.ManagedFieldsOperationApply {
		t.Errorf("managers %v", by)
	}
}

func TestASteadyStateWritesNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t, often)
	s.put("db", "one")
	s.apply(t, "db")
	s.apply(t, "refused", func(spec *v2beta1.AzureKeyVaultSecretSpec) { spec.Output.Secret.Name = "other" })
	s.ready(t, "db", "True Synced")
	s.ready(t, "refused", "False VaultObjectNotFound")
	s.event(t, "db", "Synced")
	s.event(t, "refused", "VaultObjectNotFound")
	writes, version := s.writes.Load(), s.get(t, "db").ResourceVersion
	s.looks(t, 5)
	if got := s.writes.Load() - writes; got != 0 {
		t.Errorf("%d writes although nothing changed", got)
	}
	if got := s.get(t, "db").ResourceVersion; got != version {
		t.Errorf("the resource went from version %s to %s", version, got)
	}
}

// Its own writes, of the Secret and of the status, do not wake the Controller.
func TestAWriteCausesNoSecondLook(t *testing.T) {
	t.Parallel()
	s := newStage(t, never)
	s.put("first", "one")
	s.put("second", "two")
	s.apply(t, "first")
	s.ready(t, "first", "True Synced")
	s.apply(t, "second", func(spec *v2beta1.AzureKeyVaultSecretSpec) { spec.Output.Secret.Name = "other" })
	s.ready(t, "second", "True Synced")
	for _, name := range []string{"first", "second"} {
		n := 0
		for _, ref := range s.vault.Reads() {
			if ref.Name == name {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s was read %d times", name, n)
		}
	}
}

// With polling off, only the watch can notice.
func TestDriftIsRepairedAtOnce(t *testing.T) {
	t.Parallel()
	for name, disturb := range map[string]func(*testing.T, *stage){
		"Value":  func(t *testing.T, s *stage) { t.Helper(); s.patched(t, `{"data":{"password":"eA=="}}`) },
		"Key":    func(t *testing.T, s *stage) { t.Helper(); s.patched(t, `{"data":{"password":null}}`) },
		"Label":  func(t *testing.T, s *stage) { t.Helper(); s.patched(t, `{"metadata":{"labels":null}}`) },
		"Owners": func(t *testing.T, s *stage) { t.Helper(); s.patched(t, `{"metadata":{"ownerReferences":null}}`) },
		"Secret": func(t *testing.T, s *stage) {
			t.Helper()
			out := s.holds(t, "password", "one")
			if err := admin.Delete(t.Context(), out); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, never)
			s.put("db", "one")
			s.apply(t, "db")
			s.ready(t, "db", "True Synced")
			before := s.holds(t, "password", "one").ResourceVersion
			disturb(t, s)
			eventually(t, "the output is as it was", func() error {
				out, err := s.secret(t.Context(), "out")
				switch {
				case err != nil:
					return err
				case out.ResourceVersion == before:
					return errors.New("undisturbed")
				case string(out.Data["password"]) != canary+"one", len(out.OwnerReferences) != 1, out.Labels["spv.no/output-of"] == "":
					return fmt.Errorf("%d keys, owners %v, labels %v", len(out.Data), out.OwnerReferences, out.Labels)
				}
				return nil
			})
		})
	}
}

func TestAPersonsOwnKeyInAnOutputStays(t *testing.T) {
	t.Parallel()
	s := newStage(t, often)
	s.put("db", "one")
	s.apply(t, "db")
	s.holds(t, "password", "one")
	s.patched(t, `{"data":{"theirs":"eA=="},"metadata":{"labels":{"team":"x"}}}`)
	s.put("db", "two")
	out := s.holds(t, "password", "two")
	if string(out.Data["theirs"]) != "x" || out.Labels["team"] != "x" {
		t.Errorf("what a person added is gone: %v, %d keys", out.Labels, len(out.Data))
	}
}

func TestAnotherDataKeyRemovesTheOldOne(t *testing.T) {
	t.Parallel()
	s := newStage(t, never)
	s.put("db", "one")
	s.apply(t, "db")
	s.ready(t, "db", "True Synced")
	akvs := s.get(t, "db")
	before := akvs.DeepCopy()
	akvs.Spec.Output.Secret.DataKey = "renamed"
	if err := admin.Patch(t.Context(), akvs, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	if out := s.holds(t, "renamed", "one"); len(out.Data) != 1 {
		t.Errorf("%d keys, want the new one alone", len(out.Data))
	}
}

func TestAForeignSecretIsNeverTaken(t *testing.T) {
	t.Parallel()
	for name, theirs := range map[string]corev1.Secret{
		"Opaque":    {Data: map[string][]byte{"theirs": []byte("x")}},
		"SameKey":   {Data: map[string][]byte{"password": []byte("x")}},
		"Empty":     {},
		"OtherType": {Type: corev1.SecretTypeBasicAuth, Data: map[string][]byte{"username": []byte("x")}},
		"OurLabel":  {ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"spv.no/output-of": "AzureKeyVaultSecret"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, often)
			s.put("db", "one")
			foreign := theirs.DeepCopy()
			foreign.Namespace, foreign.Name = s.namespace, "out"
			if err := admin.Create(t.Context(), foreign); err != nil {
				t.Fatal(err)
			}
			s.apply(t, "db")
			if got := s.ready(t, "db", "False OutputTaken"); !strings.HasPrefix(got, "Secret out: it exists") {
				t.Errorf("message %q", got)
			}
			s.event(t, "db", "OutputTaken")
			s.event(t, "db", "ErrResourceExists")
			s.looks(t, 3)
			out, err := s.secret(t.Context(), "out")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(foreign, out); diff != "" {
				t.Errorf("the Secret was touched (-before +after):\n%s", diff)
			}
			if err := admin.Delete(t.Context(), foreign); err != nil {
				t.Fatal(err)
			}
			s.holds(t, "password", "one")
			s.ready(t, "db", "True Synced")
		})
	}
}

func TestTwoResourcesShareASecret(t *testing.T) {
	t.Parallel()
	s := newStage(t, often)
	for _, name := range []string{"db", "user", "thief"} {
		s.put(name, name)
	}
	s.apply(t, "db")
	s.ready(t, "db", "True Synced")
	s.apply(t, "user", func(spec *v2beta1.AzureKeyVaultSecretSpec) { spec.Output.Secret.DataKey = "user" })
	s.ready(t, "user", "True Synced")
	s.apply(t, "thief")
	if got := s.ready(t, "thief", "False OutputConflict"); !strings.Contains(got, "AzureKeyVaultSecret db, which is older, keeps the same key") {
		t.Errorf("message %q", got)
	}
	s.put("user", "changed")
	out := s.holds(t, "user", "changed")
	if string(out.Data["password"]) != canary+"db" || len(out.Data) != 2 || len(out.OwnerReferences) != 2 {
		t.Errorf("%d keys, owners %v", len(out.Data), out.OwnerReferences)
	}
	s.ready(t, "db", "True Synced")
}

// A resource that was deleted and made anew meets the output of its namesake,
// which garbage collection has not reached yet.
func TestAResourceMadeAnewTakesItsOutputBack(t *testing.T) {
	t.Parallel()
	s := newStage(t, often)
	s.put("db", "one")
	s.apply(t, "db")
	s.ready(t, "db", "True Synced")
	if err := admin.Delete(t.Context(), s.get(t, "db")); err != nil {
		t.Fatal(err)
	}
	s.put("db", "two")
	s.apply(t, "db")
	s.ready(t, "db", "True Synced")
	out := s.holds(t, "password", "two")
	uid := s.get(t, "db").UID
	found := false
	for _, ref := range out.OwnerReferences {
		found = found || ref.UID == uid
	}
	if !found {
		t.Errorf("owners %v, want %s among them", out.OwnerReferences, uid)
	}
}

// What the original wrote, by plain updates and with its owner reference, is
// taken over without a gap.
func TestAnOutputOfTheOriginalIsTakenOver(t *testing.T) {
	t.Parallel()
	s := newStage(t, often)
	s.vault.Fail(vault.Reference{}, vault.ErrUnavailable) // until everything is in place
	s.put("db", "one")
	s.apply(t, "db")
	akvs, no, yes := s.get(t, "db"), false, true
	theirs := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Namespace: s.namespace, Name: "out", Labels: map[string]string{"copied": "x"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "spv.no/v2beta1", Kind: "AzureKeyVaultSecret", Name: "db", UID: akvs.UID, Controller: &no, BlockOwnerDeletion: &yes}},
	}, Data: map[string][]byte{"password": []byte("old")}}
	if err := admin.Create(t.Context(), theirs, client.FieldOwner("azure-keyvault-controller")); err != nil {
		t.Fatal(err)
	}
	s.vault.Fail(vault.Reference{}, nil)
	out := s.holds(t, "password", "one")
	if out.UID != theirs.UID || len(out.OwnerReferences) != 1 {
		t.Errorf("UID %s, was %s; owners %v", out.UID, theirs.UID, out.OwnerReferences)
	}
}

// Every way in which a person's input or the vault can be bad gives one clear
// condition and one event, and the last good output stays.
func TestBadInput(t *testing.T) {
	t.Parallel()
	ref := vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: "db"}
	respec := func(change func(*v2beta1.AzureKeyVaultSecretSpec)) func(*testing.T, *stage) {
		return func(t *testing.T, s *stage) {
			t.Helper()
			akvs := s.get(t, "db")
			before := akvs.DeepCopy()
			change(&akvs.Spec)
			if err := admin.Patch(t.Context(), akvs, client.MergeFrom(before)); err != nil {
				t.Fatal(err)
			}
		}
	}
	fail := func(err error) func(*testing.T, *stage) {
		return func(_ *testing.T, s *stage) { s.vault.Fail(vault.Reference{}, err) }
	}
	for name, tc := range map[string]struct {
		spoil   func(*testing.T, *stage)
		reason  string
		message string
	}{
		"MissingVault":   {respec(func(spec *v2beta1.AzureKeyVaultSecretSpec) { spec.Vault.Name = "no-such-kv" }), "VaultNotFound", "no-such-kv/db: there is no vault of this name"},
		"MissingObject":  {func(_ *testing.T, s *stage) { s.vault.Delete(ref) }, "VaultObjectNotFound", "my-kv/db: the vault has no such object"},
		"WrongObject":    {respec(func(spec *v2beta1.AzureKeyVaultSecretSpec) { spec.Vault.Object.Name = "bd" }), "VaultObjectNotFound", "my-kv/bd: the vault has no such object"},
		"WrongVersion":   {respec(func(spec *v2beta1.AzureKeyVaultSecretSpec) { spec.Vault.Object.Version = strings.Repeat("f", 32) }), "VaultObjectNotFound", "my-kv/db: the vault has no such object"},
		"DisabledObject": {func(_ *testing.T, s *stage) { s.vault.Disable(ref) }, "VaultObjectDisabled", "my-kv/db: the object, or this version of it, is disabled"},
		"Forbidden":      {fail(fmt.Errorf("remote %s: %w", canary, vault.ErrForbidden)), "VaultForbidden", "my-kv/db: the identity may not read this object"},
		"Firewall":       {fail(vault.ErrFirewall), "VaultNetworkDenied", "my-kv/db: the vault's firewall refuses this network"},
		"SignIn":         {fail(vault.ErrSignIn), "SignInFailed", "my-kv/db: signing in to Azure was refused"},
		"NotExportable": {
			func(t *testing.T, s *stage) {
				t.Helper()
				s.vault.Put(testCert, vault.Object{Value: secret.New([]byte(certificate(t, "locked", false)))})
				s.apply(t, "locked", func(spec *v2beta1.AzureKeyVaultSecretSpec) {
					spec.Vault.Object = v2beta1.VaultObject{Name: "test-cert", Type: v2beta1.ObjectCertificate}
					spec.Output.Secret = &v2beta1.SecretOutput{Name: "other", Type: "kubernetes.io/tls"}
				})
			}, "KeyNotExportable", "my-kv/test-cert: the private key is not exportable: make the certificate with an exportable key",
		},
		"WrongType": {respec(func(spec *v2beta1.AzureKeyVaultSecretSpec) { spec.Output.Secret.Type = "kubernetes.io/tls" }), "OutputInvalid", "my-kv/db: the object is not a certificate with its private key, as PEM or PFX without password"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, often)
			s.put("db", "one")
			s.apply(t, "db")
			s.ready(t, "db", "True Synced")
			before := s.holds(t, "password", "one")
			tc.spoil(t, s)
			resource := "db"
			if name == "NotExportable" {
				resource = "locked"
			}
			if got := s.ready(t, resource, "False "+tc.reason); got != tc.message {
				t.Errorf("message %q, want %q", got, tc.message)
			}
			if got := s.event(t, resource, tc.reason); got != tc.message {
				t.Errorf("event %q, want %q", got, tc.message)
			}
			if !meta.IsStatusConditionTrue(s.get(t, resource).Status.Conditions, v2beta1.ConditionStalled) {
				t.Error("not Stalled, although a person must act")
			}
			after, err := s.secret(t.Context(), "out")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("the output changed (-before +after):\n%s", diff)
			}
			s.saysNoValue(t)
		})
	}
}

func TestAnOutageLeavesAWorkingOutputReady(t *testing.T) {
	t.Parallel()
	s := newStage(t, often)
	s.put("db", "one")
	s.apply(t, "db")
	s.ready(t, "db", "True Synced")
	before, status := s.holds(t, "password", "one"), s.get(t, "db").ResourceVersion
	s.vault.Fail(vault.Reference{}, fmt.Errorf("remote %s", canary))
	s.looks(t, 3)
	if got := s.get(t, "db").ResourceVersion; got != status {
		t.Error("an outage rewrote a status")
	}
	s.apply(t, "new", func(spec *v2beta1.AzureKeyVaultSecretSpec) { spec.Output.Secret.Name = "other" })
	s.ready(t, "new", "False VaultUnavailable")
	s.ready(t, "db", "True Synced")
	s.vault.Fail(vault.Reference{}, nil)
	s.put("db", "two")
	if after := s.holds(t, "password", "two"); after.UID != before.UID {
		t.Error("the output was made anew")
	}
	s.put("new", "one")
	s.ready(t, "new", "True Synced")
	s.saysNoValue(t)
}

// What the vault has not confirmed for long is said to be stale, once; the output and
// Ready stay as they are, and the end of the outage ends it.
func TestALongOutageIsVisible(t *testing.T) {
	t.Parallel()
	s := emptyStage(t, time.Second)
	s.staleAfter = 3
	s.start(t, "")
	s.put("db", "one")
	s.apply(t, "db")
	s.ready(t, "db", "True Synced")
	out := s.secretOf("out")
	s.data(t, out, "password=one")
	s.vault.Fail(vault.Reference{}, fmt.Errorf("remote %s", canary))
	if got := s.event(t, "db", "NotConfirmed"); !strings.HasPrefix(got, "my-kv/db: the vault has not confirmed it since 20") {
		t.Errorf("event %q", got)
	}
	eventually(t, "it is stale", func() error { return s.stale(t, "db", true) })
	status := s.get(t, "db").ResourceVersion
	s.looks(t, 3)
	if got := s.get(t, "db").ResourceVersion; got != status {
		t.Error("it was said more than once")
	}
	s.ready(t, "db", "True Synced")
	s.same(t, out)
	s.vault.Fail(vault.Reference{}, nil)
	eventually(t, "it is stale no longer", func() error { return s.stale(t, "db", false) })
	s.same(t, out)
	s.saysNoValue(t)
}

func (s *stage) stale(t *testing.T, name string, want bool) error {
	t.Helper()
	conditions := s.get(t, name).Status.Conditions
	if got := meta.IsStatusConditionTrue(conditions, v2beta1.ConditionStale); got != want {
		return fmt.Errorf("%v", conditions)
	}
	return nil
}

func TestNoOutputIsReadyAndReadsNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t, often)
	s.apply(t, "db", func(spec *v2beta1.AzureKeyVaultSecretSpec) { spec.Output = v2beta1.Output{} })
	s.ready(t, "db", "True NoOutput")
	if n := len(s.vault.Reads()); n != 0 {
		t.Errorf("%d reads of the vault", n)
	}
}

func TestDeletingTheResourceDeletesItsOutput(t *testing.T) {
	t.Parallel()
	s := newStage(t, never)
	s.put("db", "one")
	s.apply(t, "db")
	s.ready(t, "db", "True Synced")
	reads := len(s.vault.Reads())
	if err := admin.Delete(t.Context(), s.get(t, "db")); err != nil {
		t.Fatal(err)
	}
	// No garbage collection runs here: it is the Controller that does it.
	eventually(t, "the Secret is gone", func() error {
		if _, err := s.secret(t.Context(), "out"); !apierrors.IsNotFound(err) {
			return fmt.Errorf("error %w", err)
		}
		return nil
	})
	if got := len(s.vault.Reads()); got != reads {
		t.Errorf("%d reads of the vault", got-reads)
	}
}

// saysNoValue looks through what the Controller told the API server.
func (s *stage) saysNoValue(t *testing.T) {
	t.Helper()
	var list v2beta1.AzureKeyVaultSecretList
	var told eventsv1.EventList
	if err := errors.Join(admin.List(t.Context(), &list, client.InNamespace(s.namespace)), admin.List(t.Context(), &told, client.InNamespace(s.namespace))); err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%+v %+v", list, told); strings.Contains(text, canary) {
		t.Error("a value, or a remote error's text, is in a status or an event")
	}
}
