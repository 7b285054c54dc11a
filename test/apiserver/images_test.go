// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/image"
	"github.com/akv2k8s/akv2k8s/internal/inject"
	"github.com/akv2k8s/akv2k8s/internal/webhook"
)

// pullPassword is of user puller.
const pullPassword = "planted-password-of-a-registry"

// privateRegistry serves one image, to who signs in.
func privateRegistry(t *testing.T) (*httptest.Server, string) {
	t.Helper()
	good := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "puller" || password != pullPassword {
			w.Header().Set("WWW-Authenticate", `Basic realm="remote-text"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		good.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	private := strings.TrimPrefix(server.URL, "https://") + "/team/app:1"
	tag, err := name.ParseReference(private)
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.Config(empty.Image, v1.Config{Entrypoint: []string{"/of-the-image"}})
	if err != nil {
		t.Fatal(err)
	}
	auth := remote.WithAuth(&authn.Basic{Username: "puller", Password: pullPassword})
	if err := remote.Write(tag, img, auth, remote.WithTransport(server.Client().Transport)); err != nil {
		t.Fatal(err)
	}
	return server, private
}

// lookup is what cmd makes of a Resolver, for this registry alone.
func lookup(server *httptest.Server) webhook.CommandFunc {
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	images := image.NewResolver(image.Options{Timeout: 10 * time.Second, Transport: image.NewTransport(image.Dial{
		AllowLoopback: true, Roots: roots, Budget: image.Budget{Rate: 100, Concurrent: 10},
	})})
	return func(ctx context.Context, l webhook.Lookup) (inject.Command, error) {
		if strings.HasPrefix(l.Image, "registry.example/") {
			return inject.Command{Err: inject.ErrImageForbidden}, errors.New("remote-text")
		}
		return images.Command(ctx, image.Request(l))
	}
}

// privateImagesAreLookedUp: the pull secrets of pod and service account open a
// registry, and each refusal names what was tried and what was not to be had.
func privateImagesAreLookedUp(t *testing.T, private string) {
	t.Helper()
	ns, host := labelled(t, enabled()), strings.SplitN(private, "/", 2)[0]
	secret := func(name, password string) {
		t.Helper()
		s := &corev1.Secret{Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{
			corev1.DockerConfigJsonKey: fmt.Appendf(nil, `{"auths": {%q: {"username": "puller", "password": %q}}}`, host, password),
		}}
		s.Namespace, s.Name = ns, name
		if err := admin.Create(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	account := func(name string, secrets ...string) {
		t.Helper()
		a := &corev1.ServiceAccount{}
		a.Namespace, a.Name = ns, name
		for _, s := range secrets {
			a.ImagePullSecrets = append(a.ImagePullSecrets, corev1.LocalObjectReference{Name: s})
		}
		if err := admin.Create(t.Context(), a); err != nil {
			t.Fatal(err)
		}
	}
	secret("good", pullPassword)
	secret("wrong", "x")
	account("plain")
	account("pulling", "good")
	for title, tc := range map[string]struct {
		account string
		secrets []string
		refusal []string
	}{
		"OfThePod":            {"plain", []string{"good"}, nil},
		"OfTheServiceAccount": {"pulling", nil, nil},
		"OfBoth":              {"pulling", []string{"wrong"}, nil},
		"AfterOthers":         {"plain", []string{"absent", "wrong", "good"}, nil},
		"OfNobody":            {"plain", nil, []string{"was asked without sign-in"}},
		"Useless": {"plain", []string{"wrong", "absent"}, []string{
			`was asked with pull secret "wrong" and without sign-in`, `pull secret "absent" does not exist`, host, private, "imagePullSecrets",
		}},
	} {
		t.Run(title, func(t *testing.T) {
			pod := somePod(ns, "my-secret@azurekeyvault")
			pod.Spec.ServiceAccountName, pod.Spec.Containers[0].Command, pod.Spec.Containers[0].Image = tc.account, nil, private
			for _, s := range tc.secrets {
				pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: s})
			}
			err := admin.Create(t.Context(), pod, client.DryRunAll)
			if tc.refusal == nil {
				if err != nil {
					t.Fatal(err)
				}
				if c := pod.Spec.Containers[0]; !slices.Equal(append(c.Command, c.Args...), []string{brokerapi.Binary, "/of-the-image"}) {
					t.Errorf("runs %q %q", c.Command, c.Args)
				}
				return
			}
			if err == nil {
				t.Fatal("the pod is admitted")
			}
			for _, want := range tc.refusal {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("no word of %q in %v", want, err)
				}
			}
			if strings.Contains(err.Error(), "remote-text") || strings.Contains(err.Error(), pullPassword) {
				t.Errorf("leaked: %v", err)
			}
		})
	}
}
