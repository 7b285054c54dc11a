// SPDX-License-Identifier: Apache-2.0

package emulator_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/emulator/emulatortest"
	"github.com/akv2k8s/akv2k8s/emulator/keyvault"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

const faultSeed = `
tenant: tenant-1
principals:
  - { name: app, clientId: client-1, objectId: object-1, secrets: [app-secret], managedIdentity: true }
vaults:
  - name: my-kv
    permissions: [{ principal: app, roles: [Key Vault Administrator] }]
    secrets: [{ name: db, value: first }, { name: other, value: first }]
    certificates: [{ name: crt, keyType: EC }]
    keys: [{ name: key, type: EC }]
  - name: policy-kv
    access: policy
    permissions: [{ principal: app, secrets: [all], certificates: [all], keys: [all] }]
    secrets: [{ name: db, value: first }]
`

// session is somebody who has signed in.
type session struct {
	*emulatortest.Instance

	t      *testing.T
	client *http.Client
	token  string
}

func begin(t *testing.T, seedYAML string) *session {
	t.Helper()
	in := emulatortest.Start(t, seedYAML)
	client := in.Client()
	return &session{in, t, client, signIn(t, client)}
}

// request is "METHOD vault/path" with the session's token.
func (s *session) request(what, body string) *http.Request {
	s.t.Helper()
	method, path, _ := strings.Cut(what, " ")
	vault, rest, _ := strings.Cut(path, "/")
	if !strings.Contains(rest, "?") {
		rest += "?api-version=2026-04-01"
	}
	r := request(s.t, method, "https://"+vault+".vault.azure.net/"+rest, body)
	r.Header.Set("Authorization", "Bearer "+s.token)
	return r
}

// answered is what came back.
type answered struct {
	status int
	header http.Header
	text   string
}

func read200(a answered) error {
	if a.status != http.StatusOK {
		return fmt.Errorf("%d %s", a.status, a.text)
	}
	return nil
}

