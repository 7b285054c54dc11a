// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/internal/secret"
)

// Command is what an image runs when the pod does not say.
type Command struct {
	Entrypoint []string
	Cmd        []string
	// Err is why it is not known: one of the errors below.
	Err error
	// Asked is how that was found out; it is empty without Err.
	Asked Asked
}

// The ways of not learning what an image runs. Their texts continue a sentence
// and hold nothing that came over the wire.
var (
	ErrImageName        = errors.New("its name cannot be understood")
	ErrImageNotFound    = errors.New("its registry has no such image")
	ErrImageForbidden   = errors.New("its registry does not let the Env Injector read it")
	ErrImageUnavailable = errors.New("its registry did not answer in time")
	ErrImageThrottled   = errors.New("its registry takes no more requests for the moment")
	ErrImageUntrusted   = errors.New("its registry's certificate is not one that the Env Injector trusts")
	ErrImagePlain       = errors.New("its registry speaks plain HTTP, which the operator has not allowed")
	ErrImageUnreadable  = errors.New("its registry answered with something that is not an image")
	ErrImagePlatform    = errors.New("it does not exist for the architecture of the nodes")
	ErrImageAmbiguous   = errors.New("it runs different commands on the architectures of the nodes")
)

// Asked tells how a registry was asked. All of it is the pod's or the operator's
// own words.
type Asked struct {
	Registries []string // hosts, in order; a mirror comes before the registry itself
	Ways       []string // in which it was signed in, in order: see the Way functions
	Unusable   []string // what could not be signed in with, and why
}

// String is empty, or goes on after a reason: who was asked, and how.
func (a Asked) String() string {
	var parts []string
	if len(a.Registries) > 0 && len(a.Ways) > 0 {
		was := "was"
		if len(a.Registries) > 1 {
			was = "were"
		}
		parts = append(parts, fmt.Sprintf("%s %s asked %s", list(a.Registries), was, list(a.Ways)))
	}
	parts = append(parts, a.Unusable...)
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, "; ") + ")"
}

// The ways of asking a registry, as Asked tells them.
const (
	WayIdentity  = "with the Env Injector's registry identity"
	WayAnonymous = "without sign-in"
)

// WayPullSecret is signing in with what a Secret holds.
func WayPullSecret(name string) string { return fmt.Sprintf("with pull secret %q", name) }

// list writes "a", "a and b" or "a, b and c".
func list(texts []string) string {
	last := len(texts) - 1
	if last < 1 {
		return strings.Join(texts, "")
	}
	return strings.Join(texts[:last], ", ") + " and " + texts[last]
}

// PullSecret is what was found under one name of imagePullSecrets.
type PullSecret struct {
	Name   string
	Type   corev1.SecretType
	Config secret.Value // as its type says: .dockerconfigjson or .dockercfg
	// Unusable is a sentence about why there is no Config; such a secret stands in
	// nobody's way.
	Unusable string
}

// The reasons for which a pull secret, or the service account that may name some,
// is of no use.
const (
	Missing    = "does not exist"
	Unreadable = "is in a namespace where the Env Injector may not read it"
	Unanswered = "could not be read just now"
	NoDocker   = "holds no Docker configuration"
)

// UnusablePullSecret is one that stands in nobody's way.
func UnusablePullSecret(name, reason string) PullSecret {
	return PullSecret{Name: name, Unusable: fmt.Sprintf("pull secret %q %s", name, reason)}
}

// UnusableAccount stands for the pull secrets of a service account.
func UnusableAccount(name, reason string) PullSecret {
	return PullSecret{Unusable: fmt.Sprintf("service account %q %s", name, reason)}
}

// NoPullSecrets stands for all of them where the operator has decided so.
func NoPullSecrets() PullSecret {
	return PullSecret{Unusable: "the operator does not let the Env Injector read pull secrets"}
}

// PullSecrets names the Secrets by which the pod pulls its images, as its own
// spec has them. The API server has copied those of the service account there
// unless the pod names some itself.
func (p *Pod) PullSecrets() []string {
	var names []string
	for _, ref := range p.object.Spec.ImagePullSecrets {
		if ref.Name != "" && !slices.Contains(names, ref.Name) {
			names = append(names, ref.Name)
		}
	}
	return names
}

// ServiceAccount is the account that the pod runs as.
func (p *Pod) ServiceAccount() string {
	if name := p.object.Spec.ServiceAccountName; name != "" {
		return name
	}
	return "default"
}

// cures end the sentence about an image whose command could not be learned.
var cures = map[error]string{
	ErrImageName:       "correct the image's name",
	ErrImageNotFound:   "correct the image's name, or name a pull secret if the image needs one",
	ErrImageForbidden:  "name a pull secret that may read the image, in imagePullSecrets of the pod or of its service account",
	ErrImageThrottled:  "try again in a minute",
	ErrImageUntrusted:  "let the operator add the registry's certificate authority",
	ErrImagePlain:      "let the operator list the registry as insecure",
	ErrImageUnreadable: "push the image again",
	ErrImagePlatform:   "build the image for them",
	ErrImageAmbiguous:  "choose an architecture with the node selector " + corev1.LabelArchStable,
}

func cure(err error) string {
	if c, ok := cures[err]; ok {
		return c
	}
	return "let the Env Injector reach the registry and try again"
}
