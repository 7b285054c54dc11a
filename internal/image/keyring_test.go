// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/internal/image"
	"github.com/akv2k8s/akv2k8s/internal/inject"
	"github.com/akv2k8s/akv2k8s/internal/secret"
)

// pullSecret holds a user, of the same name as the secret, for each location.
func pullSecret(name string, locations ...string) inject.PullSecret {
	var entries []string
	for _, l := range locations {
		entries = append(entries, fmt.Sprintf(`%q: {"username": %q, "password": "pw"}`, l, name+"@"+l))
	}
	return inject.PullSecret{
		Name: name, Type: corev1.SecretTypeDockerConfigJson,
		Config: secret.New([]byte(`{"auths": {` + strings.Join(entries, ", ") + `}}`)),
	}
}

// The cases are those of the kubelet's own tests, and of its documentation.
func TestLoginsFor(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		locations []string
		image     string
		want      []string
	}{
		"Host":             {[]string{"registry.example"}, "registry.example/team/app", []string{"registry.example"}},
		"OtherHost":        {[]string{"registry.example"}, "other.example/team/app", nil},
		"Subdomain":        {[]string{"registry.example"}, "a.registry.example/app", nil},
		"URL":              {[]string{"https://registry.example/v1/"}, "registry.example/app", []string{"https://registry.example/v1/"}},
		"PlainURL":         {[]string{"http://registry.example/v2/"}, "registry.example/app", []string{"http://registry.example/v2/"}},
		"Port":             {[]string{"registry.example:5000"}, "registry.example:5000/app", []string{"registry.example:5000"}},
		"NoPort":           {[]string{"registry.example"}, "registry.example:5000/app", nil},
		"OtherPort":        {[]string{"registry.example:5001"}, "registry.example:5000/app", nil},
		"Path":             {[]string{"registry.example/team"}, "registry.example/team/app", []string{"registry.example/team"}},
		"OtherPath":        {[]string{"registry.example/team"}, "registry.example/other/app", nil},
		"Glob":             {[]string{"*.azurecr.io"}, "mine.azurecr.io/app", []string{"*.azurecr.io"}},
		"GlobIsOneLabel":   {[]string{"*.example"}, "a.b.example/app", nil},
		"GlobInALabel":     {[]string{"reg*.example"}, "registry.example/app", []string{"reg*.example"}},
		"GlobTwice":        {[]string{"*.*.example"}, "a.b.example/app", []string{"*.*.example"}},
		"GlobWithPort":     {[]string{"*.example:5000"}, "a.example:5000/app", []string{"*.example:5000"}},
		"BadGlob":          {[]string{"[.example"}, "a.example/app", nil},
		"MostSpecific":     {[]string{"*.example", "registry.example", "registry.example/team/app", "registry.example/team"}, "registry.example/team/app", []string{"registry.example/team/app", "registry.example/team", "registry.example", "*.example"}},
		"DockerHub":        {[]string{"https://index.docker.io/v1/"}, "docker.io/library/nginx", []string{"https://index.docker.io/v1/"}},
		"DockerHubByName":  {[]string{"docker.io"}, "docker.io/library/nginx", []string{"docker.io"}},
		"DockerHubByPath":  {[]string{"docker.io/library", "index.docker.io"}, "docker.io/library/nginx", []string{"docker.io/library"}},
		"NotDockerHub":     {[]string{"https://index.docker.io/v1/"}, "registry.example/library/nginx", nil},
		"NothingAtAll":     {nil, "registry.example/app", nil},
		"NoHostInLocation": {[]string{"https:///v1/"}, "registry.example/app", nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var want []string
			for _, w := range tc.want {
				want = append(want, "s@"+w)
			}
			got, unusable := image.LoginsFor([]inject.PullSecret{pullSecret("s", tc.locations...)}, tc.image)
			if d := cmp.Diff(want, got); d != "" || len(unusable) > 0 {
				t.Errorf("unusable %v, -want +got\n%s", unusable, d)
			}
		})
	}
}

