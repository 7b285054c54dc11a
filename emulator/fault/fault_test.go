// SPDX-License-Identifier: Apache-2.0

package fault_test

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/emulator/fault"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// What faults do to connections is tested through the emulator; here is who meets them.

func TestMeet(t *testing.T) {
	t.Parallel()
	request := fault.Request{Operation: "secrets/get", Object: "secrets/db"}
	revoked := request
	revoked.Revoked = true
	for name, tc := range map[string]struct {
		fault   seed.Fault
		request fault.Request
		met     bool
	}{
		"Any":            {seed.Fault{Kind: seed.FaultError}, request, true},
		"Operation":      {seed.Fault{Kind: seed.FaultError, Operations: []string{"x", "secrets/get"}}, request, true},
		"OtherOperation": {seed.Fault{Kind: seed.FaultError, Operations: []string{"secrets/list"}}, request, false},
		"Object":         {seed.Fault{Kind: seed.FaultReset, Objects: []string{"x", "secrets/DB"}}, request, true},
		"OtherObject":    {seed.Fault{Kind: seed.FaultReset, Objects: []string{"keys/db"}}, request, false},
		"Both":           {seed.Fault{Kind: seed.FaultError, Operations: []string{"secrets/get"}, Objects: []string{"secrets/x"}}, request, false},
		"Revoked":        {seed.Fault{Kind: seed.FaultRevoke}, revoked, true},
		"NotRevoked":     {seed.Fault{Kind: seed.FaultRevoke}, request, false},
		"Certain":        {seed.Fault{Kind: seed.FaultError, Probability: 1}, request, true},
		"DNS":            {seed.Fault{Kind: seed.FaultDNS}, request, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var s fault.Set
			tc.fault.Count = 1
			s.Replace([]seed.Fault{tc.fault})
			if got := s.Meet(t.Context(), tc.request).Answer != nil; got != tc.met {
				t.Errorf("met: %v", got)
			}
			left := []seed.Fault{tc.fault}
			if tc.met {
				left = []seed.Fault{}
			}
			if diff := cmp.Diff(left, s.List()); diff != "" {
				t.Error(diff)
			}
			if out := s.Meet(t.Context(), tc.request); out.Answer != nil {
				t.Error("met twice")
			}
		})
	}
}

func TestResolves(t *testing.T) {
	t.Parallel()
	var s fault.Set
	lookups := func() []bool { return []bool{s.Resolves(), s.Resolves(), s.Resolves()} }
	for name, tc := range map[string]struct {
		list []seed.Fault
		want []bool
	}{
		"None":     {nil, []bool{true, true, true}},
		"Others":   {[]seed.Fault{{Kind: seed.FaultReset}}, []bool{true, true, true}},
		"Gone":     {[]seed.Fault{{Kind: seed.FaultReset}, {Kind: seed.FaultDNS}}, []bool{false, false, false}},
		"GoneOnce": {[]seed.Fault{{Kind: seed.FaultDNS, Count: 1}}, []bool{false, true, true}},
	} {
		s.Replace(tc.list)
		if diff := cmp.Diff(tc.want, lookups()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestHanging(t *testing.T) {
	t.Parallel()
	var s fault.Set
	if err := s.Await(t.Context(), 0); err != nil {
		t.Error(err)
	}
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Await(impatient, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	s.Replace([]seed.Fault{{Kind: seed.FaultHang}, {Kind: seed.FaultError}})
	outcomes := make(chan fault.Outcome)
	ctx, leave := context.WithCancel(t.Context())
	go func() { outcomes <- s.Meet(ctx, fault.Request{}) }()
	if err := s.Await(t.Context(), 1); err != nil {
		t.Error(err)
	}
	leave()
	if out := <-outcomes; !out.NoAnswer() || s.Hanging() != 0 {
		t.Errorf("whoever leaves gets an answer; %d hang", s.Hanging())
	}
	go func() { outcomes <- s.Meet(t.Context(), fault.Request{}) }()
	if err := s.Await(t.Context(), 1); err != nil {
		t.Error(err)
	}
	s.Replace([]seed.Fault{{Kind: seed.FaultThrottle}})
	if out := <-outcomes; out.NoAnswer() || out.Answer != nil {
		t.Errorf("whoever is let go still meets the faults behind: %+v", out.Answer)
	}
}
