// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/broker"
	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/grant"
	"github.com/akv2k8s/akv2k8s/internal/placeholder"
	"github.com/akv2k8s/akv2k8s/internal/secret"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

var errBoom = errors.New("boom " + canary)

func TestAnswers(t *testing.T) {
	s := newStage(t)
	got := s.ask(t, "good", "app")
	if got.status != http.StatusOK || len(got.values) != 3 {
		t.Fatalf("status %d, %d values, %+v", got.status, len(got.values), got.failure)
	}
	if got.values["db@azurekeyvault"] != canary+"=db" {
		t.Error("the value differs")
	}
	if err := got.pair("tls@azurekeyvault?tls.crt", "tls@azurekeyvault?tls.key"); err != nil {
		t.Errorf("certificate and key: %v", err)
	}
	if got.header.Get("Cache-Control") != "no-store" || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("header %v", got.header)
	}
	if n := len(s.vault.Reads()); n != 3 {
		t.Errorf("%d reads of 3 distinct objects", n)
	}
	if s.count(t, "answered") != 1 {
		t.Error("not counted")
	}
	for _, part := range []string{
		`"msg":"request"`, `"result":"answered"`, `"rule":"OwnPod"`, `"namespace":"team"`, `"pod":"web"`,
		`"serviceAccount":"web-account"`, `"container":"app"`, `"placeholders":4`, `"duration"`,
	} {
		if strings.Count(s.log.String(), part) != 1 {
			t.Errorf("no audit of %s in %s", part, s.log)
		}
	}
}

// Containers restart and answers get lost: each is given again, by any replica, and
// read before what is not a pod that starts.
func TestAnswersAgain(t *testing.T) {
	replicas := []*stage{newStage(t), newStage(t)}
	for i := range 6 {
		s := replicas[i%2]
		s.demand = vault.Demand{}
		got := s.ask(t, "good", "init")
		if d := cmp.Diff(map[string]string{"db@azurekeyvault": canary + "=db"}, got.values); d != "" {
			t.Errorf("%d: status %d, -want +got\n%s", i, got.status, d)
		}
		if want := (vault.Demand{Priority: vault.PodStart}); s.demand != want {
			t.Errorf("%d: read with the demand %+v", i, s.demand)
		}
	}
}

// What cannot be a valid token of a pod costs the API server nothing.
func TestScreenedTokensAreNotReviewed(t *testing.T) {
	s := newStage(t)
	for name, authorization := range map[string]string{
		"None": "", "Opaque": "Bearer abc",
		"OtherAudience": "Bearer " + token("good", func(c members) { c["aud"] = "else" }),
		"Unbound":       "Bearer " + token("good", func(c members) { c["kubernetes.io"] = members{"namespace": "team"} }),
		"Expired":       "Bearer " + token("good", func(c members) { c["exp"] = time.Now().Add(-time.Hour).Unix() }),
	} {
		got := s.send(t, http.MethodPost, authorization, `{"container":"app"}`)
		if got.status != http.StatusUnauthorized || s.reviews.Load() != 0 {
			t.Errorf("%s: status %d, %d reviews", name, got.status, s.reviews.Load())
		}
	}
	if got := s.ask(t, "good", "app"); got.status != http.StatusOK || s.reviews.Load() != 1 {
		t.Errorf("a good one: status %d, %d reviews", got.status, s.reviews.Load())
	}
}

// Each type of object gives its parts, several of one object with one read.
func TestAnswersParts(t *testing.T) {
	s := newStage(t)
	got := s.ask(t, "good", "parts")
	if _, err := x509.ParsePKIXPublicKey(block(got.values["key@azurekeyvault?pem"])); err != nil {
		t.Errorf("the key: %v", err)
	}
	delete(got.values, "key@azurekeyvault?pem")
	want := map[string]string{"login@azurekeyvault?username": "me", "login@azurekeyvault?password": canary, "many@azurekeyvault?host": canary}
	if d := cmp.Diff(want, got.values); d != "" || got.status != http.StatusOK {
		t.Errorf("status %d, -want +got\n%s", got.status, d)
	}
	if n := len(s.vault.Reads()); n != 3 {
		t.Errorf("%d reads of 3 distinct objects", n)
	}
	if err := s.ask(t, "good", "kept").pair("kept@azurekeyvault?tls.crt", "kept@azurekeyvault?tls.key"); err != nil {
		t.Errorf("a pair in a secret: %v", err)
	}
}

