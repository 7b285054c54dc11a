// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/akv2k8s/akv2k8s/test/harness"
)

// The last stories: after everything else has run, at the highest log level, no
// value is where it should not be.
var canaryStories = []tale{
	{"TheSearchFindsEveryForm", theSearchFindsEveryForm},
	{"TheSearchFindsWhatIsThere", theSearchFindsWhatIsThere},
	{"NoValueIsWrittenAnywhere", noValueIsWrittenAnywhere},
	{"EtcdHoldsNoInjectedValue", etcdHoldsNoInjectedValue},
}

// A sample is a value with everything in it that is written differently somewhere.
func sample(g *garden, r reach) []byte {
	one, two := g.draw(r, 24), g.draw(r, 24)
	return []byte(one + "=\n\"ü/+" + two)
}

func theSearchFindsEveryForm(s *story) {
	g := &garden{}
	part := sample(g, inProcess)
	// Numbers of a key are bytes of any kind, which JSON writes as any other text's.
	g.plant(plant{name: "a sample", parts: [][]byte{part, []byte("\xff\xfe\xff&&<>\x00\x01")}})
	d := newDetector(g.all())
	noise := strings.Repeat("level=DEBUG msg=\"nothing to see\" uid=0c4ba9d1-5d0e-4a6c-8a6b-1f3f5f0c2a11\n", 50) +
		`{"rule": "a \u0026\u0026 b \u003c\u003e", "text": "\ufffd\ufffd\ufffd\u0000\u0001"}`
	if found := d.in([]byte(noise)); found != "" {
		s.Errorf("found in noise: %s", found)
	}
	for form, texts := range forms(part) {
		for i, text := range texts {
			if d.in([]byte(noise+text+noise)) == "" {
				s.Errorf("not found %s (%d)", form, i)
			}
		}
	}
	for i := 0; i+window <= len(part); i++ {
		if d.in([]byte(noise+string(part[i:i+window])+noise)) == "" {
			s.Errorf("not found: the twelve bytes from %d on", i)
		}
	}
	s.keysAreFound(g)
}

// keysAreFound checks the forms of a private key with a certificate of the vault.
func (s *story) keysAreFound(g *garden) {
	s.Helper()
	for name, spec := range certificateKinds {
		held := s.certificate(name, spec)
		s.ok(g.certificate(inProcess, held))
		key, err := privatePEM(held)
		s.ok(err)
		d := newDetector(g.all())
		for form, text := range map[string]string{"PKCS #8": held.KeyPEM, "own format": key, "as the vault has it": held.SecretValue} {
			if d.in([]byte(text)) == "" {
				s.Errorf("%s: key not found as %s", name, form)
			}
		}
		if found := d.in([]byte(held.ChainPEM)); found != "" {
			s.Errorf("%s: found in what is public: %s", name, found)
		}
	}
}

// theSearchFindsWhatIsThere plants a value where none should be: the search of
// the real places must find it in each.
func theSearchFindsWhatIsThere(s *story) {
	g := &garden{} // not the one that the other searches use
	value := g.draw(inProcess, 40)
	s.apply(`
apiVersion: v1
kind: ConfigMap
metadata: {name: decoy}
data: {value: ` + value + `}
---
apiVersion: v1
kind: Secret
metadata: {name: decoy}
stringData: {value: ` + value + `}
---
apiVersion: v1
kind: Pod
metadata: {name: decoy}
spec:
  restartPolicy: Never
  containers:
  - name: decoy
    image: ` + shellImage + `
    command: [sh, -c, 'echo $VALUE; echo $VALUE >/written; echo $VALUE >/scratch/written; echo $VALUE >/memory/written;` + crash + `; exec sleep 3600']
    env: [{name: VALUE, value: ` + value + `}]
    workingDir: /tmp
    volumeMounts: [{name: scratch, mountPath: /scratch}, {name: memory, mountPath: /memory}, {name: map, mountPath: /map}]
  volumes:
  - {name: scratch, emptyDir: {}}
  - {name: memory, emptyDir: {medium: Memory}}
  - {name: map, configMap: {name: decoy}}`)
	s.eventually("the decoy should have crashed", func() error {
		text, err := s.try("", "logs", "decoy")
		if err == nil && !strings.Contains(text, crashed) {
			err = fmt.Errorf("%d bytes of log", len(text))
		}
		return err
	})
	linkPodLogs()
	linkConfigs()
	d := newDetector(g.all())
	at := map[string]string{
		"object Pod ": "", "object ConfigMap ": "", "object Secret ": "", "logs of pods": "", harness.EtcdDir: "",
		"/fs/tmp/core": "", "/fs/written": "", "~empty-dir/scratch/": "", "~configmap/": "",
		"/config.json": "", "/meta.db": "", keptConfigs: "",
		"~empty-dir/memory/": "-", // where values may be
	}
	see := func(h hay) {
		for place := range at {
			if strings.Contains(h.name, place) && d.in(h.data) != "" {
				at[place] += h.name
			}
		}
	}
	for _, h := range slices.Concat(objects(s), named("logs of pods", files(s, keptLogs)), files(s, harness.EtcdDir)) {
		see(h)
	}
	for _, dir := range nodeDirs {
		s.ok(onNode(dir, see))
	}
	for place, found := range at {
		if found == "" {
			s.Errorf("the value in %s is not found", place)
		}
		if strings.HasPrefix(found, "-") && found != "-" {
			s.Errorf("found in %s, which is not searched: %s", place, found)
		}
	}
}

