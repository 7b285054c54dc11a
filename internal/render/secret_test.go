// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/render"
)

func TestSecretUnderDataKey(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change change
		value  string
		want   string
		err    error
	}{
		"Plain":         {nil, "p4ss:word\n", "p4ss:word\n", nil},
		"Empty":         {nil, "", "", nil},
		"Bytes":         {nil, "\x00\xff", "\x00\xff", nil},
		"Largest":       {nil, strings.Repeat("x", 1<<20), strings.Repeat("x", 1<<20), nil},
		"TooLarge":      {nil, strings.Repeat("x", 1<<20+1), "", render.ErrSize},
		"GrownTooLarge": {transforms("base64encode"), strings.Repeat("x", 1<<20), "", render.ErrSize},
		"Trimmed":       {transforms("trim"), " \t v v \r\n", "v v", nil},
		"Encoded":       {transforms("base64encode"), "v", "dg==", nil},
		"Decoded":       {transforms("base64decode"), "dg==", "v", nil},
		"DecodedBytes":  {transforms("base64decode"), "AP8=", "\x00\xff", nil},
		"DecodedLines":  {transforms("base64decode"), "dg\r\n==\n", "v", nil},
		"InOrder":       {transforms("trim", "base64decode", "trim"), " IHYg \n", "v", nil},
		"OldSpelling":   {func(s *specOf) { s.Output.Transforms = []v2beta1.Transform{"trim"} }, " v ", "v", nil},
		"BothSpellings": {func(s *specOf) {
			s.Output.Transform = []v2beta1.Transform{"base64decode"}
			s.Output.Transforms = []v2beta1.Transform{"trim"}
		}, "IHYg", "v", nil},
		"NotBase64": {transforms("base64decode"), "no base64", "", render.ErrTransform},
		"Unknown":   {transforms("rot13"), "v", "", render.ErrTransform},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, kind := range []render.Kind{render.Secret, render.ConfigMap} {
				s := spec(v2beta1.ObjectSecret, "example.com/x", "password")
				s.Output.ConfigMap = &v2beta1.ConfigMapOutput{Name: "out", DataKey: "password"}
				if tc.change != nil {
					tc.change(&s)
				}
				got, err := render.Output(s, kind, object(tc.value))
				if !errors.Is(err, tc.err) {
					t.Fatalf("%s: error %v, want %v", kind, err, tc.err)
				}
				if err != nil {
					continue
				}
				if want := map[render.Kind]corev1.SecretType{render.Secret: "example.com/x"}[kind]; got.Type != want || got.Kind != kind {
					t.Errorf("%s: kind %q, type %q, want %q", kind, got.Kind, got.Type, want)
				}
				if diff := cmp.Diff(map[string]string{"password": tc.want}, revealed(got.Data)); diff != "" {
					t.Errorf("%s: data (-want +got):\n%s", kind, diff)
				}
			}
		})
	}
}

func TestSecretOfType(t *testing.T) {
	t.Parallel()
	userPassword := func(u, p string) map[string]string { return map[string]string{"username": u, "password": p} }
	docker := func(text string) map[string]string { return map[string]string{".dockerconfigjson": text} }
	odd := "{\n \"auths\":{\"r.io\":{\"auth\":\"\"}},\"x\":1.50}\n"
	for name, tc := range map[string]struct {
		secretType string
		value      string
		change     change
		want       map[string]string
		err        error
	}{
		"BasicAuth":           {"kubernetes.io/basic-auth", "me:hunter2", nil, userPassword("me", "hunter2"), nil},
		"BasicAuthColons":     {"kubernetes.io/basic-auth", "me:a:b:", nil, userPassword("me", "a:b:"), nil},
		"BasicAuthNoPassword": {"kubernetes.io/basic-auth", "me:", nil, userPassword("me", ""), nil},
		"BasicAuthNoUser":     {"kubernetes.io/basic-auth", ":token", nil, userPassword("", "token"), nil},
		"BasicAuthTransforms": {"kubernetes.io/basic-auth", "bWU6cA==\n", transforms("trim", "base64decode"), userPassword("me", "p"), nil},
		"BasicAuthNoColon":    {"kubernetes.io/basic-auth", "hunter2", nil, nil, render.ErrBasicAuth},
		"BasicAuthEmpty":      {"kubernetes.io/basic-auth", "", nil, nil, render.ErrBasicAuth},
		"SSH":                 {"kubernetes.io/ssh-auth", "-----BEGIN X\n", nil, map[string]string{"ssh-privatekey": "-----BEGIN X\n"}, nil},
		"SSHEmpty":            {"kubernetes.io/ssh-auth", "", nil, nil, render.ErrSSHKey},
		"SSHTrimmed":          {"kubernetes.io/ssh-auth", " \n", transforms("trim"), nil, render.ErrSSHKey},
		"Docker":              {"kubernetes.io/dockerconfigjson", odd, nil, docker(odd), nil},
		"DockerNoRegistry":    {"kubernetes.io/dockerconfigjson", `{"auths":{}}`, nil, docker(`{"auths":{}}`), nil},
		"DockerNoAuths":       {"kubernetes.io/dockerconfigjson", `{"r.io":{}}`, nil, nil, render.ErrDockerConfig},
		"DockerAuthsNull":     {"kubernetes.io/dockerconfigjson", `{"auths":null}`, nil, nil, render.ErrDockerConfig},
		"DockerAuthsList":     {"kubernetes.io/dockerconfigjson", `{"auths":[]}`, nil, nil, render.ErrDockerConfig},
		"DockerList":          {"kubernetes.io/dockerconfigjson", `[{"auths":{}}]`, nil, nil, render.ErrDockerConfig},
		"DockerCut":           {"kubernetes.io/dockerconfigjson", `{"auths":{}`, nil, nil, render.ErrDockerConfig},
		"DockerTwo":           {"kubernetes.io/dockerconfigjson", `{"auths":{}}{}`, nil, nil, render.ErrDockerConfig},
		"DockerText":          {"kubernetes.io/dockerconfigjson", "hunter2", nil, nil, render.ErrDockerConfig},
		"DockerEmpty":         {"kubernetes.io/dockerconfigjson", "", nil, nil, render.ErrDockerConfig},
		"Dockercfg":           {"kubernetes.io/dockercfg", odd, nil, map[string]string{".dockercfg": odd}, nil},
		"DockercfgText":       {"kubernetes.io/dockercfg", "hunter2", nil, nil, render.ErrDockerConfig},
		"DockercfgNull":       {"kubernetes.io/dockercfg", "null", nil, nil, render.ErrDockerConfig},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := spec(v2beta1.ObjectSecret, tc.secretType, "ignored")
			if tc.change != nil {
				tc.change(&s)
			}
			got, err := render.Output(s, render.Secret, object(tc.value))
			if !errors.Is(err, tc.err) {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if err != nil {
				return
			}
			if diff := cmp.Diff(tc.want, revealed(got.Data)); diff != "" || string(got.Type) != tc.secretType {
				t.Errorf("type %s, data (-want +got):\n%s", got.Type, diff)
			}
		})
	}
}
