// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
)

var wrapperStories = []tale{
	{"ContainersOfEverySort", containersOfEverySort},
	{"LastWords", lastWords},
}

// A containerSort is what makes one sort differ: lines of its own and variables. What an application says to
// proxies and to its own Go is not for the wrapper.
type containerSort struct {
	lines   []string
	environ map[string]string
}

var sorts = map[string]containerSort{
	"root":     {lines: []string{"securityContext: {runAsUser: 0}"}},
	"group":    {lines: []string{"securityContext: {runAsUser: 1000, runAsGroup: 3000}"}},
	"nobody":   {lines: []string{"securityContext: {runAsUser: 65534, allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}"}},
	"unknown":  {lines: []string{"securityContext: {runAsUser: 1234567890}"}}, // in no passwd
	"small":    {lines: []string{"resources: {limits: {cpu: 10m, memory: 32Mi}}"}},
	"terminal": {lines: []string{"stdin: true", "tty: true"}},
	"dumping":  {lines: []string{"securityContext: {runAsUser: 1000}"}}, // its annotation lets it
	"go": {environ: map[string]string{
		"GODEBUG": "netdns=go+2,http2debug=2,tlsmaxrsasize=512,fips140=only", "GOMAXPROCS": "1", "GOGC": "1", "GOTRACEBACK": "crash", "LD_PRELOAD": "/nowhere",
	}},
	"proxy": {environ: map[string]string{
		"HTTP_PROXY": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1", "https_proxy": "http://127.0.0.1:1", "SSL_CERT_FILE": "/nowhere",
	}},
}

// everySort is a pod with a container of each, whose program is found along PATH, and
// in which no name is.
func everySort(name, annotations, value, path string) string {
	manifest := `
---
apiVersion: v1
kind: Pod
metadata: {name: ` + name + `, annotations: {` + annotations + `}}
spec:
  terminationGracePeriodSeconds: 5
  automountServiceAccountToken: false
  dnsPolicy: None
  dnsConfig: {nameservers: [192.0.2.1]}
  securityContext: {seccompProfile: {type: RuntimeDefault}}
  containers:
`
	for _, name := range slices.Sorted(maps.Keys(sorts)) {
		manifest += "  - name: " + name + "\n    image: " + appImage + "\n    command: [app, report]\n"
		for _, line := range sorts[name].lines {
			manifest += "    " + line + "\n"
		}
		manifest += "    env:\n    - {name: VALUE, value: " + value + "}\n    - {name: PATH, value: " + path + "}\n"
		for _, variable := range slices.Sorted(maps.Keys(sorts[name].environ)) {
			manifest += fmt.Sprintf("    - {name: %s, value: %q}\n", variable, sorts[name].environ[variable])
		}
	}
	return manifest
}

// surroundings are what a pod may say about all of its containers.
func (s *story) surroundings() map[string]string {
	s.Helper()
	pods := map[string]string{
		"host":   "  hostNetwork: true\n  dnsPolicy: ClusterFirstWithHostNet\n",
		"shared": "  shareProcessNamespace: true\n  dnsPolicy: Default\n",
	}
	can := s.kubectl("get", "nodes", "-o", "jsonpath={.items[*].status.runtimeHandlers[*].features.userNamespaces}")
	if strings.Contains(can, "true") {
		pods["apart"] = "  hostUsers: false\n"
	} else {
		s.Logf("no pod with hostUsers: false was tried: the node's runtime has no user namespaces (%q)", can)
	}
	return pods
}

// containersOfEverySort have their values, and find themselves as they would without
// the wrapper: as the containers of their twin do.
func containersOfEverySort(s *story) {
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	s.setSecret("path", "/nowhere:/")
	s.akvs("path", "secret", "path", "")
	manifests := everySort("app", "core-dumps.env-injector.spv.no/dumping: allow", "it@azurekeyvault", "path@azurekeyvault") + everySort("twin", "", "plain", "/")
	around := s.surroundings()
	for name, lines := range around {
		manifests += "\n---" + strings.Replace(pod(usual, lines), "name: app}", "name: "+name+"}", 1)
	}
	s.apply(manifests)
	all, twins := s.reports("app", len(sorts)), s.reports("twin", len(sorts))
	for name, sort := range sorts {
		values := maps.Clone(sort.environ)
		if values == nil {
			values = map[string]string{}
		}
		values["VALUE"], values["PATH"] = value, "/nowhere:/"
		s.alike(name, all[name], twins[name])
		r := all[name]
		r.CoreLimit = 0 // alike has seen to that
		s.got(r, values)
	}
	for name := range around {
		r := s.reported(name, "app")
		if name == "shared" {
			r.PID, r.Proc = 1, nil // the first process is another there
		}
		s.got(r, map[string]string{"VALUE": value})
	}
	if restarts := s.kubectl("get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}"); strings.Trim(restarts, "0 ") != "" {
		s.Errorf("containers were restarted: %s", restarts)
	}
}

// alike compares what a program inherits with and without the wrapper.
func (s *story) alike(container string, r, twin report) {
	s.Helper()
	const limit, filter = "limits Max core file size", "coredump_filter"
	want := maps.Clone(twin.Surroundings)
	if len(want) < 30 {
		s.Errorf("%s: only %d things are known of it", container, len(want))
	}
	if container != "dumping" {
		want[filter], want[limit] = "00000000", "Max core file size        0                    0                    bytes"
	}
	if d := cmp.Diff(want, r.Surroundings); d != "" {
		s.Errorf("%s: -without the wrapper +with it\n%s", container, d)
	}
	if !slices.Equal(r.Args, twin.Args) || r.Dir != twin.Dir || r.UID != twin.UID || r.Writable != twin.Writable {
		s.Errorf("%s: %+v is not as without the wrapper: %+v", container, r, twin)
	}
}

// lastWords of containers that do not start are where a person looks.
func lastWords(s *story) {
	big := the.planted.draw(s.reach, 24<<10)
	s.setSecret("big", big)
	s.akvs("big", "secret", "big", "")
	elsewhere := strings.Replace(doomed("elsewhere", "none@azurekeyvault"), "    env:\n", "    terminationMessagePath: /last-word\n    env:\n", 1)
	s.apply(elsewhere + doomed("large", strings.Repeat("<big@azurekeyvault>", 6)))
	s.failed("elsewhere", "125", "VALUE", "none")
	s.failed("large", "126", fmt.Sprintf("VALUE has %d bytes", len("VALUE=")+6*len(big)), ";file")
}