// A file is a value like any other, and travels once; a directory is all parts of an
// object, from one read.
func TestAnswersFiles(t *testing.T) {
	s := newStage(t)
	got := s.ask(t, "good", "files")
	pair := got.files["tls@azurekeyvault;directory"]
	if _, err := tls.X509KeyPair(pair["tls.crt"], pair["tls.key"]); err != nil || len(pair) != 2 {
		t.Errorf("a pair of %d files: %v", len(pair), err)
	}
	if got.values["tls@azurekeyvault"] != string(pair["tls.crt"]) { // it has no issuers
		t.Error("the certificate is another than the pair's")
	}
	delete(got.values, "tls@azurekeyvault")
	delete(got.files, "tls@azurekeyvault;directory")
	if d := cmp.Diff(map[string]string{"db@azurekeyvault": canary + "=db"}, got.values); d != "" {
		t.Errorf("values: -want +got\n%s", d)
	}
	if d := cmp.Diff(map[string]map[string][]byte{"many@azurekeyvault;directory": {"host": []byte(canary), "raw": []byte("x")}}, got.files); d != "" {
		t.Errorf("directories: -want +got\n%s", d)
	}
	if d := cmp.Diff([]string{"nosuch@azurekeyvault;directory"}, got.absent); d != "" {
		t.Error(d)
	}
	if n := len(s.vault.Reads()); n != 4 { // db, many, and both halves of tls
		t.Errorf("%d reads", n)
	}
	if got := s.ask(t, "good", "no-files"); got.status != http.StatusUnprocessableEntity || got.failure.Problems[0].Reason != v2beta1.ReasonPlaceholderQuery ||
		!strings.Contains(got.failure.Problems[0].Message, "of type secret: ask for a file of it with ;file") {
		t.Errorf("status %d, %+v", got.status, got.failure)
	}
}

// What is written by hand is what encoding/json would write, in memory that was
// never moved.
func TestEncoding(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.StringMatching(`[-.a-z0-9]{1,9}@azurekeyvault(\?[-._a-zA-Z0-9]{1,9})?(;directory)?`)
		bytes := rapid.MapOf(key, rapid.SliceOfN(rapid.Byte(), 0, 9))
		want := brokerapi.Response{
			Values: bytes.Draw(t, "values"), Directories: rapid.MapOfN(key, bytes, 0, 3).Draw(t, "directories"),
			Absent: rapid.SliceOfN(key, 0, 3).Draw(t, "absent"),
		}
		values := func(of map[string][]byte) map[string]secret.Value {
			out := map[string]secret.Value{}
			for key, value := range of {
				out[key] = secret.New(value)
			}
			return out
		}
		in := grant.Values{Values: values(want.Values), Directories: map[string]map[string]secret.Value{}, Absent: want.Absent}
		for key, files := range want.Directories {
			in.Directories[key] = values(files)
		}
		text, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		got, moved := broker.Encoded(in)
		if d := cmp.Diff(string(text)+"\n", string(got)); d != "" || moved {
			t.Fatalf("moved: %v, -want +got\n%s", moved, d)
		}
	})
}

// block is what a PEM block holds.
func block(text string) []byte {
	if b, _ := pem.Decode([]byte(text)); b != nil {
		return b.Bytes
	}
	return nil
}

// Init containers ask like any other, and who has no placeholder gets nothing.
func TestAnswersEveryContainer(t *testing.T) {
	for name, want := range map[string]map[string]string{
		"init":   {"db@azurekeyvault": canary + "=db"},
		"inline": {"db@azurekeyvault": canary + "=db", "late@azurekeyvault": canary + "=db"},
		"late":   {"late@azurekeyvault": canary + "=db"}, // created after the memory was filled
		"idle":   {},
	} {
		t.Run(name, func(t *testing.T) {
			got := newStage(t).ask(t, "good", name)
			if d := cmp.Diff(want, got.values); d != "" || got.status != http.StatusOK {
				t.Errorf("status %d, -want +got\n%s", got.status, d)
			}
		})
	}
}