// crash leaves a core file, where it may, with the environment in it. The first
// process of a container cannot do it: it would not hear its own signal.
const (
	crash   = ` ulimit -c unlimited; sh -c "kill -SEGV \$\$"; echo ` + crashed
	crashed = "has-crashed"
)

// named gives all one name before their own.
func named(place string, stack []hay) []hay {
	for i := range stack {
		stack[i].name = place + " " + stack[i].name
	}
	return stack
}

// hay is one thing to search.
type hay struct {
	name string
	data []byte
}

func files(s *story, dir string) []hay {
	s.Helper()
	var out []hay
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		out = append(out, hay{path, data})
		return err
	})
	if err != nil || len(out) == 0 {
		s.Fatalf("%s: %d files, %v", dir, len(out), err)
	}
	return out
}

var (
	itemBegins = regexp.MustCompile(`(?m)^- apiVersion: .*\n`)
	itemNames  = regexp.MustCompile(`(?m)^  (?:kind|  namespace|  name): (.*)$`)
)

// objects are all of every kind that the API server knows, each as `kubectl get -o yaml`
// shows it.
func objects(s *story) []hay {
	s.Helper()
	kinds := strings.Fields(s.kubectl("api-resources", "--verbs=list", "-o", "name"))
	if len(kinds) < 50 {
		s.Fatalf("only %d kinds of objects: %q", len(kinds), kinds)
	}
	var out []hay
	for _, item := range itemBegins.Split(s.kubectl("get", strings.Join(kinds, ","), "-A", "-o", "yaml", "--show-managed-fields"), -1)[1:] {
		name := "object"
		for _, m := range itemNames.FindAllStringSubmatch(item, -1) {
			name += " " + m[1]
		}
		out = append(out, hay{name, []byte(item)})
	}
	return out
}

// everything is all that is written anywhere, but for Secrets, etcd and the node.
func everything(s *story) []hay {
	s.Helper()
	linkPodLogs()
	out := slices.Concat(files(s, keptLogs), files(s, the.evidence))
	logs, err := filepath.Glob(harness.LogDir + "/*.log")
	s.ok(err)
	for _, path := range logs {
		data, err := os.ReadFile(path)
		s.ok(err)
		out = append(out, hay{path, data})
	}
	for _, h := range objects(s) {
		if !strings.Contains(h.name, " Secret ") { // with outputs
			out = append(out, h)
		}
	}
	return append(out, metrics(s)...)
}

// metrics are those of every pod of the product.
func metrics(s *story) []hay {
	s.Helper()
	var out []hay
	for component, port := range map[string]string{"controller": "9000", "env-injector": "8080", "broker": "8080"} {
		pods := podsOf(s, component)
		if len(pods) == 0 {
			s.Errorf("%s has no pods", component)
		}
		for _, pod := range pods {
			path := fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:%s/proxy/metrics", harness.Namespace, pod, port)
			out = append(out, hay{"metrics of " + pod, []byte(s.kubectl("get", "--raw", path))})
		}
	}
	return out
}

func podsOf(s *story, component string) []string {
	s.Helper()
	return strings.Fields(s.kubectl("get", "pods", "-n", harness.Namespace, "-l", "app.kubernetes.io/component="+component,
		"--field-selector", "status.phase=Running", "-o", `jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}`))
}

// A token in three parts is as good as a value.
var bearer = regexp.MustCompile(`eyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}`)

