// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/akv2k8s/akv2k8s/test/harness"
)

// A story is one test, with a namespace of its own whose pods are injected.
type story struct {
	*testing.T

	ns string
	// reach says where the values of this story may be found: in Secrets, and so
	// in etcd, where the Controller writes them there.
	reach reach
}

// boundary is between two words of a name: aB, and ABc before the B.
var boundary = regexp.MustCompile(`([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])`)

// newStory makes the namespace and, in the end, keeps what the story leaves
// behind. Nobody waits for the namespace to go.
func newStory(t *testing.T) *story {
	t.Helper()
	parts := strings.Split(t.Name(), "/")
	words := strings.Join(parts[max(1, len(parts)-2):], "-")
	s := &story{T: t, ns: strings.ToLower(boundary.ReplaceAllString(words, "$1$3-$2$4")), reach: inProcess}
	s.ns = fmt.Sprintf("%.50s-%04x", s.ns, rand.N(1<<16)) // a namespace of an earlier run may still be there
	_, err := s.try(`
apiVersion: v1
kind: Namespace
metadata:
  name: `+s.ns+`
  labels: {`+optInLabel+`: enabled, `+storyLabel+`: ""}`, "create", "-f", "-")
	s.ok(err)
	s.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=30s")
	t.Cleanup(s.leave)
	return s
}

// keep keeps a text for the last story to search.
func (s *story) keep(file, text string) {
	s.Helper()
	dir := filepath.Join(the.evidence, s.ns)
	s.ok(os.MkdirAll(dir, 0o700))
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	s.ok(err)
	_, err = fmt.Fprintln(f, text)
	s.ok(err)
	s.ok(f.Close())
}

// leave runs after the test's own context has ended.
func (s *story) leave() {
	dir := filepath.Join(the.evidence, s.ns)
	_ = os.MkdirAll(dir, 0o700)
	linkPodLogs()
	ctx := s.afterwards()
	text, err := the.Kubectl(ctx, "", "-n", s.ns, "get", "pods,akvs,events", "-o", "yaml")
	if err != nil {
		s.Errorf("keeping pods, akvs and events: %v", err)
	}
	_ = os.WriteFile(filepath.Join(dir, "objects.yaml"), []byte(text), 0o600)
	if s.Failed() {
		s.explain()
		return // and leave it for a person to look at
	}
	_, _ = the.Kubectl(ctx, "", "delete", "namespace", s.ns, "--wait=false")
}

// explain logs what a person would look at first.
func (s *story) explain() {
	for _, args := range [][]string{
		{"get", "akvs", "-o", "wide"},
		{"get", "pods"},
		{"get", "events", "--sort-by=.metadata.creationTimestamp", "-o", "custom-columns=TYPE:.type,REASON:.reason,OBJECT:.involvedObject.name,MESSAGE:.message"},
	} {
		text, _ := the.Kubectl(s.afterwards(), "", append([]string{"-n", s.ns}, args...)...)
		s.Logf("kubectl -n %s %s\n%s", s.ns, strings.Join(args[:2], " "), text)
	}
}

// try runs kubectl in the story's namespace.
func (s *story) try(input string, args ...string) (string, error) {
	return the.Kubectl(s.Context(), input, append([]string{"-n", s.ns}, args...)...)
}

func (s *story) kubectl(args ...string) string {
	s.Helper()
	text, err := s.try("", args...)
	if err != nil {
		s.Fatalf("kubectl %s: %v", strings.Join(args, " "), err)
	}
	return text
}

func (s *story) apply(manifest string) {
	s.Helper()
	if _, err := s.try(manifest, "apply", "-f", "-"); err != nil {
		s.Fatalf("kubectl apply: %v", err)
	}
}

// applyFails returns what kubectl says.
func (s *story) applyFails(manifest string) string {
	s.Helper()
	_, err := s.try(manifest, "apply", "-f", "-")
	if err == nil {
		s.Fatal("kubectl apply was expected to fail, and did not")
	}
	s.keep("kubectl.txt", err.Error())
	return err.Error()
}

func (s *story) wait(what string, objects ...string) {
	s.Helper()
	s.kubectl(append([]string{"wait", "--for=" + what, "--timeout=" + patience.String()}, objects...)...)
}

// eventually tries until there is no error, more and more rarely: eight stories that
// ask all the time would keep the machine from doing what they wait for.
func (s *story) eventually(what string, try func() error) {
	s.Helper()
	deadline := time.Now().Add(patience)
	for pause := 250 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.Fatalf("%s: %v", what, err)
		}
		time.Sleep(pause)
	}
}

