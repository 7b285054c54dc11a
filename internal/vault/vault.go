// SPDX-License-Identifier: Apache-2.0

// Package vault is the vocabulary of Key Vault: what we ask for, what we get,
// and the few ways asking can fail. It knows no wire and no SDK; adapters
// translate into these words and nobody else does.
package vault

import (
	"context"
	"errors"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/secret"
)

// Kind is the collection of a vault in which an object lives.
type Kind string

// The three collections of a vault.
const (
	KindSecret      Kind = "secret"
	KindCertificate Kind = "certificate"
	KindKey         Kind = "key"
)

// Reference points at one object in one vault.
type Reference struct {
	Vault   string // the vault's name, never a host
	Kind    Kind
	Name    string
	Version string // 32 hex digits; empty is the latest
	// PrivateKey asks for a certificate's private key too. Key Vault keeps it in
	// the secret of the same name, so the read costs one request either way but
	// needs the permission to get secrets instead of the one to get certificates.
	PrivateKey bool
}

// Object is what the vault answered.
type Object struct {
	Version string // 32 hex digits, always the one that was read
	// Value is a secret's value; for a certificate read with PrivateKey it is the
	// backing secret: base64 of a PFX without password, or PEM.
	Value       secret.Value
	ContentType string // of Value, as the vault says; it may be wrong or empty
	Certificate []byte // DER of a certificate's leaf, when read without PrivateKey
	Key         Key    // public part, when Kind is key
	Updated     time.Time
	NotBefore   time.Time // zero when the vault names none; the vault gives the object all the same
	Expires     time.Time // as NotBefore
	Answered    time.Time // by the vault's own clock, to the second; zero when it did not say
}

// Key is the public part of a key, as JWK names it (RFC 7518 section 6).
type Key struct {
	Type  string // RSA, RSA-HSM, EC, EC-HSM
	N, E  []byte // RSA: modulus and exponent, big endian
	Curve string // EC: P-256, P-256K, P-384, P-521
	X, Y  []byte // EC: coordinates, big endian
}

// A Reader reads one object. It fails with one of the errors below, possibly
// wrapped; whatever else it returns counts as ErrUnavailable.
type Reader interface {
	Read(ctx context.Context, ref Reference) (Object, error)
}

// The ways a read fails, as far as anyone must act differently. Their texts are
// written for people and hold nothing that came over the wire.
var (
	ErrNotFound    = errors.New("the vault has no such object")
	ErrNoVault     = errors.New("there is no vault of this name")
	ErrPending     = errors.New("the certificate was requested and is not issued yet")
	ErrDisabled    = errors.New("the object, or this version of it, is disabled")
	ErrForbidden   = errors.New("the identity may not read this object")
	ErrFirewall    = errors.New("the vault's firewall refuses this network")
	ErrSignIn      = errors.New("signing in to Azure was refused")
	ErrUnavailable = errors.New("the vault did not answer")
)

// ErrNoQueue is about the queue that tells of changes, which otherwise fails as a
// vault does.
var ErrNoQueue = errors.New("there is no such queue")

// Throttled asks the caller to come back later. It counts as ErrUnavailable.
type Throttled struct {
	RetryAfter time.Duration // zero when the vault did not say
}

func (Throttled) Error() string { return "the vault asked us to slow down" }

// Is makes a Throttled count as ErrUnavailable.
func (Throttled) Is(target error) bool { return target == ErrUnavailable }

// Resting is for a vault that is left alone for a while because it did not answer.
// It counts as ErrUnavailable.
type Resting struct {
	RetryAfter time.Duration
}

func (Resting) Error() string { return ErrUnavailable.Error() }

// Is makes a Resting count as ErrUnavailable.
func (Resting) Is(target error) bool { return target == ErrUnavailable }

// Verdict is the one of the errors above that is an answer and no silence; nil where
// there is none.
func Verdict(err error) error {
	for _, refusal := range []error{ErrNotFound, ErrNoVault, ErrPending, ErrDisabled, ErrForbidden, ErrFirewall, ErrSignIn} {
		if errors.Is(err, refusal) {
			return refusal
		}
	}
	return nil
}

// IsOutage says that an error is about the moment and not about the object: the
// vault, or what stands before it, did not answer.
func IsOutage(err error) bool { return err != nil && Verdict(err) == nil }

// RetryAfter is how long to wait before asking again, as far as an error says.
func RetryAfter(err error) time.Duration {
	if e, ok := errors.AsType[Throttled](err); ok {
		return e.RetryAfter
	}
	if e, ok := errors.AsType[Resting](err); ok {
		return e.RetryAfter
	}
	return 0
}
