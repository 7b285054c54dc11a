// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// Whoever keeps manifests in git compares them with the cluster. Nothing that the
// schema or the Controller does may show there, in whichever version they are
// written.
func TestManifestsShowNoDifference(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s, dir := newStage(t, often), manifestsIn(t, version)
			s.fillForManifests(t)
			s.kubectl(t, "apply", "--filename", dir)
			written := s.manifestsAreSynced(t, dir)
			s.kubectl(t, "diff", "--filename", dir)
			again := s.kubectl(t, "apply", "--filename", dir)
			if unchanged := strings.Count(again, "unchanged\n"); unchanged != len(written) {
				t.Errorf("%d of %d are unchanged:\n%s", unchanged, len(written), again)
			}
			s.keepsNoTraceOfKubectl(t)
		})
	}
	t.Run("ServerSide", func(t *testing.T) {
		t.Parallel()
		s, dir := newStage(t, often), manifestsIn(t, "v1")
		s.fillForManifests(t)
		s.kubectl(t, "apply", "--server-side", "--filename", dir)
		s.manifestsAreSynced(t, dir)
		s.kubectl(t, "diff", "--server-side", "--filename", dir)
	})
}

// manifestsAreSynced waits until all are, and holds that each spec is as it was
// written: nothing is defaulted into it. It returns them.
func (s *stage) manifestsAreSynced(t *testing.T, dir string) []*unstructured.Unstructured {
	t.Helper()
	written := readManifests(t, dir)
	for _, want := range written {
		want.SetNamespace(s.namespace)
		eventually(t, want.GetName()+" is Ready", func() error {
			akvs := s.get(t, want.GetName())
			if c := meta.FindStatusCondition(akvs.Status.Conditions, v2beta1.ConditionReady); c == nil || c.Status != "True" || c.ObservedGeneration != akvs.Generation {
				return fmt.Errorf("%v", c)
			}
			return nil
		})
		got := &unstructured.Unstructured{}
		got.SetGroupVersionKind(want.GroupVersionKind())
		if err := admin.Get(t.Context(), client.ObjectKeyFromObject(want), got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.Object["spec"], got.Object["spec"]); diff != "" {
			t.Errorf("%s (-written +stored):\n%s", want.GetName(), diff)
		}
		if got.GetGeneration() != 1 {
			t.Errorf("%s is of generation %d: somebody changed its spec", want.GetName(), got.GetGeneration())
		}
	}
	return written
}

// keepsNoTraceOfKubectl: an output with kubectl's annotation would look as if it
// were applied itself.
func (s *stage) keepsNoTraceOfKubectl(t *testing.T) {
	t.Helper()
	var secrets corev1.SecretList
	var configMaps corev1.ConfigMapList
	in := client.InNamespace(s.namespace)
	if err := errors.Join(admin.List(t.Context(), &secrets, in), admin.List(t.Context(), &configMaps, in)); err != nil {
		t.Fatal(err)
	}
	if len(secrets.Items) < 10 || len(configMaps.Items) < 2 {
		t.Errorf("%d Secrets and %d ConfigMaps", len(secrets.Items), len(configMaps.Items))
	}
	for _, each := range append(asObjects(secrets.Items), asObjects(configMaps.Items)...) {
		for name := range each.GetAnnotations() {
			if !strings.HasPrefix(name, "reloader.example.com/") {
				t.Errorf("%s has annotation %s", each.GetName(), name)
			}
		}
		for name := range each.GetLabels() {
			if strings.Contains(name, "managed-by") {
				t.Errorf("%s has label %s", each.GetName(), name)
			}
		}
	}
}

func asObjects[T any, P interface {
	*T
	client.Object
}](items []T) []client.Object {
	var out []client.Object
	for i := range items {
		out = append(out, P(&items[i]))
	}
	return out
}

// fillForManifests puts what the manifests name into the vault.
func (s *stage) fillForManifests(t *testing.T) {
	t.Helper()
	for name, value := range map[string]string{
		"text":               canary,
		"login":              "user:" + canary,
		"docker-config-json": `{"auths":{"registry.example":{"username":"u","password":"` + canary + `"}}}`,
		"docker-config":      `{"registry.example":{"auth":"` + canary + `"}}`,
		"json":               `{"a":"` + canary + `","b":"` + canary + `"}`,
		"yaml":               "a: " + canary + "\nb: " + canary + "\n",
	} {
		s.vault.Put(vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: name}, vault.Object{Value: secret.New([]byte(value))})
	}
	s.vault.Put(testCert, vault.Object{Value: secret.New([]byte(certificate(t, "one", true)))})
	modulus := bytes.Repeat([]byte{0xc5}, 256)
	s.vault.Put(vault.Reference{Vault: "my-kv", Kind: vault.KindKey, Name: "signer"}, vault.Object{Key: vault.Key{Type: "RSA", N: modulus, E: []byte{1, 0, 1}}})
}

var apiVersion = regexp.MustCompile(`(?m)^apiVersion: spv\.no/.*$`)

// manifestsIn is a directory with all manifests in one API version.
func manifestsIn(t *testing.T, version string) string {
	t.Helper()
	files, err := filepath.Glob("testdata/manifests/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d manifests, %v", len(files), err)
	}
	dir := t.TempDir()
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text = apiVersion.ReplaceAll(text, []byte("apiVersion: spv.no/"+version))
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func readManifests(t *testing.T, dir string) []*unstructured.Unstructured {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var out []*unstructured.Unstructured
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
		for {
			u := &unstructured.Unstructured{}
			if err := decoder.Decode(u); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			out = append(out, u)
		}
	}
	return out
}

// kubectl is the program itself, as the person. It must succeed, which for a diff
// means that there is none.
func (s *stage) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	home := t.TempDir()
	file := filepath.Join(home, "kubeconfig")
	if err := os.WriteFile(file, kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), "kubectl")
	cmd := exec.CommandContext(t.Context(), program, append(args, "--namespace", s.namespace)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+file, "HOME="+home, "KUBECTL_EXTERNAL_DIFF=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", args[0], err, out)
	}
	return string(out)
}
