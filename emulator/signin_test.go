// SPDX-License-Identifier: Apache-2.0

package emulator_test

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/akv2k8s/akv2k8s/emulator/emulatortest"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

const (
	tokenOperation    = "/oauth2/v2.0/token"
	metadataOperation = "/metadata/identity/oauth2/token"
)

// tokenRequest asks the token endpoint, identityRequest the metadata service.
func tokenRequest(t *testing.T) *http.Request {
	t.Helper()
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {"client-1"}, "client_secret": {"app-secret"}, "scope": {"https://vault.azure.net/.default"},
	}
	r := request(t, http.MethodPost, "https://login.microsoftonline.com/tenant-1/oauth2/v2.0/token", form.Encode())
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return r
}

func identityRequest(t *testing.T) *http.Request {
	t.Helper()
	r := request(t, http.MethodGet, "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource="+url.QueryEscape("https://vault.azure.net"), "")
	r.Header.Set("Metadata", "true")
	return r
}

var signIns = map[string]struct {
	ask       func(*testing.T) *http.Request
	operation string
}{
	"Token": {tokenRequest, tokenOperation}, "Metadata": {identityRequest, metadataOperation},
}

func TestSignInFaults(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		fault      seed.Fault
		status     int // 0: no answer
		retryAfter string
		says       string
	}{
		"Throttle":      {seed.Fault{Kind: seed.FaultThrottle}, 429, "", `"error":`},
		"ThrottleAfter": {seed.Fault{Kind: seed.FaultThrottle, RetryAfter: 7}, 429, "7", `"error_description":`},
		"Error":         {seed.Fault{Kind: seed.FaultError}, 503, "", `"error":`},
		"Error500":      {seed.Fault{Kind: seed.FaultError, Status: 500}, 500, "", `"error":`},
		"Latency":       {seed.Fault{Kind: seed.FaultLatency, Latency: 1}, 200, "", `"access_token":`},
		"Slow":          {seed.Fault{Kind: seed.FaultSlow, Latency: 1000}, 200, "", `"access_token":`},
		"Reset":         {seed.Fault{Kind: seed.FaultReset}, 0, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, each := range signIns {
				in := emulatortest.Start(t, faultSeed)
				s := &session{in, t, in.Client(), ""}
				s.client.Transport.(*http.Transport).DisableKeepAlives = true // the transport repeats what fails on a kept connection
				tc.fault.Operations, tc.fault.Count = []string{each.operation}, 2
				in.SetSignInFaults(tc.fault)
				for range 2 {
					got, err := s.send(each.ask(t))
					if (err == nil) != (tc.status != 0) || got.status != tc.status ||
						got.header.Get("Retry-After") != tc.retryAfter || !strings.Contains(got.text, tc.says) {
						t.Errorf("%s: got %d %s %v", each.operation, got.status, got.text, err)
					}
				}
				if got, err := s.send(each.ask(t)); err != nil || got.status != 200 {
					t.Errorf("%s: the fault outlives its count: %d %v", each.operation, got.status, err)
				}
			}
		})
	}
}

func TestSignInFaultsOfASeed(t *testing.T) {
	t.Parallel()
	in := emulatortest.Start(t, faultSeed+"signIn: { faults: [{ kind: error, operations: ["+tokenOperation+"], count: 1 }] }\n")
	s := &session{in, t, in.Client(), ""}
	for i, want := range []int{503, 200} {
		if got, err := s.send(tokenRequest(t)); err != nil || got.status != want {
			t.Errorf("request %d: %d %v", i, got.status, err)
		}
	}
	counted := in.Counters().SignIns
	if counted[tokenOperation+" 503"] != 1 || counted[tokenOperation+" 200"] != 1 {
		t.Errorf("counted %v", counted)
	}
}

func TestAllOfTheSignInIsDown(t *testing.T) {
	t.Parallel()
	in := emulatortest.Start(t, faultSeed)
	s := &session{in, t, in.Client(), ""}
	in.SetSignInFaults(seed.Fault{Kind: seed.FaultError})
	discovery := request(t, http.MethodGet, "https://login.microsoftonline.com/tenant-1/v2.0/.well-known/openid-configuration", "")
	for _, r := range []*http.Request{tokenRequest(t), identityRequest(t), discovery} {
		if got, err := s.send(r); err != nil || got.status != 503 {
			t.Errorf("%s: %d %v", r.URL.Path, got.status, err)
		}
	}
}

func TestSignInsHang(t *testing.T) {
	t.Parallel()
	for name, each := range signIns {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := emulatortest.Start(t, faultSeed)
			s := &session{in, t, in.Client(), ""}
			in.SetSignInFaults(seed.Fault{Kind: seed.FaultHang})
			ended := s.background(each.ask(t))
			in.AwaitSignInHanging(1)
			in.SetSignInFaults()
			if err := <-ended; err != nil {
				t.Errorf("what hung and was let go is not answered: %v", err)
			}
		})
	}
}

func TestSignInsAreTruncated(t *testing.T) {
	t.Parallel()
	for name, each := range signIns {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := emulatortest.Start(t, faultSeed)
			s := &session{in, t, in.Client(), ""}
			in.SetSignInFaults(seed.Fault{Kind: seed.FaultTruncate, Count: 1})
			got, err := s.send(each.ask(t))
			if got.status != 200 || !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasPrefix(got.text, "{") {
				t.Errorf("got %d %q, %v", got.status, got.text, err)
			}
			if got := in.Counters().SignIns[each.operation+" 200"]; got != 1 {
				t.Errorf("counted %d", got)
			}
		})
	}
}

// Stopping an emulator does not wait for what its faults hold.
func TestClosingReleasesWhatHangs(t *testing.T) {
	t.Parallel()
	s := begin(t, faultSeed)
	s.SetFaults("my-kv", seed.Fault{Kind: seed.FaultHang}, seed.Fault{Kind: seed.FaultLatency, Latency: seed.Duration(time.Hour)})
	s.SetSignInFaults(seed.Fault{Kind: seed.FaultHang})
	first, second := s.background(s.request("GET my-kv/secrets/db", "")), s.background(tokenRequest(t))
	s.AwaitHanging("my-kv", 1)
	s.AwaitSignInHanging(1)
	if err := s.Emulator.Close(t.Context()); err != nil {
		t.Error(err)
	}
	for _, ended := range []<-chan error{first, second} {
		if err := <-ended; err != nil {
			t.Errorf("what hung and was let go is not answered: %v", err)
		}
	}
}