// ok ends the story on an error of what merely prepares something.
func (s *story) ok(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// object is the story's own name for an object of the vault.
func (s *story) object(name string) string { return s.ns + "-" + name }

// secret puts a fresh value into the vault.
func (s *story) secret(name string) string {
	s.Helper()
	value := the.planted.draw(s.reach, 40)
	s.setSecret(name, value)
	return value
}

func (s *story) setSecret(name, value string) {
	s.Helper()
	s.ok(the.Vault().SetSecret(s.Context(), vaultName, s.object(name), harness.Secret{Value: value}))
}

// certificate makes a certificate in the vault.
func (s *story) certificate(name string, spec harness.CertificateSpec) harness.Certificate {
	s.Helper()
	s.ok(the.Vault().MakeCertificate(s.Context(), vaultName, s.object(name), spec))
	return s.held(name)
}

func (s *story) rotate(name string) harness.Certificate {
	s.Helper()
	s.ok(the.Vault().Rotate(s.Context(), vaultName, s.object(name)))
	return s.held(name)
}

// held is the certificate as the vault holds it now.
func (s *story) held(name string) harness.Certificate {
	s.Helper()
	held, err := the.Vault().Certificate(s.Context(), vaultName, s.object(name))
	s.ok(err)
	s.ok(the.planted.certificate(s.reach, held))
	return held
}

// faults are those in force, of all stories: a vault takes them all at once.
type faults struct {
	mu  sync.Mutex
	all map[string]harness.Fault // by object
}

// misbehave makes the vault fail for one of the story's objects, until the
// returned function is called.
func (s *story) misbehave(kindAndName string, fault harness.Fault) func() {
	s.Helper()
	kind, name, _ := strings.Cut(kindAndName, "/")
	key := kind + "/" + s.object(name)
	fault.Objects = []string{key}
	set := func(change func()) {
		the.faults.mu.Lock()
		defer the.faults.mu.Unlock()
		if the.faults.all == nil {
			the.faults.all = map[string]harness.Fault{}
		}
		change()
		var list []harness.Fault
		for _, f := range the.faults.all {
			list = append(list, f)
		}
		if err := the.Vault().Misbehave(s.afterwards(), vaultName, list); err != nil {
			s.Errorf("changing the vault's faults: %v", err)
		}
	}
	set(func() { the.faults.all[key] = fault })
	once := sync.OnceFunc(func() { set(func() { delete(the.faults.all, key) }) })
	s.Cleanup(once)
	return once
}

// akvs applies an AzureKeyVaultSecret; output is its YAML in one line, or empty.
func (s *story) akvs(name, kind, object, output string) {
	s.Helper()
	s.apply(s.akvsYAML(name, kind, object, output))
}

func (s *story) akvsYAML(name, kind, object, output string) string {
	manifest := fmt.Sprintf(`
apiVersion: spv.no/v2beta1
kind: AzureKeyVaultSecret
metadata: {name: %s}
spec:
  vault:
    name: %s
    object: {type: %s, name: %s}
`, name, vaultName, kind, s.object(object))
	if output != "" {
		manifest += "  output: " + output + "\n"
	}
	return manifest
}

// opaque is an output to a Secret of that name, key "value".
func opaque(name string) string { return "{secret: {name: " + name + ", dataKey: value}}" }

func tlsOutput(name string) string {
	return "{secret: {name: " + name + ", type: kubernetes.io/tls, chainOrder: ensureserverfirst}}"
}

// an output Secret.
type output struct {
	Metadata struct {
		UID             string `json:"uid"`
		ResourceVersion string `json:"resourceVersion"`
	} `json:"metadata"`
	Type string            `json:"type"`
	Data map[string][]byte `json:"data"`
}

func (s *story) output(name string) output {
	s.Helper()
	var out output
	s.ok(json.Unmarshal([]byte(s.kubectl("get", "secret", name, "-o", "json")), &out))
	return out
}

// becomes waits until a key of a Secret has this value.
func (s *story) becomes(name, key, want string) output {
	s.Helper()
	var out output
	s.eventually("Secret "+name+" should hold the vault's value under "+key, func() error {
		text, err := s.try("", "get", "secret", name, "-o", "json")
		if err != nil {
			return err
		}
		out = output{}
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			return err
		}
		if string(out.Data[key]) != want {
			return fmt.Errorf("it holds %d other bytes", len(out.Data[key]))
		}
		return nil
	})
	return out
}

