// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/render"
)

func TestDockerConfigAddAuth(t *testing.T) {
	t.Parallel()
	s := spec(v2beta1.ObjectSecret, "kubernetes.io/dockerconfigjson", "", addAuth)
	for name, text := range inputs(t, "docker/*.json") {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := mustRender(t, s, render.Secret, object(text))[".dockerconfigjson"]
			golden(t, "docker/"+strings.TrimSuffix(name, "json")+"golden", got)
			again := mustRender(t, s, render.Secret, object(got))[".dockerconfigjson"]
			if diff := cmp.Diff(got, again); diff != "" {
				t.Errorf("a second time (-once +twice):\n%s", diff)
			}
		})
	}
}

// Whatever JSON it is, adding auth changes nothing but auth.
func FuzzDockerConfig(f *testing.F) {
	for _, text := range inputs(f, "docker/*.json") {
		f.Add([]byte(text), true)
	}
	f.Add([]byte(`{"auths":{"a":{"username":"u","password":"p","auth":"\u0000"}},"auths":{"b":{"password":"p","username":"u"}}}`), true)
	f.Add([]byte(`{"auths":{"a":{"username":"u","username":1,"password":"p"}}}x`), false)
	f.Fuzz(func(t *testing.T, raw []byte, add bool) {
		s := spec(v2beta1.ObjectSecret, "kubernetes.io/dockerconfigjson", "")
		s.Output.Secret.AddAuth = add
		payload, err := render.Output(s, render.Secret, object(string(raw)))
		if err != nil {
			mustBeOurs(t, err, raw)
			return
		}
		got := payload.Data[".dockerconfigjson"].Reveal()
		if !add && string(got) != string(raw) {
			t.Fatal("changed without being asked to")
		}
		if !json.Valid(got) {
			t.Fatal("no JSON any more")
		}
		before, after := parsed(t, raw), parsed(t, got)
		for _, config := range []map[string]any{before, after} {
			auths, _ := config["auths"].(map[string]any)
			for _, registry := range auths {
				checkAuth(t, registry)
			}
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Fatalf("more than auth changed (-before +after):\n%s", diff)
		}
	})
}

// checkAuth takes the auth that belongs to username and password away.
func checkAuth(t *testing.T, registry any) {
	t.Helper()
	r, ok := registry.(map[string]any)
	if !ok {
		return
	}
	username, _ := r["username"].(string)
	password, _ := r["password"].(string)
	auth, ok := r["auth"].(string)
	if r["auth"] == nil || ok && (auth == "" || auth == base64.StdEncoding.EncodeToString([]byte(username+":"+password))) {
		delete(r, "auth")
	}
}

func parsed(t *testing.T, text []byte) map[string]any {
	t.Helper()
	var out map[string]any
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	if err := d.Decode(&out); err != nil {
		t.Fatal(err)
	}
	return out
}
