// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/cluster"
	"github.com/akv2k8s/akv2k8s/internal/controller"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/reader"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/sweep"
	"github.com/akv2k8s/akv2k8s/internal/vault"
	"github.com/akv2k8s/akv2k8s/internal/vault/vaulttest"
)

// canary is in every value.
const canary = "c4n4ry"

// A stage is a namespace with a Controller of its own, which has the chart's
// rights, and a vault.
type stage struct {
	namespace string
	vault     *vaulttest.Reader
	interval  time.Duration
	// staleAfter is how many intervals the vault may be silent; a look may take longer
	// than the intervals of most stories.
	staleAfter int
	requests
}

const (
	often = 300 * time.Millisecond // the Controller finds changes in the vault by itself
	never = time.Duration(0)       // only watches wake it
)

func newStage(t *testing.T, interval time.Duration) *stage {
	t.Helper()
	s := emptyStage(t, interval)
	s.start(t, "")
	return s
}

// emptyStage is one on which no Controller has run yet.
func emptyStage(t *testing.T, interval time.Duration) *stage {
	t.Helper()
	return &stage{namespace: namespace(t), vault: vaulttest.NewReader("my-kv"), interval: interval, staleAfter: 1000}
}

// start runs a Controller that cares for resources with these labels until what it
// returns is called, at the end of the test at the latest.
func (s *stage) start(t *testing.T, selector string) func() {
	t.Helper()
	mgr, err := cluster.NewManager(asController(&s.requests), cluster.Options{Namespace: s.namespace, Selector: selector, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	waker, vaults := &controller.Waker{}, reader.New(s.vault, reader.Options{})
	sweeper := sweep.New(vaults, sweep.Options{Wake: waker.Wake, StaleAfter: s.staleAfter, StaleRate: 100})
	if err := mgr.Add(manager.RunnableFunc(sweeper.Run)); err != nil {
		t.Fatal(err)
	}
	ready, err := controller.Setup(t.Context(), mgr, vaults, cluster.NewOutputs(mgr.GetAPIReader(), mgr.GetClient()), controller.Options{
		Watch: sweeper, Waker: waker,
		Settings: plan.Settings{Interval: s.interval, Warning: 30 * 24 * time.Hour}, Concurrency: 2, StatusRate: 100, Registry: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, mgr.Start)
	eventually(t, "the Controller is ready", func() error { return ready(nil) })
	return stop
}

// run runs until what it returns is called or the test ends, and sees to it that it
// ends well.
func run(t *testing.T, start func(context.Context) error) func() {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- start(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the Controller did not stop in order: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// apply creates an AzureKeyVaultSecret that outputs the secret my-kv/NAME to key
// "password" of the Secret "out", changed as the test likes.
func (s *stage) apply(t *testing.T, name string, change ...func(*v2beta1.AzureKeyVaultSecretSpec)) {
	t.Helper()
	akvs := &v2beta1.AzureKeyVaultSecret{Spec: v2beta1.AzureKeyVaultSecretSpec{
		Vault:  v2beta1.Vault{Name: "my-kv", Object: v2beta1.VaultObject{Name: name, Type: v2beta1.ObjectSecret}},
		Output: v2beta1.Output{Secret: &v2beta1.SecretOutput{Name: "out", DataKey: "password"}},
	}}
	akvs.Namespace, akvs.Name = s.namespace, name
	for _, c := range change {
		c(&akvs.Spec)
	}
	if err := admin.Create(t.Context(), akvs); err != nil {
		t.Fatal(err)
	}
}

func (s *stage) put(name, text string) {
	s.vault.Put(vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: name}, vault.Object{Value: secret.New([]byte(canary + text))})
}

func (s *stage) get(t *testing.T, name string) *v2beta1.AzureKeyVaultSecret {
	t.Helper()
	var akvs v2beta1.AzureKeyVaultSecret
	if err := admin.Get(t.Context(), types.NamespacedName{Namespace: s.namespace, Name: name}, &akvs); err != nil {
		t.Fatal(err)
	}
	return &akvs
}

// ready waits for a status and reason of Ready, and returns its message.
func (s *stage) ready(t *testing.T, name, want string) string {
	t.Helper()
	message := ""
	eventually(t, name+" is "+want, func() error {
		c := meta.FindStatusCondition(s.get(t, name).Status.Conditions, v2beta1.ConditionReady)
		if c == nil {
			return fmt.Errorf("without a condition")
		}
		message = c.Message
		if got := fmt.Sprintf("%s %s", c.Status, c.Reason); got != want {
			return fmt.Errorf("%s: %s", got, c.Message)
		}
		return nil
	})
	return message
}

func (s *stage) secret(ctx context.Context, name string) (*corev1.Secret, error) {
	var out corev1.Secret
	err := admin.Get(ctx, types.NamespacedName{Namespace: s.namespace, Name: name}, &out)
	return &out, err
}

// holds waits until the Secret "out" has this under the key.
func (s *stage) holds(t *testing.T, key, want string) *corev1.Secret {
	t.Helper()
	var out *corev1.Secret
	eventually(t, "out holds "+want, func() error {
		var err error
		if out, err = s.secret(t.Context(), "out"); err != nil {
			return err
		}
		if got := string(out.Data[key]); got != canary+want {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	return out
}

// event waits for one with this reason about the resource, and returns its note.
func (s *stage) event(t *testing.T, name, reason string) string {
	t.Helper()
	note := ""
	eventually(t, "event "+reason+" about "+name, func() error {
		var list eventsv1.EventList
		if err := admin.List(t.Context(), &list, client.InNamespace(s.namespace)); err != nil {
			return err
		}
		i := slices.IndexFunc(list.Items, func(e eventsv1.Event) bool { return e.Regarding.Name == name && e.Reason == reason })
		if i < 0 {
			return fmt.Errorf("missing among %d", len(list.Items))
		}
		note = list.Items[i].Note
		return nil
	})
	return note
}

// patched changes the Secret "out" as kubectl edit would.
func (s *stage) patched(t *testing.T, patch string) {
	t.Helper()
	out := &corev1.Secret{}
	out.Namespace, out.Name = s.namespace, "out"
	if err := admin.Patch(t.Context(), out, client.RawPatch(types.MergePatchType, []byte(patch)), client.FieldOwner("kubectl-edit")); err != nil {
		t.Fatal(err)
	}
}

// looks waits until the vault has been asked n more times.
func (s *stage) looks(t *testing.T, n int) {
	t.Helper()
	asked := func() int { return len(s.vault.Reads()) + len(s.vault.Lists()) }
	before := asked()
	eventually(t, "the vault is asked again", func() error {
		if got := asked() - before; got < n {
			return fmt.Errorf("%d of %d times", got, n)
		}
		return nil
	})
}

// certificate is a self-signed one as a vault keeps it: base64 of a PFX, or, if
// it must not leave, the certificate alone.
func certificate(t *testing.T, name string, exportable bool) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Unix(1<<33, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	if !exportable {
		return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pfx, err := pkcs12.Modern2023.Encode(key, cert, nil, "")
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(pfx)
}

func subjectOf(t *testing.T, crt []byte) string {
	t.Helper()
	block, _ := pem.Decode(crt)
	if block == nil {
		return ""
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimPrefix(cert.Subject.String(), "CN=")
}
