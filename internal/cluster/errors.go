// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/akv2k8s/akv2k8s/internal/plan"
)

// translate turns the API server's answer into the words of package plan, with
// the kind of answer behind it for the log:
//
//	409 conflict, of a version or of field managers   ErrChanged
//	401, 403 of RBAC                                  ErrNotAllowed
//	403 of a quota or policy, other 4xx               ErrRefused
//	everything else                                   ErrWrite
func translate(err error) error {
	var status apierrors.APIStatus
	code := 0
	if errors.As(err, &status) {
		code = int(status.Status().Code)
	}
	kind := plan.ErrWrite
	switch {
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err):
		kind = plan.ErrChanged
	case apierrors.IsForbidden(err) && strings.Contains(err.Error(), exceededQuota):
		kind = plan.ErrRefused
	case apierrors.IsUnauthorized(err), apierrors.IsForbidden(err):
		kind = plan.ErrNotAllowed
	case code == http.StatusTooManyRequests, code == http.StatusRequestTimeout:
	case code >= 400 && code < 500:
		kind = plan.ErrRefused
	}
	return fmt.Errorf("%w (%w)", kind, plain(err))
}

// exceededQuota is by what the API server's answer for a full quota differs from
// that for a missing right (k8s.io/apiserver/pkg/admission/plugin/resourcequota);
// there is no code for it.
const exceededQuota = "exceeded quota"

// plain drops the text of an error, in which an admission policy may quote what
// it was shown, and keeps what kind of answer it was.
func plain(err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return errors.New("no answer from the API server")
	}
	if reason := status.Status().Reason; reasons[reason] {
		return fmt.Errorf("HTTP status %d, reason %s", status.Status().Code, reason)
	}
	return fmt.Errorf("HTTP status %d", status.Status().Code)
}

// reasons are the API server's own; a webhook may answer with words of its making.
var reasons = map[metav1.StatusReason]bool{
	metav1.StatusReasonUnauthorized:          true,
	metav1.StatusReasonForbidden:             true,
	metav1.StatusReasonNotFound:              true,
	metav1.StatusReasonAlreadyExists:         true,
	metav1.StatusReasonConflict:              true,
	metav1.StatusReasonInvalid:               true,
	metav1.StatusReasonBadRequest:            true,
	metav1.StatusReasonServerTimeout:         true,
	metav1.StatusReasonTimeout:               true,
	metav1.StatusReasonTooManyRequests:       true,
	metav1.StatusReasonRequestEntityTooLarge: true,
	metav1.StatusReasonInternalError:         true,
	metav1.StatusReasonServiceUnavailable:    true,
}
