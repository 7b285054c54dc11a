// SPDX-License-Identifier: Apache-2.0

// Package chart_test renders the charts with the real helm and judges the
// outcome as a cluster would: strictly decoded, against the restricted Pod
// Security Standard, against the permissions each process may have, and against
// the options that each binary knows. What a value changes is a golden in
// testdata; -update rewrites them and the READMEs' tables.
package chart_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite goldens and README tables")

const (
	product  = "../../charts/akv2k8s"
	emulator = "../../charts/keyvault-emulator"

	// kubeVersion is what helm without a cluster takes the cluster to be.
	kubeVersion = "1.37.0"
)

// helm is the pinned helm of the tools module; the first call builds it, which
// takes a minute with an empty cache.
var helm = sync.OnceValues(func() (string, error) {
	out, err := exec.CommandContext(context.Background(), "go", "tool", "-modfile=../../go.tools.mod", "-n", "helm").Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return "", fmt.Errorf("building helm from go.tools.mod: %w\n%s", err, exit.Stderr)
		}
		return "", fmt.Errorf("building helm from go.tools.mod: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
})

// runHelm returns what helm printed, and its complaint as an error.
func runHelm(t *testing.T, args ...string) ([]byte, error) {
	t.Helper()
	binary, err := helm()
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = append(os.Environ(),
		"HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home, "HELM_PLUGINS="+home)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, stderr.String())
	}
	return stdout.Bytes(), nil
}

// template renders a chart as release NAME in namespace NAME-system.
func template(t *testing.T, chart, release string, args ...string) ([]byte, error) {
	t.Helper()
	all := []string{"template", release, chart, "--namespace", release + "-system", "--kube-version", kubeVersion}
	return runHelm(t, append(all, args...)...)
}

func mustTemplate(t *testing.T, chart, release string, args ...string) []byte {
	t.Helper()
	out, err := template(t, chart, release, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// strict decodes the kinds that Kubernetes itself has and refuses unknown and
// repeated fields. The published JSON schemas would say the same, but are not
// part of any Go module.
var strict = sync.OnceValue(func() runtime.Decoder {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, appsv1.AddToScheme, rbacv1.AddToScheme, policyv1.AddToScheme,
		admissionv1.AddToScheme, apiextensionsv1.AddToScheme, networkingv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
})

// objects decodes a rendered chart. ServiceMonitors, whose types are not ours to
// import, come back unstructured.
func objects(t *testing.T, rendered []byte) []runtime.Object {
	t.Helper()
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(rendered)))
	var out []runtime.Object
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if object := decode(t, document); object != nil {
			out = append(out, object)
		}
	}
}

func decode(t *testing.T, document []byte) runtime.Object {
	t.Helper()
	var fields map[string]any
	if err := yaml.UnmarshalStrict(document, &fields); err != nil {
		t.Fatalf("not YAML: %v\n%s", err, document)
	}
	if len(fields) == 0 {
		return nil
	}
	if fields["kind"] == "ServiceMonitor" {
		return &unstructured.Unstructured{Object: fields}
	}
	object, _, err := strict().Decode(document, nil, nil)
	if err != nil {
		t.Fatalf("Kubernetes would refuse this: %v\n%s", err, document)
	}
	return object
}

// each returns the objects of one type.
func each[T runtime.Object](all []runtime.Object) []T {
	var out []T
	for _, object := range all {
		if typed, ok := object.(T); ok {
			out = append(out, typed)
		}
	}
	return out
}

// cases are the value sets in testdata, by name.
func cases(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("testdata/*/values.yaml")
	if err != nil || len(files) < 12 {
		t.Fatalf("found %d value sets (%v), want a dozen", len(files), err)
	}
	out := map[string]string{}
	for _, file := range files {
		out[filepath.Base(filepath.Dir(file))] = file
	}
	return out
}
