// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

func TestExplain(t *testing.T) {
	outage := render.Fault{Reason: v2beta1.ReasonVaultUnavailable, Text: vault.ErrUnavailable.Error(), Outage: true}
	cases := map[string]struct {
		err  error
		want render.Fault
	}{
		"Wrapped": {
			fmt.Errorf("reading my-kv: %w", vault.ErrNotFound),
			render.Fault{Reason: v2beta1.ReasonObjectNotFound, Text: vault.ErrNotFound.Error()},
		},
		"Render":    {render.ErrQuery, render.Fault{Reason: v2beta1.ReasonPlaceholderQuery, Text: render.ErrQuery.Error()}},
		"Firewall":  {vault.ErrFirewall, render.Fault{Reason: v2beta1.ReasonNetworkDenied, Text: vault.ErrFirewall.Error()}},
		"Outage":    {vault.ErrUnavailable, outage},
		"Throttled": {vault.Throttled{}, outage},
		"Unknown":   {errors.New("text of somebody else"), outage},
	}
	_, detailed := render.Output(spec(v2beta1.ObjectMultiKeyValue, "", "", content(v2beta1.ContentJSON)), render.Secret, object(`{"a":"1","b":[]}`))
	cases["Detail"] = struct {
		err  error
		want render.Fault
	}{
		fmt.Errorf("rendering: %w", detailed),
		render.Fault{Reason: v2beta1.ReasonOutputInvalid, Text: "entry 2: " + render.ErrEntryValue.Error()},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(tc.want, render.Explain(tc.err)); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

// Every error of this package is known to Explain and fits a condition.
func TestExplainKnowsEveryError(t *testing.T) {
	t.Parallel()
	for _, err := range append(slices.Clone(sentinels), render.ErrQuery, render.ErrDirectory, render.ErrNoEntry) {
		fault := render.Explain(err)
		if fault.Outage || fault.Text != err.Error() || len(fault.Text) > 105 {
			t.Errorf("%q (%d characters) is explained as %+v", err, len(err.Error()), fault)
		}
	}
}
