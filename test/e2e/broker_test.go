// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/test/harness"
)

var brokerStories = []tale{
	{"OnlyThePodItself", onlyThePodItself},
	{"OnlyInItsNamespace", onlyInItsNamespace},
	{"OnlyWhileThePodLives", onlyWhileThePodLives},
	{"OnlyWhatItServes", onlyWhatItServes},
}

var brokerHost = harness.Release + "-broker." + harness.Namespace + ".svc"

// An answer of the broker.
type answer struct {
	status string
	body   string
}

// ask sends a request as a wrapper does. What comes back as a refusal is kept for
// the last story.
func (s *story) ask(token, body string, more ...string) answer {
	s.Helper()
	dir := s.TempDir()
	ca := filepath.Join(dir, "ca.crt")
	bundle := s.kubectl("get", "mutatingwebhookconfiguration", harness.Release+"-env-injector", "-o", "jsonpath={.webhooks[0].clientConfig.caBundle}")
	s.ok(os.WriteFile(ca, []byte(decoded(s, bundle)), 0o600))
	// Through files, so that neither token nor value is in anybody's arguments.
	header := filepath.Join(dir, "header")
	line := ""
	if token != "" {
		line = "Authorization: Bearer " + token
	}
	s.ok(os.WriteFile(header, []byte(line), 0o600))
	args := append([]string{
		"-sS", "--max-time", "40", "--cacert", ca, "-H", "@" + header, "-H", "Content-Type: application/json",
		"--data-binary", "@-", "-w", "\n%{http_code}", "https://" + brokerHost + ":9443" + brokerapi.ValuesPath,
	}, more...)
	text, err := the.Run(s.Context(), body, "curl", args...)
	s.ok(err)
	at := strings.LastIndexByte(text, '\n')
	a := answer{status: text[at+1:], body: text[:at]}
	if a.status != "200" {
		s.keep("broker.txt", a.status+" "+a.body)
	}
	return a
}

// brokers are the addresses of the broker's pods, of which there are two.
func (s *story) brokers() []string {
	s.Helper()
	found := strings.Fields(s.product("get", "pods", "-l", "app.kubernetes.io/component=broker", "-o", "jsonpath={.items[*].status.podIP}"))
	if len(found) != 2 {
		s.Fatalf("brokers at %q", found)
	}
	return found
}

// askAt asks one of them.
func (s *story) askAt(address, token, body string) answer {
	s.Helper()
	return s.ask(token, body, "--connect-to", brokerHost+":9443:"+address+":9443")
}

func decoded(s *story, text string) string {
	s.Helper()
	var out []byte
	s.ok(json.Unmarshal([]byte(`"`+text+`"`), &out))
	return string(out)
}

// refusedWith checks the status and that the refusal is one clear message.
func (s *story) refusedWith(what string, a answer, statuses ...string) {
	s.Helper()
	var said brokerapi.Failure
	if !slices.Contains(statuses, a.status) || json.Unmarshal([]byte(a.body), &said) != nil {
		s.Errorf("%s: %s with %d bytes; want %s and why", what, a.status, len(a.body), statuses)
		return
	}
	s.oneClear(said.Message)
}

// token is a token of the pod for the broker, as the kubelet mounts it.
func (s *story) token(pod string, more ...string) string {
	s.Helper()
	if more == nil {
		more = []string{
			"--audience=" + brokerapi.Audience, "--bound-object-kind=Pod", "--bound-object-name=" + pod,
			"--bound-object-uid=" + s.kubectl("get", "pod", pod, "-o", "jsonpath={.metadata.uid}"),
		}
	}
	return strings.TrimSpace(s.kubectl(append([]string{"create", "token", "default"}, more...)...))
}

const forApp = `{"container":"app"}`

