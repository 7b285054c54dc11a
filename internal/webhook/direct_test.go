// SPDX-License-Identifier: Apache-2.0

package webhook_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/internal/inject"
)

// newDirectFixture is asked about pods that read their vaults themselves, and has no
// broker.
func newDirectFixture() *fixture {
	f := newFixture()
	f.below, f.brokers, f.brokerErr, f.bundle = "/direct", nil, errBoom, ""
	f.account = func(_ context.Context, namespace, name string) (inject.Account, error) {
		return inject.Account{Name: namespace + "/" + name, ClientID: "client"}, nil
	}
	return f
}

func TestInjectsDirect(t *testing.T) {
	t.Parallel()
	f := newDirectFixture()
	got := f.review(t, nil)
	if !got.Allowed || len(got.Warnings) > 0 {
		t.Fatalf("answer %+v", got)
	}
	if d := cmp.Diff([]string{"default/my-secret now"}, f.asked); d != "" {
		t.Errorf("asked: -want +got\n%s", d)
	}
	for _, want := range []string{`"image":"direct:1"`, `"value":"client"`, `"value":"tenant"`, `my-kv`, `"api://AzureADTokenExchange"`} {
		if !bytes.Contains(got.Patch, []byte(want)) {
			t.Errorf("no %s in the patch", want)
		}
	}
	if bytes.Contains(got.Patch, []byte("BROKER")) {
		t.Error("the pod is told of a broker")
	}
}

func TestDirectRefuses(t *testing.T) {
	t.Parallel()
	account := func(a inject.Account, err error) func(*fixture) {
		return func(f *fixture) {
			f.account = func(context.Context, string, string) (inject.Account, error) { return a, err }
		}
	}
	cases := map[string]struct {
		change    func(*fixture)
		container corev1.Container
		code      int32
		says      string
	}{
		"NoIdentity":    {account(inject.Account{Name: "default"}, nil), container("app", "/app"), http.StatusForbidden, `service account "default" names no identity`},
		"NoSecret":      {func(*fixture) {}, absent(), http.StatusForbidden, "has no AzureKeyVaultSecret of this name"},
		"AccountOutage": {account(inject.Account{}, errBoom), container("app", "/app"), http.StatusServiceUnavailable, "try again in a moment"},
		"SecretOutage":  {func(f *fixture) { f.secretErr = errBoom }, container("app", "/app"), http.StatusServiceUnavailable, "try again in a moment"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newDirectFixture()
			tc.change(f)
			got := f.review(t, with(t, tc.container))
			if got.Allowed || got.Result.Code != tc.code || !strings.Contains(got.Result.Message, tc.says) {
				t.Errorf("answer %+v", got)
			}
			if strings.Contains(got.Result.Message, "remote-text") {
				t.Errorf("it quotes somebody: %s", got.Result.Message)
			}
		})
	}
}

// A pod without placeholders is nobody's business.
func TestDirectPassesOver(t *testing.T) {
	t.Parallel()
	f := newDirectFixture()
	f.account = func(context.Context, string, string) (inject.Account, error) {
		t.Error("the service account was asked for")
		return inject.Account{}, nil
	}
	plain := container("app", "/app")
	plain.Env = nil
	if got := f.review(t, with(t, plain)); !got.Allowed || got.Patch != nil {
		t.Errorf("answer %+v", got)
	}
}

func TestAdvisesDirect(t *testing.T) {
	t.Parallel()
	f := newDirectFixture()
	if got := f.advise(t, "Deployment", deployment(container("app")), nil); got != nil {
		t.Errorf("warned of %q", got)
	}
	want := []string{`its pods will be refused: container "app", variable A, placeholder absent@azurekeyvault: namespace "default" has no AzureKeyVaultSecret of this name, ` +
		`and the pod, which reads its vaults itself, is told now or never: make it before the pod`}
	if d := cmp.Diff(want, newDirectFixture().advise(t, "Deployment", deployment(absent()), nil)); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}