// What need not exist and does not is named, and keeps nobody from starting; what is
// there is answered although it need not be.
func TestAbsent(t *testing.T) {
	got := newStage(t).ask(t, "good", "optional")
	if d := cmp.Diff([]string{"gone@azurekeyvault", "many@azurekeyvault?port", "nosuch@azurekeyvault?x"}, got.absent); d != "" || got.status != http.StatusOK {
		t.Errorf("status %d, %+v, -want +got\n%s", got.status, got.failure, d)
	}
	if d := cmp.Diff(map[string]string{"db@azurekeyvault": canary + "=db"}, got.values); d != "" {
		t.Error(d)
	}
}

// An outage and a refusal are not absence.
func TestAbsentIsNotUnknown(t *testing.T) {
	for _, err := range []error{vault.ErrUnavailable, vault.ErrForbidden, vault.ErrDisabled, vault.ErrNoVault} {
		s := newStage(t)
		s.vault.Fail(vault.Reference{Name: "gone"}, err)
		if got := s.ask(t, "good", "optional"); got.status == http.StatusOK || len(got.failure.Problems) != 1 {
			t.Errorf("%v: status %d, %+v", err, got.status, got.failure)
		}
	}
}

// Who is not a pod of ours is told so, and why is in no answer.
func TestUnauthenticated(t *testing.T) {
	type change = func(*authenticationv1.TokenReviewStatus)
	extra := func(key string, values ...string) change {
		return func(s *authenticationv1.TokenReviewStatus) {
			s.User.Extra["authentication.kubernetes.io/"+key] = values
		}
	}
	for name, c := range map[string]change{
		"NotValid":           func(s *authenticationv1.TokenReviewStatus) { s.Authenticated = false; s.Error = canary },
		"OtherAudience":      func(s *authenticationv1.TokenReviewStatus) { s.Audiences = []string{"https://kubernetes.default.svc"} },
		"NoAudience":         func(s *authenticationv1.TokenReviewStatus) { s.Audiences = nil },
		"NotBound":           func(s *authenticationv1.TokenReviewStatus) { s.User.Extra = nil },
		"BoundWithoutUID":    extra("pod-uid"),
		"BoundToEmptyUID":    extra("pod-uid", ""),
		"BoundToTwoPods":     extra("pod-name", "web", "db"),
		"BoundWithoutPod":    extra("pod-name"),
		"NotAServiceAccount": func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "jane" },
		"AlmostOne":          func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "system:serviceaccount:team" },
		"NoNamespace":        func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "system:serviceaccount::web-account" },
		"NoName":             func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "system:serviceaccount:team:" },
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.tokens["bad"] = review(c)
			got := s.ask(t, "bad", "app")
			if got.status != http.StatusUnauthorized || got.failure.Retry || got.header.Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("status %d, %+v", got.status, got)
			}
			if s.count(t, "unauthenticated") != 1 || len(s.vault.Reads()) != 0 {
				t.Errorf("counted %d, %d reads", s.count(t, "unauthenticated"), len(s.vault.Reads()))
			}
		})
	}
}

