// SPDX-License-Identifier: Apache-2.0

package image

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"net/url"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/internal/inject"
	"github.com/akv2k8s/akv2k8s/internal/secret"
)

// login is one credential.
type login struct {
	user     string
	password secret.Value
	from     string // name of the pull secret
}

// keyring finds credentials for an image as the kubelet does, so that what the
// node can pull can be looked up, and nothing else: see
// k8s.io/kubernetes/pkg/credentialprovider, which is not made to be imported.
type keyring map[string][]login // by the entry's key: a host, perhaps with globs, and a path

// newKeyring reads the pull secrets. Of what cannot be used a sentence tells.
func newKeyring(secrets []inject.PullSecret) (keyring, []string) {
	keys, unusable := keyring{}, []string(nil)
	for _, s := range secrets {
		if s.Unusable != "" {
			unusable = append(unusable, s.Unusable)
			continue
		}
		entries, err := parseDockerConfig(s.Type, s.Config.Reveal())
		if err != nil {
			unusable = append(unusable, inject.UnusablePullSecret(s.Name, inject.NoDocker).Unusable)
			continue
		}
		for _, location := range slices.Sorted(maps.Keys(entries)) {
			if key, ok := entryKey(location); ok {
				l := entries[location]
				l.from = s.Name
				keys[key] = append(keys[key], l)
			}
		}
	}
	return keys, unusable
}

// The parser's words may quote what it reads, so none are passed on.
var errDockerConfig = errors.New("not a Docker configuration")

// entry is what a Docker configuration holds for one registry.
type entry struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Auth     string `json:"auth"`
}

// parseDockerConfig reads the two forms by the Secret's type. An entry without a
// user is passed over; one that is malformed spoils the whole, as for the kubelet.
func parseDockerConfig(kind corev1.SecretType, text []byte) (map[string]login, error) {
	var entries map[string]entry
	var err error
	switch kind {
	case corev1.SecretTypeDockerConfigJson:
		var file struct {
			Auths map[string]entry `json:"auths"`
		}
		err = json.Unmarshal(text, &file)
		entries = file.Auths
	case corev1.SecretTypeDockercfg:
		err = json.Unmarshal(text, &entries)
	default:
		err = errDockerConfig
	}
	if err != nil {
		return nil, errDockerConfig
	}
	found := map[string]login{}
	for location, e := range entries {
		if e.Auth != "" {
			if e.Username, e.Password, err = decodeAuth(e.Auth); err != nil {
				return nil, err
			}
		}
		if e.Username != "" {
			found[location] = login{user: e.Username, password: secret.New([]byte(e.Password))}
		}
	}
	return found, nil
}

// decodeAuth reads user:password in base64, with or without padding.
func decodeAuth(text string) (string, string, error) {
	encoding := base64.RawStdEncoding
	text = strings.TrimSpace(text)
	if strings.HasSuffix(text, "=") {
		encoding = base64.StdEncoding
	}
	decoded, err := encoding.DecodeString(text)
	if err != nil {
		// A text whose length needs no padding is both.
		return "", "", errDockerConfig
	}
	user, password, ok := strings.Cut(string(decoded), ":")
	if !ok {
		return "", "", errDockerConfig
	}
	return user, password, nil
}

// entryKey brings an entry's location to host and path: the scheme does not
// count, and /v1/ and /v2/ are what Docker once put there.
func entryKey(location string) (string, bool) {
	if !strings.HasPrefix(location, "https://") && !strings.HasPrefix(location, "http://") {
		location = "https://" + location
	}
	parsed, err := url.Parse(location)
	if err != nil {
		return "", false
	}
	p := parsed.Path
	if strings.HasPrefix(p, "/v1/") || strings.HasPrefix(p, "/v2/") {
		p = p[len("/v1"):]
	}
	if p == "/" {
		p = ""
	}
	return parsed.Host + p, parsed.Host != ""
}

// lookup lists what fits an image, as host/repository, the most specific entry
// first. The key of Docker Hub's registry also stands for docker.io.
func (k keyring) lookup(image string) []login {
	var found []login
	for _, key := range slices.Backward(slices.Sorted(maps.Keys(k))) {
		if fits(key, image) {
			found = append(found, k[key]...)
		}
	}
	if len(found) == 0 && strings.HasPrefix(image, dockerHub+"/") {
		return k[dockerHubHost]
	}
	return found
}

// fits says whether an entry is for an image: each label of the host by glob, the
// port exactly, the path as a prefix.
func fits(key, image string) bool {
	glob, err := url.Parse("https://" + key)
	if err != nil {
		return false
	}
	target, err := url.Parse("https://" + image)
	if err != nil {
		return false
	}
	globs, globPort := labelsOf(glob.Host)
	hosts, port := labelsOf(target.Host)
	if globPort != port || len(globs) != len(hosts) || !strings.HasPrefix(target.Path, glob.Path) {
		return false
	}
	for i, g := range globs {
		if ok, err := path.Match(g, hosts[i]); err != nil || !ok {
			return false
		}
	}
	return true
}

func labelsOf(host string) ([]string, string) {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = host, ""
	}
	return strings.Split(name, "."), port
}