func (s *session) send(r *http.Request) (answered, error) {
	resp, err := s.client.Do(r)
	if err != nil {
		return answered{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	return answered{resp.StatusCode, resp.Header, string(raw)}, err
}

func (s *session) ask(what, body string) answered {
	s.t.Helper()
	out, err := s.send(s.request(what, body))
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
	return out
}

// background sends a request that is not answered yet.
func (s *session) background(r *http.Request) <-chan error {
	ended := make(chan error, 1)
	go func() {
		out, err := s.send(r)
		if err == nil {
			err = read200(out)
		}
		ended <- err
	}()
	return ended
}

const (
	throttledBody = `{"error":{"code":"Throttled","message":"Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached"}}`
	refusedRBAC   = `{"error":{"code":"Forbidden","message":"Caller is not authorized to perform action on resource.\r\n` +
		`If role assignments, deny assignments or role definitions were changed recently, please observe propagation time.\r\n` +
		`Caller: appid=client-1;oid=object-1;iss=https://sts.windows.net/tenant-1/\r\n` +
		`Action: '%s'\r\nResource: '/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/emulator/providers/microsoft.keyvault/vaults/my-kv%s'\r\n` +
		`Assignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: 'DeniedWithNoValidRBAC' \r\n` +
		`Vault: my-kv;location=westeurope\r\n","innererror":{"code":"ForbiddenByRbac"}}}`
	refusedPolicy = `{"error":{"code":"Forbidden","message":"The user, group or application 'appid=client-1;oid=object-1;iss=https://sts.windows.net/tenant-1/' ` +
		`does not have %s permission on key vault 'policy-kv;location=westeurope'. ` +
		`For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125287","innererror":{"code":"ForbiddenByPolicy"}}}`
)

func TestFaultsThatAnswer(t *testing.T) {
	t.Parallel()
	s := begin(t, faultSeed)
	for name, tc := range map[string]struct {
		fault      seed.Fault
		status     int
		retryAfter string
		says       string
	}{
		"Throttle":      {seed.Fault{Kind: seed.FaultThrottle}, 429, "", throttledBody},
		"ThrottleAfter": {seed.Fault{Kind: seed.FaultThrottle, RetryAfter: 7}, 429, "7", throttledBody},
		"Error":         {seed.Fault{Kind: seed.FaultError}, 503, "", `"code":"ServiceUnavailable"`},
		"Error500":      {seed.Fault{Kind: seed.FaultError, Status: 500}, 500, "", `"code":"InternalServerError"`},
		"Firewall":      {seed.Fault{Kind: seed.FaultFirewall}, 403, "", `"innererror":{"code":"ForbiddenByFirewall"}`},
		"Revoke":        {seed.Fault{Kind: seed.FaultRevoke}, 401, "", `"code":"Unauthorized"`},
		"Latency":       {seed.Fault{Kind: seed.FaultLatency, Latency: 1}, 200, "", `"value":"first"`},
		"Slow":          {seed.Fault{Kind: seed.FaultSlow, Latency: 1000}, 200, "", `"value":"first"`},
	} {
		t.Run(name, func(t *testing.T) { // one after the other: the vault has one list of faults
			s.ask("GET my-kv/secrets/other", "") // for Revoke, the token has to be known
			tc.fault.Operations, tc.fault.Objects, tc.fault.Count = []string{"secrets/get"}, []string{"secrets/db"}, 2
			s.SetFaults("my-kv", tc.fault)
			for _, others := range []string{"GET my-kv/secrets", "GET my-kv/secrets/other", "GET policy-kv/secrets/db"} {
				if got := s.ask(others, ""); got.status != 200 {
					t.Errorf("%s: %d %s", others, got.status, got.text)
				}
			}
			for range 2 {
				got := s.ask("GET my-kv/secrets/db", "")
				if got.status != tc.status || got.header.Get("Retry-After") != tc.retryAfter || !strings.Contains(got.text, tc.says) {
					t.Errorf("got %d %s", got.status, got.text)
				}
			}
			if got := s.ask("GET my-kv/secrets/db", ""); got.status != 200 {
				t.Errorf("the fault outlives its count: %d %s", got.status, got.text)
			}
		})
	}
}

// Faults make a script: what stands behind the one that answers is neither met nor used up.
func TestFaultsHappenInOrder(t *testing.T) {
	t.Parallel()
	s := begin(t, faultSeed)
	s.SetFaults("my-kv", seed.Fault{Kind: seed.FaultThrottle, Count: 2}, seed.Fault{Kind: seed.FaultError, Count: 1})
	var got []int
	for range 4 {
		got = append(got, s.ask("GET my-kv/secrets/db", "").status)
	}
	if diff := cmp.Diff([]int{429, 429, 503, 200}, got); diff != "" {
		t.Error(diff)
	}
}

func TestFaultsByChance(t *testing.T) {
	t.Parallel()
	s := begin(t, faultSeed)
	s.SetFaults("my-kv", seed.Fault{Kind: seed.FaultError, Probability: 0.5})
	got := map[int]int{}
	for range 100 { // all alike once in 2^99 runs
		got[s.ask("GET my-kv/secrets/db", "").status]++
	}
	if got[200] == 0 || got[503] == 0 || got[200]+got[503] != 100 {
		t.Errorf("got %v", got)
	}
	s.SetFaults("my-kv", seed.Fault{Kind: seed.FaultError, Probability: 1})
	if got := s.ask("GET my-kv/secrets/db", ""); got.status != 503 {
		t.Errorf("what is certain does not happen: %d", got.status)
	}
}

func TestLimitOfTransactions(t *testing.T) {
	t.Parallel()
	s := begin(t, strings.Replace(faultSeed, "name: my-kv\n", "name: my-kv\n    limit: { transactions: 3, per: 1000h }\n", 1))
	for i, want := range []int{200, 200, 200, 429, 429} {
		got := s.ask("GET my-kv/secrets/db", "")
		if got.status != want {
			t.Errorf("request %d: %d %s", i, got.status, got.text)
		}
		if _, has := got.header["Retry-After"]; want == 429 && (has || strings.TrimSpace(got.text) != throttledBody) {
			t.Errorf("request %d: %v %s", i, got.header, got.text)
		}
	}
	if got := s.Requests("secrets/get", 429); got != 2 {
		t.Errorf("counted %d refusals", got)
	}
	if got := s.ask("GET policy-kv/secrets/db", ""); got.status != 200 {
		t.Errorf("the limit concerns another vault: %d", got.status)
	}
	s.SetLimit("my-kv", 1, 1000*time.Hour)
	s.SetFaults("my-kv", seed.Fault{Kind: seed.FaultThrottle, Count: 1})
	for i, want := range []int{429, 200, 429} { // what a fault refuses does not count
		if got := s.ask("GET my-kv/secrets/db", ""); got.status != want {
			t.Errorf("with a new limit, request %d: %d", i, got.status)
		}
	}
	s.ClearLimit("my-kv")
	if got := s.ask("GET my-kv/secrets/db", ""); got.status != 200 {
		t.Errorf("the limit outlives its end: %d", got.status)
	}
}

func TestClearingFaultsReleasesWhatHangs(t *testing.T) {
	t.Parallel()
	s := begin(t, faultSeed)
	s.SetFaults("my-kv", seed.Fault{Kind: seed.FaultHang}, seed.Fault{Kind: seed.FaultError})
	first, second := s.background(s.request("GET my-kv/secrets/db", "")), s.background(s.request("GET my-kv/secrets", ""))
	s.AwaitHanging("my-kv", 2)
	if got := s.Emulator.Vaults.Vaults()[0].Hanging; got != 2 {
		t.Errorf("%d requests hang", got)
	}
	s.SetFaults("my-kv")
	for _, ended := range []<-chan error{first, second} {
		if err := <-ended; err != nil {
			t.Errorf("what hung and was let go is not answered: %v", err)
		}
	}
}

func TestAClientThatLeavesAHangingVault(t *testing.T) {
	t.Parallel()
	s := begin(t, faultSeed)
	s.SetFaults("my-kv", seed.Fault{Kind: seed.FaultHang, Count: 1})
	ctx, leave := context.WithCancel(t.Context())
	ended := s.background(s.request("PUT my-kv/secrets/db", `{"value":"second"}`).WithContext(ctx))
	s.AwaitHanging("my-kv", 1)
	leave()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if got := s.ask("GET my-kv/secrets/db", ""); got.status != 200 || !strings.Contains(got.text, `"value":"first"`) {
		t.Errorf("the request was done for nobody: %d %s", got.status, got.text)
	}
}

func TestResetAndHangCountAsNoAnswer(t *testing.T) {
	t.Parallel()
	s := begin(t, faultSeed)
	s.SetFaults("my-kv", seed.Fault{Kind: seed.FaultReset, Count: 1})
	r := s.request("PUT my-kv/secrets/db", `{"value":"second"}`) // which the transport does not repeat
	if got, err := s.send(r); err == nil {
		t.Errorf("got an answer, %d", got.status)
	}
	want := []keyvault.Count{{Vault: "my-kv", Operation: "secrets/set", Status: 0, Count: 1}}
	if diff := cmp.Diff(want, s.Counters().Requests); diff != "" {
		t.Error(diff)
	}
}

func TestTruncatedBodies(t *testing.T) {
	t.Parallel()
	s := begin(t, faultSeed)
	whole := s.ask("GET my-kv/secrets/db", "")
	for name, faults := range map[string][]seed.Fault{
		"Alone":   {{Kind: seed.FaultTruncate, Count: 1}},
		"AndSlow": {{Kind: seed.FaultTruncate, Count: 1}, {Kind: seed.FaultSlow, Latency: 1000, Count: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			s.SetFaults("my-kv", faults...)
			got, err := s.send(s.request("GET my-kv/secrets/db", ""))
			if !errors.Is(err, io.ErrUnexpectedEOF) || got.text != whole.text[:len(whole.text)/2] {
				t.Errorf("got %q, %v", got.text, err)
			}
			if got.status != 200 || got.header.Get("Content-Length") != fmt.Sprint(len(whole.text)) {
				t.Errorf("got %d %v", got.status, got.header)
			}
			if got := s.ask("GET my-kv/secrets/db", ""); got.text != whole.text {
				t.Errorf("the fault outlives its count: %q", got.text)
			}
		})
	}
	s.SetFaults("my-kv", seed.Fault{Kind: seed.FaultTruncate}, seed.Fault{Kind: seed.FaultError})
	if got, err := s.send(s.request("GET my-kv/secrets/db", "")); got.status != 503 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("errors are not truncated: %d %v", got.status, err)
	}
}

// The head is there at once and the body takes its time, until the fault is cleared.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	s := begin(t, faultSeed)
	s.SetFaults("my-kv", seed.Fault{Kind: seed.FaultSlow, Latency: seed.Duration(10000 * time.Hour)})
	resp, err := s.client.Do(s.request("GET my-kv/secrets/db", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	first := make([]byte, 1)
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatal(err)
	}
	s.SetFaults("my-kv")
	rest, err := io.ReadAll(resp.Body)
	if err != nil || resp.ContentLength != int64(1+len(rest)) || !strings.Contains(string(rest), `"value":"first"`) {
		t.Errorf("got %s, %v", rest, err)
	}
}

func TestAVaultThatVanishes(t *testing.T) {
	t.Parallel()
	s := begin(t, faultSeed)
	status := ""
	s.client.Transport.(*http.Transport).OnProxyConnectResponse = func(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
		if status = resp.Header.Get("Proxy-Status"); resp.StatusCode != 200 {
			return fmt.Errorf("the proxy answered %d", resp.StatusCode)
		}
		return nil
	}
	s.ask("GET my-kv/secrets/db", "") // leaves a connection to be used again
	s.SetFaults("my-kv", seed.Fault{Kind: seed.FaultDNS})
	if got, err := s.send(s.request("GET my-kv/secrets/db", "")); err == nil || !strings.Contains(status, "error=dns_error") {
		t.Errorf("the vault is still there: %d %v, Proxy-Status %q", got.status, err, status)
	}
	if got := s.ask("GET policy-kv/secrets/db", ""); got.status != 200 {
		t.Errorf("another vault has vanished: %d", got.status)
	}
	s.SetFaults("my-kv")
	if got := s.ask("GET my-kv/secrets/db", ""); got.status != 200 {
		t.Errorf("the vault has not come back: %d", got.status)
	}
	s.SetFaults("my-kv", seed.Fault{Kind: seed.FaultDNS, Count: 1})
	if _, err := s.send(s.request("GET my-kv/secrets/db", "")); err == nil {
		t.Error("a vault that vanishes for one lookup does not")
	}
	if got := s.ask("GET my-kv/secrets/db", ""); got.status != 200 {
		t.Errorf("the fault outlives its count: %d", got.status)
	}
}

func TestClockOfAVault(t *testing.T) {
	t.Parallel()
	s := begin(t, faultSeed)
	for name, offset := range map[string]time.Duration{"Ahead": 1000 * time.Hour, "Behind": -1000 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			s.SetClock("my-kv", 0)
			before := s.ask("PUT my-kv/secrets/db", `{"value":"first"}`)
			s.SetClock("my-kv", offset)
			after := s.ask("PUT my-kv/secrets/db", `{"value":"second"}`)
			difference := func(read func(answered) time.Time) time.Duration {
				return read(after).Sub(read(before)).Round(time.Hour)
			}
			got := []time.Duration{
				difference(date), difference(attribute(t, "created")), difference(attribute(t, "updated")),
			}
			if diff := cmp.Diff([]time.Duration{offset, offset, offset}, got); diff != "" {
				t.Error(diff)
			}
			refused := s.ask("GET my-kv/secrets/none", "")
			if got := date(refused).Sub(date(before)).Round(time.Hour); got != offset {
				t.Errorf("a refusal's date is %s away", got)
			}
		})
	}
}