// A valid token of another pod, or for another container, opens nothing.
func TestDenied(t *testing.T) {
	deleted := func(p *corev1.Pod) {
		now := metav1.Now()
		p.DeletionTimestamp, p.Finalizers = &now, []string{"spv.no/test"}
	}
	cases := map[string]struct {
		token     func(*authenticationv1.TokenReviewStatus)
		pod       func(*corev1.Pod)
		container string
		rule      string
	}{
		"PodGone": {
			token: func(s *authenticationv1.TokenReviewStatus) {
				s.User.Extra["authentication.kubernetes.io/pod-name"] = []string{"nosuch"}
			}, rule: "PodGone",
		},
		"PodRecreatedWithTheName": {pod: func(p *corev1.Pod) { p.UID = "another" }, rule: "PodReplaced"},
		"PodOfAnotherNamespace": {
			token: func(s *authenticationv1.TokenReviewStatus) {
				s.User.Username = "system:serviceaccount:other:web-account"
			},
			rule: "PodGone",
		},
		"OtherServiceAccount":  {pod: func(p *corev1.Pod) { p.Spec.ServiceAccountName = "else" }, rule: "OtherServiceAccount"},
		"PodBeingDeleted":      {pod: deleted, rule: "PodEnding"},
		"PodSucceeded":         {pod: func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, rule: "PodEnding"},
		"PodFailed":            {pod: func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, rule: "PodEnding"},
		"NoSuchContainer":      {container: "nosuch", rule: "NoSuchContainer"},
		"EphemeralContainer":   {container: "debugger", rule: "NoSuchContainer"},
		"ContainerOfOtherCase": {container: "app2", rule: "NoSuchContainer"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			if tc.pod != nil {
				s = newStage(t, tc.pod)
			}
			if tc.token != nil {
				s.tokens["good"] = review(tc.token)
			}
			if tc.container == "" {
				tc.container = "app"
			}
			got := s.ask(t, "good", tc.container)
			if got.status != http.StatusForbidden || got.failure.Message == "" || got.failure.Retry {
				t.Errorf("status %d, %+v", got.status, got.failure)
			}
			if !strings.Contains(s.log.String(), `"rule":"`+tc.rule+`"`) || s.count(t, "denied") != 1 || len(s.vault.Reads()) != 0 {
				t.Errorf("log %s", s.log)
			}
		})
	}
}

func TestBadRequests(t *testing.T) {
	const good = `{"container":"app"}`
	cases := map[string]struct {
		method, authorization, body string
		want                        int
	}{
		"Get":              {http.MethodGet, "Bearer " + token("good"), "", http.StatusMethodNotAllowed},
		"Put":              {http.MethodPut, "Bearer " + token("good"), good, http.StatusMethodNotAllowed},
		"NoToken":          {http.MethodPost, "", good, http.StatusUnauthorized},
		"EmptyToken":       {http.MethodPost, "Bearer ", good, http.StatusUnauthorized},
		"OtherScheme":      {http.MethodPost, "Basic " + token("good"), good, http.StatusUnauthorized},
		"HugeToken":        {http.MethodPost, "Bearer " + strings.Repeat("x", 20000), good, http.StatusUnauthorized},
		"NoBody":           {http.MethodPost, "Bearer " + token("good"), "", http.StatusBadRequest},
		"NoJSON":           {http.MethodPost, "Bearer " + token("good"), "container=app", http.StatusBadRequest},
		"TwoDocuments":     {http.MethodPost, "Bearer " + token("good"), good + good, http.StatusBadRequest},
		"NoContainer":      {http.MethodPost, "Bearer " + token("good"), `{}`, http.StatusBadRequest},
		"ContainerIsAPath": {http.MethodPost, "Bearer " + token("good"), `{"container":"../app"}`, http.StatusBadRequest},
		"HugeBody":         {http.MethodPost, "Bearer " + token("good"), good + strings.Repeat(" ", brokerapi.MaxRequestBytes), http.StatusRequestEntityTooLarge},
		"SpacesAreFine":    {http.MethodPost, "bearer " + token("good"), " " + good + "\n", http.StatusOK},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := newStage(t).send(t, tc.method, tc.authorization, tc.body); got.status != tc.want {
				t.Errorf("status %d, want %d, %+v", got.status, tc.want, got.failure)
			}
		})
	}
}

