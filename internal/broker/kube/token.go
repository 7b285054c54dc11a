// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/grant"
)

// What the API server adds about the pod that a token is bound to. A token that
// is bound to nothing, or to a Secret or node, has neither.
const (
	extraPodName = "authentication.kubernetes.io/pod-name"
	extraPodUID  = "authentication.kubernetes.io/pod-uid"
)

// userPrefix starts the user name of every service account, and of no one else.
const userPrefix = "system:serviceaccount:"

// Caller asks the API server whose token this is. The token counts when it is
// valid, for our audience, and bound to a pod that still exists; everything else
// is grant.ErrToken.
func (s *Source) Caller(ctx context.Context, token string) (grant.Caller, error) {
	review := &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{brokerapi.Audience}},
	}
	if err := s.live.Create(ctx, review); err != nil {
		return grant.Caller{}, fmt.Errorf("reviewing a token: %w", plain(err))
	}
	return callerOf(review.Status)
}

// callerOf trusts what the API server says and assumes nothing that it does not
// say: an authenticator that knows no audiences leaves them out, and such a token
// could be for anyone.
func callerOf(status authenticationv1.TokenReviewStatus) (grant.Caller, error) {
	account, isAccount := strings.CutPrefix(status.User.Username, userPrefix)
	namespace, name, isPair := strings.Cut(account, ":")
	caller := grant.Caller{
		Namespace:      namespace,
		ServiceAccount: name,
		Pod:            only(status.User.Extra[extraPodName]),
		UID:            only(status.User.Extra[extraPodUID]),
	}
	switch {
	case !status.Authenticated, !isAccount, !isPair,
		!slices.Contains(status.Audiences, brokerapi.Audience),
		namespace == "", name == "", caller.Pod == "", caller.UID == "":
		return grant.Caller{}, grant.ErrToken
	}
	return caller, nil
}

func only(values authenticationv1.ExtraValue) string {
	if len(values) != 1 {
		return ""
	}
	return values[0]
}
