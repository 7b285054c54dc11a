// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// yamlBlock is one of a Markdown page.
var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// The examples for network policies select the pods that the chart makes, and open
// the ports that these serve: of the broker both those of its Service and its own.
func TestNetworkPoliciesOfTheDocs(t *testing.T) {
	t.Parallel()
	page := string(read(t, "../../docs/network.md"))
	policies := map[string]*networkingv1.NetworkPolicy{}
	for _, block := range yamlBlock.FindAllStringSubmatch(page, -1) {
		policy, is := decode(t, []byte(block[1])).(*networkingv1.NetworkPolicy)
		if !is {
			t.Fatalf("not a NetworkPolicy:\n%s", block[1])
		}
		policies[policy.Name] = policy
	}
	to, broker := policies["to-azure-keyvault-broker"], policies["broker"]
	if to == nil || broker == nil || len(policies) != 2 {
		t.Fatalf("the page has %d policies", len(policies))
	}
	peer := to.Spec.Egress[0].To[0]
	for _, selector := range []*metav1.LabelSelector{peer.PodSelector, &broker.Spec.PodSelector} {
		if got := selected(t, selector); !slices.Equal(got, []string{"akv2k8s-broker"}) {
			t.Errorf("%v selects %q", selector, got)
		}
	}
	service := serviceOf(t, "akv2k8s-broker")
	want := fmt.Sprint(service["https"])
	if got := opened(to.Spec.Egress[0].Ports); got != want {
		t.Errorf("pods may reach port %s, want %s", got, want)
	}
	if got := opened(slices.Concat(broker.Spec.Ingress[0].Ports, broker.Spec.Ingress[1].Ports)); got != want+" "+fmt.Sprint(service["http"]) {
		t.Errorf("the broker may be reached at %s", got)
	}
	for _, d := range deployments(t, "") {
		for _, port := range d.Spec.Template.Spec.Containers[0].Ports {
			if name := fmt.Sprint(port.ContainerPort); !strings.Contains(page, name) {
				t.Errorf("port %s of %s is not on the page", name, d.Name)
			}
		}
	}
}

// selected are the Deployments whose pods a policy is about.
func selected(t *testing.T, s *metav1.LabelSelector) []string {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range deployments(t, "") {
		if selector.Matches(labels.Set(d.Spec.Template.Labels)) {
			names = append(names, d.Name)
		}
	}
	return names
}

// serviceOf are the ports of a Service by name, which must be the pods' own: a policy
// may be looked at on either side of it.
func serviceOf(t *testing.T, name string) map[string]int32 {
	t.Helper()
	ports := map[string]int32{}
	for _, s := range each[*corev1.Service](rendered(t, "")) {
		if s.Name != name {
			continue
		}
		for _, p := range s.Spec.Ports {
			ports[p.Name] = p.Port
		}
	}
	for _, d := range deployments(t, "") {
		for _, p := range d.Spec.Template.Spec.Containers[0].Ports {
			if d.Name == name && ports[p.Name] != p.ContainerPort {
				t.Errorf("port %s is %d of the Service and %d of the pods", p.Name, ports[p.Name], p.ContainerPort)
			}
		}
	}
	return ports
}

func opened(ports []networkingv1.NetworkPolicyPort) string {
	var list []string
	for _, p := range ports {
		list = append(list, p.Port.String())
	}
	return strings.Join(list, " ")
}
