// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Registries says how the webhook learns what images run.
type Registries struct {
	Timeout     time.Duration // of one image
	TagTTL      time.Duration // how long an answer is given without asking; zero asks each time
	Rate        int           // requests per second to one registry, in the long run
	Concurrency int           // requests to one registry at once
	PullSecrets bool          // read those that pods name

	Namespaces string // of pull secrets that may be read, with commas between them; empty is all

	Mirrors  string // see ParseMirrors
	Insecure string // hosts, with commas between them

	AuthType    string // how to sign in to Azure's registries, as Azure.AuthType; empty does not
	CloudConfig string // path of azure.json, for AuthCloudConfig
	Environment string // name of the cloud, for the other two
}

func (r *Registries) declare(o *options) {
	o.duration(&r.Timeout, "image-timeout", "DOCKER_IMAGE_INSPECTION_TIMEOUT", 8*time.Second, "how long learning from a registry what an image runs may take; the API server's own patience may be shorter")
	o.duration(&r.TagTTL, "image-tag-ttl", "IMAGE_TAG_TTL", 30*time.Second, "how long it is remembered what a tag points to and that a credential may pull; 0 asks each time")
	o.integer(&r.Rate, "registry-rate", "REGISTRY_RATE", 20, "requests per second that this process sends to one registry in the long run; twice as many at once")
	o.integer(&r.Concurrency, "registry-concurrency", "REGISTRY_CONCURRENCY", 10, "requests to one registry that are under way at once")
	o.boolean(&r.PullSecrets, "pull-secrets", "PULL_SECRETS", true, "read the pull secrets of pods and their service accounts to sign in to registries")
	o.text(&r.Namespaces, "pull-secret-namespaces", "PULL_SECRET_NAMESPACES", "", "namespaces, with commas between them, in which it may; empty is all of them")
	o.text(&r.Mirrors, "registry-mirrors", "REGISTRY_MIRRORS", "", "mirrors to ask before a registry, as REGISTRY=URL with spaces between them, such as docker.io=https://mirror.example")
	o.text(&r.Insecure, "insecure-registries", "INSECURE_REGISTRIES", "", "registries that may speak plain HTTP, as host or host:port with commas between them")
	o.text(&r.AuthType, "registry-auth", "REGISTRY_AUTH", "",
		"how to sign in to Azure's container registries: azureCloudConfig, environment or environment-azidentity; empty does not")
	o.text(&r.CloudConfig, "cloudconfig", "CLOUD_CONFIG", DefaultConfigPath, "path of azure.json, for --registry-auth=azureCloudConfig")
	o.text(&r.Environment, "azure-environment", "AZURE_ENVIRONMENT", "", "the Azure cloud of those registries; azure.json names its own")
}

func (r *Registries) validate() error {
	errs := []error{
		between("--registry-rate", r.Rate, 1, 1000), between("--registry-concurrency", r.Concurrency, 1, 100),
	}
	if r.AuthType != "" {
		errs = append(errs, oneOf("--registry-auth", r.AuthType, AuthCloudConfig, AuthEnvironment, AuthAzidentity))
	}
	if r.Timeout < time.Second {
		errs = append(errs, fmt.Errorf("--image-timeout: %s is less than a second", r.Timeout))
	}
	if r.TagTTL < 0 || r.TagTTL > time.Hour {
		errs = append(errs, fmt.Errorf("--image-tag-ttl: %s is not between 0 and one hour", r.TagTTL))
	}
	_, err := ParseMirrors(r.Mirrors)
	for _, host := range r.InsecureHosts() {
		if !isHost(host) {
			errs = append(errs, fmt.Errorf("--insecure-registries: %q is not a host such as registry.example:5000", host))
		}
	}
	return errors.Join(append(errs, err)...)
}

// InsecureHosts lists the hosts of Insecure.
func (r *Registries) InsecureHosts() []string {
	return strings.FieldsFunc(r.Insecure, func(c rune) bool { return c == ',' || c == ' ' })
}

// ReadsPullSecrets says whether those of a namespace may be read.
func (r *Registries) ReadsPullSecrets(namespace string) bool {
	list := strings.FieldsFunc(r.Namespaces, func(c rune) bool { return c == ',' || c == ' ' })
	return r.PullSecrets && (len(list) == 0 || slices.Contains(list, namespace))
}

// ParseMirrors reads REGISTRY=URL pairs with white space between them; a registry
// may have several, which are asked in order.
func ParseMirrors(text string) (map[string][]*url.URL, error) {
	mirrors := map[string][]*url.URL{}
	var errs []error
	for pair := range strings.FieldsSeq(text) {
		registry, address, _ := strings.Cut(pair, "=")
		u, err := url.Parse(address)
		if !isHost(registry) || err != nil || !isMirror(u) {
			// Not quoted: the URL might hold a password.
			errs = append(errs, fmt.Errorf("--registry-mirrors: the mirror of %q is not REGISTRY=URL, such as docker.io=https://mirror.example; it takes no user, query or fragment", registry))
			continue
		}
		mirrors[registry] = append(mirrors[registry], u)
	}
	return mirrors, errors.Join(errs...)
}

func isMirror(u *url.URL) bool {
	return (u.Scheme == "https" || u.Scheme == "http") && isHost(u.Host) && u.User == nil && u.RawQuery == "" && u.Fragment == ""
}

// isHost says whether the name of an image may begin with it: what holds neither
// dot nor colon is taken for a part of a path there.
func isHost(text string) bool {
	u, err := url.Parse("https://" + text)
	return err == nil && u.Host == text && u.Hostname() != "" && (text == "localhost" || strings.ContainsAny(text, ".:"))
}
