// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"net/http"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/akv2k8s/akv2k8s/internal/inject"
)

// sentinels are the errors that pass through translate as they are.
var sentinels = []error{
	inject.ErrImageName, inject.ErrImageUnreadable, inject.ErrImagePlatform, inject.ErrImageAmbiguous,
}

// verdict is what several failures come to.
type verdict struct{ sentinel, causes error }

func (v *verdict) Error() string   { return v.causes.Error() }
func (v *verdict) Unwrap() []error { return []error{v.sentinel, v.causes} }

// translate reduces whatever went wrong to one of inject's sentinels:
//
//	401, 403                           ErrImageForbidden
//	404                                ErrImageNotFound
//	429, its rest, our budget          ErrImageThrottled
//	a certificate nobody vouches for   ErrImageUntrusted
//	plain HTTP, not allowed            ErrImagePlain
//	JSON that does not parse           ErrImageUnreadable
//	anything else                      ErrImageUnavailable (refused, timed out, 5xx …)
//
// Many registries answer 401 for an image that does not exist, to keep strangers
// from guessing; that stays ErrImageForbidden.
func translate(err error) error {
	if v, ok := errors.AsType[*verdict](err); ok {
		return v.sentinel
	}
	for _, s := range sentinels {
		if errors.Is(err, s) {
			return s
		}
	}
	if remote, ok := errors.AsType[*transport.Error](err); ok {
		return byStatus(remote.StatusCode)
	}
	_, syntax := errors.AsType[*json.SyntaxError](err)
	_, kind := errors.AsType[*json.UnmarshalTypeError](err)
	if syntax || kind {
		return inject.ErrImageUnreadable
	}
	return byConnection(err)
}

func byStatus(status int) error {
	switch status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return inject.ErrImageForbidden
	case http.StatusNotFound:
		return inject.ErrImageNotFound
	case http.StatusTooManyRequests:
		return inject.ErrImageThrottled
	}
	return inject.ErrImageUnavailable
}

func byConnection(err error) error {
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, network := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, errResting), errors.Is(err, errBudget):
		return inject.ErrImageThrottled
	case untrusted, unknown:
		return inject.ErrImageUntrusted
	case errors.Is(err, http.ErrSchemeMismatch):
		return inject.ErrImagePlain
	case network, errors.Is(err, context.DeadlineExceeded):
		return inject.ErrImageUnavailable
	case errors.Is(err, errPlain):
		return inject.ErrImagePlain
	}
	return inject.ErrImageUnavailable
}
