// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/render"
	"github.com/akv2k8s/akv2k8s/internal/secret"
)

func TestRelease(t *testing.T) {
	t.Parallel()
	a, b := ownedBy("a", "uid-a"), ownedBy("b", "uid-b")
	ours := func(change ...func(*plan.Observed)) *plan.Observed {
		o := owned(opaque("password", "x", "akvs-uid-a"), a)
		for _, c := range change {
			c(o)
		}
		return o
	}
	foreign := func(o *plan.Observed) {
		o.Data["theirs"], o.Managers["theirs"] = secret.New([]byte("x")), []string{"kubectl"}
	}
	shared := func(o *plan.Observed) {
		o.Data["user"], o.Managers["user"] = secret.New([]byte("x")), []string{"akvs-uid-b"}
		o.All, o.Owners = append(o.All, "akvs-uid-b"), append(o.Owners, b...)
	}
	stripped := func(o *plan.Observed) { o.Owners = nil }
	adopted := func(o *plan.Observed) {
		o.Owners, o.Labels = nil, map[string]string{v2beta1.AdoptedLabel: v2beta1.AdoptedLabelValue}
	}
	login := func(o *plan.Observed) { o.Type = corev1.SecretTypeBasicAuth }
	deleted := plan.ReleaseIntent{Delete: true}
	drop := func(stay ...string) plan.ReleaseIntent {
		return plan.ReleaseIntent{Drop: []plan.Drop{{Manager: "akvs-uid-a", Stay: stay}}}
	}
	for name, tc := range map[string]struct {
		observed *plan.Observed
		a, b     plan.Tie
		want     plan.ReleaseIntent
	}{
		"Absent":         {nil, plan.TieGone, 0, plan.ReleaseIntent{}},
		"Kept":           {ours(), plan.TieKept, 0, plan.ReleaseIntent{}},
		"Left":           {ours(), plan.TieLeft, 0, deleted},
		"Gone":           {ours(), plan.TieGone, 0, deleted},
		"GoneForeignKey": {ours(foreign), plan.TieGone, 0, drop()},
		"GoneForeignOwner": {ours(func(o *plan.Observed) {
			o.Owners = append(o.Owners, metav1.OwnerReference{Kind: "ConfigMap", UID: "c"})
		}), plan.TieGone, 0, drop()},
		"GoneOrphaned":   {ours(stripped), plan.TieGone, 0, drop("password")},
		"LeftStripped":   {ours(stripped), plan.TieLeft, 0, deleted},
		"GoneAdopted":    {ours(adopted), plan.TieGone, 0, drop()},
		"LeftAdopted":    {ours(adopted), plan.TieLeft, 0, drop()},
		"GoneShared":     {ours(shared), plan.TieGone, plan.TieKept, drop()},
		"GoneSharedLost": {ours(shared, stripped), plan.TieGone, plan.TieKept, drop()},
		"BothGone":       {ours(shared), plan.TieGone, plan.TieGone, deleted},
		"GoneTyped":      {ours(login, foreign), plan.TieGone, 0, drop("password")},
		"Vanishing":      {ours(func(o *plan.Observed) { o.Deleting = true }), plan.TieGone, 0, plan.ReleaseIntent{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := plan.ReleaseFacts{Kind: render.Secret, Observed: tc.observed, Ties: map[types.UID]plan.Tie{"uid-a": tc.a}}
			if tc.observed != nil && len(tc.observed.Data) > 1 && tc.observed.Managers["user"] != nil {
				f.Ties["uid-b"] = tc.b
			}
			if diff := cmp.Diff(tc.want, plan.Release(f), cmpopts.IgnoreFields(plan.Drop{}, "Note"), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