// What a person must put right is said for every variable at once.
func TestRefused(t *testing.T) {
	problem := func(variable, text, reason, message string) brokerapi.Problem {
		return brokerapi.Problem{Variable: variable, Placeholder: text, Reason: reason, Message: message}
	}
	cases := map[string]struct {
		container string
		prepare   func(*stage)
		want      []brokerapi.Problem
	}{
		"Placeholders": {"unknown", nil, []brokerapi.Problem{
			problem("A", "nosuch@azurekeyvault", v2beta1.ReasonUnknownSecret, "there is no AzureKeyVaultSecret nosuch in the pod's namespace"),
			problem("B", "db@azurekeyvault?nope", v2beta1.ReasonPlaceholderQuery, "AzureKeyVaultSecret db: the placeholder's query fits no part of this vault object, of type secret; possible are: none, raw, username, password, tls.crt, tls.key"),
			problem("C", "", v2beta1.ReasonPlaceholderFormat, placeholder.ErrMalformed.Error()),
		}},
		"OtherNamespacesAreOutOfReach": {"foreign", nil, []brokerapi.Problem{
			problem("A", "theirs@azurekeyvault", v2beta1.ReasonUnknownSecret, "there is no AzureKeyVaultSecret theirs in the pod's namespace"),
		}},
		"NoEntry": {"no-entry", nil, []brokerapi.Problem{
			problem("A", "many@azurekeyvault?port", v2beta1.ReasonPlaceholderQuery, "secret many in vault my-kv: its value has no entry of the name port"),
		}},
		"Missing": {"missing", nil, []brokerapi.Problem{
			problem("A", "gone@azurekeyvault", v2beta1.ReasonObjectNotFound, "secret gone in vault my-kv: the vault has no such object"),
		}},
		"Disabled": {"init", func(s *stage) {
			s.vault.Disable(vault.Reference{Vault: "my-kv", Kind: vault.KindSecret, Name: "db"})
		}, []brokerapi.Problem{
			problem("PASSWORD", "db@azurekeyvault", v2beta1.ReasonObjectDisabled, "secret db in vault my-kv: the object, or this version of it, is disabled"),
		}},
		"Forbidden": {"init", func(s *stage) { s.vault.Fail(vault.Reference{}, vault.ErrForbidden) }, []brokerapi.Problem{
			problem("PASSWORD", "db@azurekeyvault", v2beta1.ReasonForbidden, "secret db in vault my-kv: the identity may not read this object"),
		}},
		"MissingBesideAnOutage": {"missing", func(s *stage) {
			s.vault.Fail(vault.Reference{Name: "db"}, vault.ErrUnavailable)
		}, []brokerapi.Problem{
			problem("A", "gone@azurekeyvault", v2beta1.ReasonObjectNotFound, "secret gone in vault my-kv: the vault has no such object"),
			problem("B", "db@azurekeyvault", v2beta1.ReasonVaultUnavailable, "secret db in vault my-kv: the vault did not answer"),
		}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			if tc.prepare != nil {
				tc.prepare(s)
			}
			got := s.ask(t, "good", tc.container)
			if d := cmp.Diff(tc.want, got.failure.Problems); d != "" || got.status != http.StatusUnprocessableEntity || got.failure.Retry {
				t.Errorf("status %d, retry %t, problems -want +got\n%s", got.status, got.failure.Retry, d)
			}
			if s.count(t, "refused") != 1 {
				t.Error("not counted")
			}
		})
	}
}

func TestUnavailable(t *testing.T) {
	cases := map[string]struct {
		prepare func(*stage)
		after   string
	}{
		"Vault":         {func(s *stage) { s.vault.Fail(vault.Reference{}, vault.ErrUnavailable) }, "3"},
		"UnknownError":  {func(s *stage) { s.vault.Fail(vault.Reference{}, errBoom) }, "3"},
		"Throttled":     {func(s *stage) { s.vault.Fail(vault.Reference{}, vault.Throttled{RetryAfter: 6500 * time.Millisecond}) }, "7"},
		"TokenReview":   {func(s *stage) { s.fail["TokenReview"] = errBoom }, "3"},
		"Pod":           {func(s *stage) { s.fail["Pod"] = errBoom }, "3"},
		"Secrets":       {func(s *stage) { s.fail["AzureKeyVaultSecret"] = errBoom }, "3"},
		"PanicInReader": {func(s *stage) { s.after = func(vault.Reference) { panic(errBoom) } }, "3"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			tc.prepare(s)
			got := s.ask(t, "good", "app")
			if got.status != http.StatusServiceUnavailable || !got.failure.Retry || got.header.Get("Retry-After") != tc.after {
				t.Errorf("status %d, Retry-After %q, %+v", got.status, got.header.Get("Retry-After"), got.failure)
			}
			if s.count(t, "unavailable") != 1 {
				t.Error("not counted")
			}
		})
	}
}