func TestAVaultBeginsAsItsSeedSays(t *testing.T) {
	t.Parallel()
	s := begin(t, faultSeed+"    clockOffset: -1000h\n    faults: [{ kind: throttle, operations: [secrets/get], count: 1 }, { kind: truncate, count: 1 }]\n")
	right := date(s.ask("GET my-kv/secrets/db", ""))
	if got := s.ask("GET policy-kv/secrets/db", ""); got.status != 429 {
		t.Errorf("got %d", got.status)
	}
	if got, err := s.send(s.request("GET policy-kv/secrets/db", "")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %d %v", got.status, err)
	}
	got := s.ask("GET policy-kv/secrets/db", "")
	for name, at := range map[string]time.Time{"Date": date(got), "created": attribute(t, "created")(got)} {
		if behind := right.Sub(at).Round(time.Hour); behind != 1000*time.Hour {
			t.Errorf("%s is %s behind", name, behind)
		}
	}
}

func date(a answered) time.Time {
	at, _ := http.ParseTime(a.header.Get("Date"))
	return at
}

func attribute(t *testing.T, name string) func(answered) time.Time {
	t.Helper()
	return func(a answered) time.Time {
		t.Helper()
		_, rest, found := strings.Cut(a.text, `"`+name+`":`)
		var seconds int64
		if _, err := fmt.Sscanf(rest, "%d", &seconds); err != nil || !found {
			t.Fatalf("no %s in %s", name, a.text)
		}
		return time.Unix(seconds, 0)
	}
}