// says waits for a reason of the Ready condition of "it" and returns its message.
func (s *story) says(reason string) string {
	s.Helper()
	s.wait(`jsonpath={.status.conditions[?(@.type=="Ready")].reason}=`+reason, "akvs/it")
	return s.kubectl("get", "akvs", "it", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].message}`)
}

// notes are the messages of an object's events of one reason.
func (s *story) notes(object, reason string) []string {
	s.Helper()
	text := s.kubectl("get", "events", "--field-selector", "involvedObject.name="+object+",reason="+reason,
		"-o", `jsonpath={range .items[*]}{.message}{"\n"}{end}`)
	return strings.Split(strings.TrimRight(text, "\n"), "\n")
}

// What the emulator says, as Azure does, and nobody may repeat.
var remoteWords = []string{
	"was not found in this key vault", "innererror", "ForbiddenBy", "Caller is not authorized", "Caller:", "appid=", "oid=",
	"Operation get is not allowed", "AKV10", "AADSTS", "Trace ID", "Correlation ID", "RESPONSE 4", "RESPONSE 5",
	"https://", "dial tcp", "connection reset", "no such host", "EOF", "x509:",
}

// oneClear checks a text that a person reads: one short line with these words in
// it and nothing that came over the wire.
func (s *story) oneClear(text string, words ...string) {
	s.Helper()
	if text == "" || strings.Contains(strings.TrimSpace(text), "\n") {
		s.Errorf("not one line: %q", text)
	}
	for _, word := range words {
		if !strings.Contains(text, word) {
			s.Errorf("%q is missing in %q", word, text)
		}
	}
	for _, word := range remoteWords {
		if strings.Contains(text, word) {
			s.Errorf("%q, which came over the wire, is in %q", word, text)
		}
	}
}

// report is what the application tells; see test/e2e/app.
type report struct {
	Args         []string          `json:"args"`
	PID          int               `json:"pid"`
	UID          int               `json:"uid"`
	Dir          string            `json:"dir"`
	Digests      map[string]string `json:"digests"`
	Placeholders []string          `json:"placeholders"`
	Proc         []string          `json:"proc"`
	Writable     bool              `json:"writable"`
	CoreLimit    uint64            `json:"coreLimit"`
	Files        map[string]file   `json:"files"`
	Surroundings map[string]string `json:"surroundings"`
}

type file struct {
	SHA256 string `json:"sha256"`
	Mode   string `json:"mode"`
	UID    uint32 `json:"uid"`
}

// reported waits for the application's report in `kubectl logs`.
func (s *story) reported(pod, container string) report {
	s.Helper()
	var r report
	s.eventually("container "+container+" of "+pod+" should report", func() error {
		text, err := s.try("", "logs", pod, "-c", container)
		if err != nil {
			return err
		}
		for line := range strings.Lines(text) {
			if said, ok := strings.CutPrefix(line, "REPORT "); ok {
				return json.Unmarshal([]byte(said), &r)
			}
		}
		return fmt.Errorf("no report yet in %d bytes of log", len(text))
	})
	return r
}

// reports waits for the reports of all of a pod's containers, by container.
func (s *story) reports(pod string, want int) map[string]report {
	s.Helper()
	var found map[string]report
	s.eventually(fmt.Sprintf("%d containers of %s should report", want, pod), func() error {
		text, err := s.try("", "logs", pod, "--all-containers", "--prefix")
		found = map[string]report{}
		for line := range strings.Lines(text) {
			prefix, said, ok := strings.Cut(line, " REPORT ")
			if !ok {
				continue
			}
			var r report
			if err := json.Unmarshal([]byte(said), &r); err != nil {
				return err
			}
			found[strings.TrimSuffix(prefix[strings.LastIndexByte(prefix, '/')+1:], "]")] = r
		}
		if len(found) < want {
			return errors.Join(err, fmt.Errorf("%d have", len(found)))
		}
		return nil
	})
	return found
}

// got checks that the application has exactly these values, and nothing of the
// wrapper's.
func (s *story) got(r report, values map[string]string) {
	s.Helper()
	for name, value := range values {
		if r.Digests[name] != digest(value) {
			s.Errorf("%s in the application is not what the vault holds", name)
		}
	}
	if len(r.Placeholders) > 0 {
		s.Errorf("the application sees placeholders in %q", r.Placeholders)
	}
	for _, name := range slices.Concat(r.Proc, keys(r.Digests)) {
		if strings.HasPrefix(name, "ENV_INJECTOR_") {
			s.Errorf("the application sees %s", name)
		}
	}
	if r.PID != 1 {
		s.Errorf("the application runs as process %d", r.PID)
	}
	if r.CoreLimit != 0 {
		s.Errorf("the application may dump its memory: the limit is %d", r.CoreLimit)
	}
}

func digest(value string) string {
	sum := sha256.Sum256([]byte(value))
	return hex.EncodeToString(sum[:])
}

func keys(m map[string]string) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	return out
}