// A certificate that is renewed between two reads still comes as one pair.
func TestRenewalBetweenReads(t *testing.T) {
	for i := range 20 { // which half is read first is up to the scheduler
		s := newStage(t)
		var once sync.Once
		s.after = func(ref vault.Reference) {
			if ref.Kind == vault.KindCertificate {
				once.Do(func() { putCertificate(t, s.vault, "tls") })
			}
		}
		got := s.ask(t, "good", []string{"app", "pair"}[i%2])
		err := got.pair("tls@azurekeyvault?tls.crt", "tls@azurekeyvault?tls.key")
		if i%2 == 1 {
			err = got.pair("tls@azurekeyvault", "tls@azurekeyvault?raw")
		}
		if err != nil {
			t.Fatalf("%d: status %d, certificate and key: %v", i, got.status, err)
		}
	}
}

// A panic ends a request, not the process, and shows nobody its value.
func TestPanic(t *testing.T) {
	s := newStage(t)
	s.fail["Pod"] = panicking{}
	if got := s.ask(t, "good", "app"); got.status != http.StatusInternalServerError || got.failure.Retry {
		t.Errorf("status %d, %+v", got.status, got.failure)
	}
	delete(s.fail, "Pod")
	if got := s.ask(t, "good", "app"); got.status != http.StatusOK {
		t.Errorf("afterwards: status %d", got.status)
	}
	if s.count(t, "failed") != 1 || !strings.Contains(s.log.String(), `"stack"`) {
		t.Errorf("log %s", s.log)
	}
}

// panicking is an error that nobody can look at.
type panicking struct{}

func (panicking) Error() string { panic(canary) }
func (panicking) Is(error) bool { panic(canary) }

// A broker that has too many requests at once says so instead of falling over.
func TestTooManyRequests(t *testing.T) {
	s := newStage(t)
	s.broker.Unlimited()
	const atOnce = 512
	entered, release := make(chan struct{}, atOnce), make(chan struct{})
	s.after = func(vault.Reference) { entered <- struct{}{}; <-release }
	var all sync.WaitGroup
	for range atOnce {
		all.Go(func() {
			if got := s.ask(t, "good", "init"); got.status != http.StatusOK {
				t.Errorf("status %d", got.status)
			}
		})
	}
	for range atOnce {
		<-entered
	}
	if got := s.ask(t, "good", "init"); got.status != http.StatusServiceUnavailable || !got.failure.Retry {
		t.Errorf("status %d, %+v", got.status, got.failure)
	}
	close(release)
	all.Wait()
}

// Who names very many AzureKeyVaultSecrets that are not in memory costs the API server
// one request.
func TestManyUnknownSecretsCostOneList(t *testing.T) {
	s := newStage(t)
	got := s.ask(t, "good", "hopeful")
	if d := cmp.Diff(map[string]string{"late@azurekeyvault": canary + "=db"}, got.values); d != "" || len(got.absent) != 50 {
		t.Errorf("status %d, %d absent, -want +got\n%s", got.status, len(got.absent), d)
	}
	if n := s.lists.Load(); n != 1 {
		t.Errorf("%d lists", n)
	}
	s.fail["AzureKeyVaultSecretList"] = errBoom
	if got := s.ask(t, "good", "hopeful"); got.status != http.StatusServiceUnavailable {
		t.Errorf("without an answer: status %d", got.status)
	}
	if got := s.ask(t, "good", "late"); got.status != http.StatusOK || s.lists.Load() != 2 {
		t.Errorf("one alone: status %d, %d lists", got.status, s.lists.Load())
	}
}

func TestAnswersThatNobodyCouldHold(t *testing.T) {
	s := newStage(t)
	if got := s.ask(t, "good", "large"); got.status != http.StatusOK || len(got.values["large@azurekeyvault"]) != 3<<20 {
		t.Errorf("status %d, %+v", got.status, got.failure)
	}
	got := s.ask(t, "good", "huge")
	if got.status != http.StatusUnprocessableEntity || !strings.Contains(got.failure.Message, "together they have more than 4096 KiB") {
		t.Errorf("status %d, %+v", got.status, got.failure)
	}
}

// What is granted can be read at the other end, however many files share it.
func TestManySmallFiles(t *testing.T) {
	t.Parallel()
	files := map[string]secret.Value{}
	for i := range grant.MaxBytes / 64 { // more than could be granted
		files[fmt.Sprintf("%07d", i)] = secret.New([]byte{byte(i)})
	}
	status, size := broker.Granted(grant.Values{Directories: map[string]map[string]secret.Value{"many@azurekeyvault;directory": files}})
	if status != http.StatusOK || size > brokerapi.MaxResponseBytes {
		t.Errorf("status %d, %d bytes", status, size)
	}
}