func onlyThePodItself(s *story) {
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	s.running(pod(usual))
	s.apply(strings.Replace(pod(strings.Replace(usual, "it@azurekeyvault", "plain", 1)), "name: app}", "name: other}", 1))
	s.wait("condition=Ready", "pod/other")

	token := s.token("app")
	for _, at := range append(s.brokers(), s.brokers()...) { // in turn: they share nothing, and one answer is like another
		own := s.askAt(at, token, forApp)
		var said brokerapi.Response
		if own.status != "200" || json.Unmarshal([]byte(own.body), &said) != nil || string(said.Values["it@azurekeyvault"]) != value {
			s.Fatalf("the pod's own token does not get its value: %s", own.status)
		}
	}
	// Another pod's token is about that pod alone, whatever is asked for.
	if other := s.ask(s.token("other"), forApp); other.status != "200" || strings.Contains(other.body, "it@azurekeyvault") {
		s.Errorf("the other pod's token: %s", other.status)
	}
	s.refusedWith("a container of no such name", s.ask(s.token("app"), `{"container":"nobody"}`), "403")

	uid := s.kubectl("get", "pod", "app", "-o", "jsonpath={.metadata.uid}")
	bound := []string{"--bound-object-kind=Pod", "--bound-object-name=app", "--bound-object-uid=" + uid}
	s.refusedWith("no token", s.ask("", forApp), "401")
	s.refusedWith("not a token", s.ask("abc", forApp), "401")
	s.refusedWith("a token for the API server", s.ask(s.token("app", bound...), forApp), "401")
	s.refusedWith("a token for somebody else", s.ask(s.token("app", append(bound, "--audience=somebody-else")...), forApp), "401")
	s.refusedWith("a token of no pod", s.ask(s.token("app", "--audience="+brokerapi.Audience), forApp), "401")
	broken := s.token("app")
	s.refusedWith("a forged token", s.ask(broken[:len(broken)-8]+"AAAAAAAA", forApp), "401")
}

// onlyInItsNamespace: the same pod elsewhere means another AzureKeyVaultSecret,
// which nobody made there.
func onlyInItsNamespace(s *story) {
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	elsewhere := newStory(s.T)
	elsewhere.apply(pod(usual))
	elsewhere.eventually("the pod should exist on the node", func() error {
		_, err := elsewhere.try("", "wait", "--for=condition=PodScheduled", "pod/app", "--timeout=5s")
		return err
	})
	a := elsewhere.ask(elsewhere.token("app"), forApp)
	s.refusedWith("a pod of another namespace", a, "422")
	if !strings.Contains(a.body, v2beta1.ReasonUnknownSecret) || strings.Contains(a.body, value) {
		s.Error("the refusal is not about an unknown AzureKeyVaultSecret")
	}
}

func onlyWhileThePodLives(s *story) {
	s.secret("it")
	s.akvs("it", "secret", "it", "")
	s.running(pod(usual))
	token := s.token("app")
	if a := s.ask(token, forApp); a.status != "200" {
		s.Fatalf("while the pod lives: %s", a.status)
	}
	s.kubectl("delete", "pod", "app", "--now")
	// The API server remembers for some seconds that the token was good; the
	// broker asks for the pod as well.
	s.refusedWith("a deleted pod's token", s.ask(token, forApp), "401", "403")
	s.running(pod(usual))
	s.refusedWith("the token of an earlier pod of this name", s.ask(token, forApp), "401", "403")

	s.apply(strings.Replace(doomed("done", "it@azurekeyvault"), "[/app, report]", "[/app, exit, '0']", 1))
	s.wait("jsonpath={.status.phase}=Succeeded", "pod/done")
	s.refusedWith("the token of a pod that has ended", s.ask(s.token("done"), forApp), "403")
}

func onlyWhatItServes(s *story) {
	s.running(pod(strings.Replace(usual, "it@azurekeyvault", "plain", 1)))
	token := s.token("app")
	s.refusedWith("no JSON", s.ask(token, "container=app"), "400")
	s.refusedWith("no name", s.ask(token, `{"container":"../app"}`), "400")
	s.refusedWith("too much", s.ask(token, `{"container":"`+strings.Repeat("a", brokerapi.MaxRequestBytes)+`"}`), "413")
	if a := s.ask(token, forApp, "-X", "GET"); a.status != "405" {
		s.Errorf("GET: %s", a.status)
	}
	if _, err := the.Run(s.Context(), "", "curl", "-sS", "-k", "--tls-max", "1.2", "https://"+brokerHost+":9443/"); err == nil {
		s.Error("TLS 1.2 is spoken")
	}
	text, err := the.Run(s.Context(), "", "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", "http://"+brokerHost+":8080"+brokerapi.ValuesPath)
	if err != nil || text != "404" {
		s.Errorf("values over plain HTTP: %s %v", text, err)
	}
}