// lively is a pod that is there while all is searched, with a value in every way. One
// of its programs crashes.
func (s *story) lively() {
	s.Helper()
	value, held := s.secret("it"), s.certificate("tls", certificateKinds["rsa-pfx"])
	s.akvs("it", "secret", "it", "")
	s.akvs("tls", "certificate", "tls", "")
	s.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: settings}, data: {URL: 'https://me:<it@azurekeyvault>@example/'}}")
	s.running(pod(`
    image: ` + appImage + `
    command: [/app, report]
    env:
    - {name: VALUE, value: it@azurekeyvault}
    - {name: KEY, value: 'tls@azurekeyvault?tls.key'}
    - {name: ENV_INJECTOR_LOG_LEVEL, value: debug}
    envFrom: [{configMapRef: {name: settings}}]
  - name: crashing
    image: ` + shellImage + `
    command: [sh, -c, '` + crash + `; exec sleep 3600']
    workingDir: /tmp
    env: [{name: VALUE, value: it@azurekeyvault}]
`))
	key, err := privatePEM(held)
	s.ok(err)
	s.got(s.reported("app", "app"), map[string]string{"VALUE": value, "URL": "https://me:" + value + "@example/", "KEY": key})
	s.eventually("a program should have crashed", func() error {
		text, err := s.try("", "logs", "app", "-c", "crashing")
		if err == nil && !strings.Contains(text, crashed) {
			err = fmt.Errorf("%d bytes of log", len(text))
		}
		return err
	})
}

func noValueIsWrittenAnywhere(s *story) {
	s.lively()
	the.planted.plant(plant{name: "the client secret", reach: inSecret, parts: [][]byte{[]byte(clientSecret)}})
	plants := the.planted.all()
	d := newDetector(plants)
	stack := everything(s)
	size := 0
	for _, h := range stack {
		size += len(h.data)
		if strings.Contains(h.name, "the-search-finds") || strings.Contains(h.name, "thesearchfinds") {
			continue
		}
		if found := d.in(h.data); found != "" {
			s.Errorf("%s: %s", h.name, found)
		}
		if bearer.Match(h.data) {
			s.Errorf("%s: holds a token", h.name)
		}
	}
	s.Logf("%d values, in %d places, %d MiB: nothing", len(plants), len(stack), size>>20)
	talkative(s, stack)
	s.searchNode()
}

// talkative checks that the processes really logged all that they can: silence
// would prove nothing.
func talkative(s *story, stack []hay) {
	s.Helper()
	for _, component := range []string{"controller", "env-injector", "broker"} {
		prefix := keptLogs + "/" + harness.Namespace + "_" + harness.Release + "-" + component
		if !slices.ContainsFunc(stack, func(h hay) bool {
			return strings.HasPrefix(h.name, prefix) && bytes.Contains(h.data, []byte("level=DEBUG"))
		}) {
			s.Errorf("no debug line of %s was kept", component)
		}
	}
	if !slices.ContainsFunc(stack, func(h hay) bool {
		return strings.HasPrefix(h.name, keptLogs) && bytes.Contains(h.data, []byte(`"level":"DEBUG"`))
	}) {
		s.Error("no debug line of the wrapper was kept")
	}
}

// searchNode: neither configs of containers, that is what the runtime was told, nor
// core files, nor anything else on a disk holds what was injected alone.
func (s *story) searchNode() {
	s.Helper()
	linkConfigs()
	if files := s.kubectl("exec", "app", "-c", "crashing", "--", "ls", "/tmp"); strings.Contains(files, "core") {
		s.Errorf("a crash left %s", files)
	}
	injected := slices.DeleteFunc(the.planted.all(), func(p plant) bool { return p.reach != inProcess })
	d := newDetector(injected)
	configs := 0
	for what, dir := range nodeDirs {
		files, size := 0, 0
		s.ok(onNode(dir, func(h hay) {
			files, size = files+1, size+len(h.data)
			if found := d.in(h.data); found != "" {
				s.Errorf("%s: %s", h.name, found)
			}
			if strings.HasPrefix(h.name, keptConfigs) && bytes.Contains(h.data, []byte("it@azurekeyvault")) {
				configs++
			}
		}))
		s.Logf("%s: %d files, %d MiB: nothing", what, files, size>>20)
	}
	s.Logf("of %d values; configs of %d containers with placeholders among them", len(injected), configs)
	if configs < 2 {
		s.Error("the containers' configs are not among what was searched: it proves nothing")
	}
}

func etcdHoldsNoInjectedValue(s *story) {
	var injected, written []plant
	for _, p := range the.planted.all() {
		if p.reach == inProcess {
			injected = append(injected, p)
		} else {
			written = append(written, p)
		}
	}
	stack := files(s, harness.EtcdDir)
	none, some := newDetector(injected), newDetector(written)
	found := false
	for _, h := range stack {
		if what := none.in(h.data); what != "" {
			s.Errorf("%s: %s", h.name, what)
		}
		found = found || some.in(h.data) != ""
	}
	if len(written) > 0 && !found {
		s.Error("the search does not find the Secrets' values in etcd either: it proves nothing")
	}
}
