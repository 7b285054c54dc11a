// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/inject"
	"github.com/akv2k8s/akv2k8s/test/harness"
)

var guardStories = []tale{
	{"PeopleStayOutside", peopleStayOutside},
}

// patient prints a digest at each start, and ends when it is told to.
const patient = `
    image: ` + shellImage + `
    command: [sh, -c, 'printf %s "$VALUE" | sha256sum; trap "exit 1" TERM; while :; do sleep 1; done']
    env: [{name: VALUE, value: it@azurekeyvault}]
`

// again runs the wrapper again, as whoever gets into the container can.
var again = []string{"app", "--", "env", brokerapi.EnvRetries + "=0", brokerapi.Binary, "sh", "-c", `echo "$VALUE"`}

// onCall is a person who may break the glass, and everything else.
var onCall = []string{"--as=oncall", "--as-group=system:masters", "--as-group=oncall"}

// peopleStayOutside: a guarded namespace beside one that is not.
func peopleStayOutside(s *story) {
	elsewhere := newStory(s.T)
	secrets := map[*story]string{}
	for _, each := range []*story{elsewhere, s} {
		secrets[each] = each.secret("it")
		each.akvs("it", "secret", "it", "")
		each.apply(pod(patient))
	}
	s.kubectl("label", "namespace", s.ns, brokerapi.GuardLabel+"="+brokerapi.GuardValue)
	for _, each := range []*story{elsewhere, s} {
		each.wait("condition=Ready", "pod/app")
	}
	everyWayIsRefused(s)

	// Who breaks the glass gets in, but what the wrapper gets ends with the start.
	s.eventually("running the wrapper again should yield nothing", func() error {
		out, err := s.try("", slices.Concat([]string{"exec"}, onCall, again)...)
		switch {
		case err == nil:
			return errors.New("it yields the value still")
		case strings.Contains(out, secrets[s]):
			s.Fatal("the value is in what kubectl prints of a refusal")
		case !strings.Contains(err.Error(), "its namespace has an exec guard"):
			return err
		}
		return nil
	})
	s.onRecord()
	debug := slices.Concat([]string{"-n", s.ns, "debug"}, onCall, []string{"app", "--image=" + shellImage, "--", "true"})
	out, err := the.Command(s.Context(), "kubectl", debug...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "is on record") {
		s.Errorf("kubectl debug does not warn who breaks the glass: %v, %s", err, out)
	}
	// Elsewhere the container runs for longer by now.
	if out := elsewhere.kubectl(append([]string{"exec"}, again...)...); strings.TrimSpace(out) != secrets[elsewhere] {
		s.Error("without the guard, running the wrapper again does not yield the value, as SECURITY.md says")
	}

	s.kubectl(slices.Concat([]string{"exec"}, onCall, []string{"app", "--", "kill", "-TERM", "1"})...)
	s.eventually("a container that is started again should have its value", func() error {
		if restarts := s.kubectl("get", "pod", "app", "-o", "jsonpath={.status.containerStatuses[0].restartCount}"); restarts != "1" {
			return fmt.Errorf("%s restarts", restarts)
		}
		text, err := s.try("", "logs", "app")
		if err == nil && !strings.Contains(text, digest(secrets[s])) {
			err = fmt.Errorf("%d bytes of log, without the value's digest", len(text))
		}
		return err
	})
}

func everyWayIsRefused(s *story) {
	says := inject.KeptOut("app", []string{"oncall"})
	for _, way := range [][]string{
		{"exec", "app", "--", "env"},
		{"cp", "app:/etc/passwd", filepath.Join(s.TempDir(), "passwd")},
		{"attach", "app"},
		{"debug", "app", "--image=" + shellImage, "--", "env"},
	} {
		_, err := s.try("", way...)
		if err == nil || !strings.Contains(err.Error(), says) {
			s.Errorf("kubectl %s: %v", way[0], err)
			continue
		}
		s.keep("kubectl.txt", err.Error())
	}
}

// onRecord: the webhook has written down who got in, and no more of the command than the
// program.
func (s *story) onRecord() {
	s.Helper()
	s.eventually("the webhook should have written down who broke the glass", func() error {
		text, err := the.Kubectl(s.Context(), "", "-n", harness.Namespace, "logs", "-l", "app.kubernetes.io/component=env-injector", "--tail=-1")
		for line := range strings.Lines(text) {
			if strings.Contains(line, "breaks the glass") && strings.Contains(line, s.ns) {
				if !strings.Contains(line, "user=oncall") || !strings.Contains(line, "program=env") || strings.Contains(line, "VALUE") {
					s.Errorf("on record: %s", line)
				}
				return nil
			}
		}
		return errors.Join(err, errors.New("no such line"))
	})
}
