// SPDX-License-Identifier: Apache-2.0

package image

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/akv2k8s/akv2k8s/internal/inject"
)

// sentinels are the errors that pass through translate as they are.
var sentinels = []error{
	inject.ErrImageName, inject.ErrImageUnreadable, inject.ErrImagePlatform, inject.ErrImageAmbiguous,
}

// translate reduces whatever went wrong to one of inject's sentinels:
//
//	401, 403                     ErrImageForbidden
//	404                          ErrImageNotFound
//	JSON that does not parse     ErrImageUnreadable
//	anything else                ErrImageUnavailable (refused, timed out, 429, 5xx, TLS …)
//
// Many registries answer 401 for an image that does not exist, to keep strangers
// from guessing; that stays ErrImageForbidden.
func translate(err error) error {
	for _, s := range sentinels {
		if errors.Is(err, s) {
			return s
		}
	}
	if remote, ok := errors.AsType[*transport.Error](err); ok {
		switch remote.StatusCode {
		case http.StatusUnauthorized, http.StatusForbidden:
			return inject.ErrImageForbidden
		case http.StatusNotFound:
			return inject.ErrImageNotFound
		}
		return inject.ErrImageUnavailable
	}
	_, syntax := errors.AsType[*json.SyntaxError](err)
	_, kind := errors.AsType[*json.UnmarshalTypeError](err)
	if syntax || kind {
		return inject.ErrImageUnreadable
	}
	return inject.ErrImageUnavailable
}