// stuck is a client that does not read, until it is released.
type stuck struct {
	http.ResponseWriter

	entered, release chan struct{}
}

func (w stuck) Write(p []byte) (int, error) {
	w.entered <- struct{}{}
	<-w.release
	return len(p), nil
}

// Large answers that nobody reads use up what is kept for large ones, and no more.
func TestLargeAnswersShareMemory(t *testing.T) {
	s := newStage(t)
	const fit = 7 // of 4 MiB and a few bytes in 32 MiB
	w := stuck{entered: make(chan struct{}, fit), release: make(chan struct{})}
	ask := func(w http.ResponseWriter) {
		r := httptest.NewRequest(http.MethodPost, brokerapi.ValuesPath, strings.NewReader(`{"container":"large"}`))
		r.Header.Set("Authorization", "Bearer "+token("good"))
		s.handler.ServeHTTP(w, r)
	}
	var all sync.WaitGroup
	for range fit {
		all.Go(func() { ask(stuck{httptest.NewRecorder(), w.entered, w.release}) })
	}
	for range fit {
		<-w.entered
	}
	if got := s.ask(t, "good", "large"); got.status != http.StatusServiceUnavailable || !got.failure.Retry {
		t.Errorf("one more: status %d", got.status)
	}
	if got := s.ask(t, "good", "app"); got.status != http.StatusOK {
		t.Errorf("a small one: status %d", got.status)
	}
	close(w.release)
	all.Wait()
	if got := s.ask(t, "good", "large"); got.status != http.StatusOK {
		t.Errorf("afterwards: status %d", got.status)
	}
}

// Pods with very much text cannot hold the broker's memory while a vault is slow.
func TestLargeEnvironmentsShareMemory(t *testing.T) {
	s := newStage(t, func(p *corev1.Pod) { // with more than an API server would keep
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "wordy", Env: env("A", strings.Repeat("x", 5<<20)+"<db@azurekeyvault>")})
	})
	const fit = 6 // of 5 MiB in 32 MiB
	entered, release := make(chan struct{}, fit), make(chan struct{})
	s.after = func(vault.Reference) { entered <- struct{}{}; <-release }
	var all sync.WaitGroup
	for range fit {
		all.Go(func() {
			if got := s.ask(t, "good", "wordy"); got.status != http.StatusOK {
				t.Errorf("status %d", got.status)
			}
		})
	}
	for range fit {
		<-entered
	}
	if got := s.ask(t, "good", "wordy"); got.status != http.StatusServiceUnavailable || !got.failure.Retry {
		t.Errorf("one more: status %d", got.status)
	}
	close(release)
	all.Wait()
	s.after = nil
	if got := s.ask(t, "good", "wordy"); got.status != http.StatusOK {
		t.Errorf("afterwards: status %d", got.status)
	}
}

// trickle is a body that does not come.
type trickle struct{ entered, release chan struct{} }

func (b trickle) Read([]byte) (int, error) {
	b.entered <- struct{}{}
	<-b.release
	return 0, io.ErrUnexpectedEOF
}

// Whoever begins many requests and never finishes them keeps nobody out: that
// takes no valid token.
func TestUnfinishedRequestsKeepNobodyOut(t *testing.T) {
	s := newStage(t)
	const many = 512 // as many as are served at once
	body := trickle{entered: make(chan struct{}, many), release: make(chan struct{})}
	var all sync.WaitGroup
	for range many {
		all.Go(func() {
			r := httptest.NewRequest(http.MethodPost, brokerapi.ValuesPath, body)
			r.Header.Set("Authorization", "Bearer none")
			s.handler.ServeHTTP(httptest.NewRecorder(), r)
		})
	}
	for range many {
		<-body.entered
	}
	if got := s.ask(t, "good", "init"); got.status != http.StatusOK {
		t.Errorf("status %d, %+v", got.status, got.failure)
	}
	close(body.release)
	all.Wait()
}

func TestUnknownPath(t *testing.T) {
	s := newStage(t)
	resp, err := s.Client().Get(s.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("status %d", resp.StatusCode)
	}
}