func TestLoginsOfSeveralSecrets(t *testing.T) {
	t.Parallel()
	got, unusable := image.LoginsFor([]inject.PullSecret{
		pullSecret("one", "registry.example"), inject.UnusablePullSecret("gone", inject.Missing),
		pullSecret("other", "registry.example", "registry.example/team"),
		{Name: "cut", Type: corev1.SecretTypeDockerConfigJson, Config: secret.New([]byte(`{"auths":`))},
	}, "registry.example/team/app")
	if d := cmp.Diff([]string{"other@registry.example/team", "one@registry.example", "other@registry.example"}, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if d := cmp.Diff([]string{`pull secret "gone" does not exist`, `pull secret "cut" holds no Docker configuration`}, unusable); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestParseDockerConfig(t *testing.T) {
	t.Parallel()
	auth := func(encoding *base64.Encoding, text string) string {
		return `{"auths": {"r.example": {"auth": "` + encoding.EncodeToString([]byte(text)) + `"}}}`
	}
	for name, tc := range map[string]struct {
		kind corev1.SecretType
		text string
		want map[string]string // nil is a complaint
	}{
		"UserAndPassword": {corev1.SecretTypeDockerConfigJson, `{"auths": {"r.example": {"username": "me", "password": "pw", "email": "x"}}}`, map[string]string{"r.example": "me:pw"}},
		"Auth":            {corev1.SecretTypeDockerConfigJson, auth(base64.StdEncoding, "me:pw:1"), map[string]string{"r.example": "me:pw:1"}},
		"AuthUnpadded":    {corev1.SecretTypeDockerConfigJson, auth(base64.RawStdEncoding, "me:pw:1"), map[string]string{"r.example": "me:pw:1"}},
		"AuthOutranks":    {corev1.SecretTypeDockerConfigJson, `{"auths": {"r.example": {"username": "x", "password": "y", "auth": "bWU6cHc="}}}`, map[string]string{"r.example": "me:pw"}},
		"Older":           {corev1.SecretTypeDockercfg, `{"r.example": {"auth": "bWU6cHc="}}`, map[string]string{"r.example": "me:pw"}},
		"NoUser":          {corev1.SecretTypeDockerConfigJson, `{"auths": {"r.example": {}}}`, map[string]string{}},
		"NoAuths":         {corev1.SecretTypeDockerConfigJson, `{}`, map[string]string{}},
		"NoColon":         {corev1.SecretTypeDockerConfigJson, auth(base64.StdEncoding, "me"), nil},
		"NotBase64":       {corev1.SecretTypeDockerConfigJson, `{"auths": {"r.example": {"auth": "%"}}}`, nil},
		"NotJSON":         {corev1.SecretTypeDockerConfigJson, `auths: {}`, nil},
		"Empty":           {corev1.SecretTypeDockercfg, ``, nil},
		"OtherType":       {corev1.SecretTypeOpaque, `{"auths": {}}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := image.ParseDockerConfig(tc.kind, []byte(tc.text))
			if (err != nil) != (tc.want == nil) {
				t.Fatalf("error %v", err)
			}
			if d := cmp.Diff(tc.want, got); tc.want != nil && d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

// Whatever a Secret holds, reading and matching it ends, without a word of it in
// an error.
func FuzzDockerConfig(f *testing.F) {
	f.Add(`{"auths": {"*.example:5000/team": {"auth": "bWU6cHc="}}}`, "a.example:5000/team/app")
	f.Add(`{"https://index.docker.io/v1/": {"username": "me", "password": "pw"}}`, "docker.io/library/nginx")
	f.Add(`{"auths": {"[": {"auth": "OjpA"}, "": {"username": "x"}}}`, "[/x")
	f.Fuzz(func(t *testing.T, config, name string) {
		for _, kind := range []corev1.SecretType{corev1.SecretTypeDockerConfigJson, corev1.SecretTypeDockercfg} {
			logins, err := image.ParseDockerConfig(kind, []byte(config))
			if err != nil && err.Error() != "not a Docker configuration" {
				t.Errorf("an error of somebody else's: %v", err)
			}
			got, unusable := image.LoginsFor([]inject.PullSecret{{Name: "s", Type: kind, Config: secret.New([]byte(config))}}, name)
			if len(got) > len(logins) || (err != nil) != (len(unusable) == 1) {
				t.Errorf("%d logins of %d, unusable %v", len(got), len(logins), unusable)
			}
		}
	})
}
