// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"encoding/json"
	"errors"
	"io"
	"path/filepath"
	"strings"

	"github.com/akv2k8s/akv2k8s/test/harness"
)

// crowded is what a crowd tells in the end; see test/e2e/crowd.
type crowded struct {
	Seconds    float64  `json:"seconds"`
	Created    int      `json:"created"`
	Failed     int      `json:"failed"`
	Failures   []string `json:"failures"`
	Stored     int      `json:"stored"`
	Uninjected []string `json:"uninjected"`
}

// crowd creates fifty pods a second until the returned function is called.
func (s *story) crowd() func() crowded {
	s.Helper()
	program := filepath.Join(s.TempDir(), "crowd")
	s.ok(the.Build(s.Context(), program, "./test/e2e/crowd"))
	cmd := the.Command(s.Context(), program, "-namespace", s.ns, "-image", appImage)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	stdin, err := cmd.StdinPipe()
	s.ok(err)
	s.ok(cmd.Start())
	return func() crowded {
		s.Helper()
		_, _ = io.WriteString(stdin, "enough\n")
		s.ok(stdin.Close())
		if err := cmd.Wait(); err != nil {
			s.Fatalf("the crowd: %v: %s", err, stderr.String())
		}
		s.keep("crowd.json", stdout.String())
		var all crowded
		s.ok(json.Unmarshal([]byte(stdout.String()), &all))
		s.Logf("%d pods in %.0f s, %d refused", all.Created, all.Seconds, all.Failed)
		if all.Created == 0 || all.Stored < all.Created {
			s.Errorf("%d pods were created and %d are there", all.Created, all.Stored)
		}
		if len(all.Uninjected) > 0 {
			s.Errorf("stored uninjected: %q", all.Uninjected)
		}
		return all
	}
}

// started checks those of the crowd that were to start.
func (s *story) started(value string) {
	s.Helper()
	pods := strings.Fields(s.kubectl("get", "pods", "-l", "e2e.example/crowd=starts", "-o", "jsonpath={.items[*].metadata.name}"))
	if len(pods) == 0 {
		s.Error("none of the crowd was to start")
	}
	for _, pod := range pods {
		s.got(s.reported(pod, "app"), map[string]string{"VALUE": value})
	}
}

// rollout runs kubectl rollout for the webhook, and waits for its end.
func (s *story) rollout(verb string) {
	s.Helper()
	name := "deployment/" + harness.Release + "-env-injector"
	if verb != "" {
		s.product("rollout", verb, name)
	}
	s.product("rollout", "status", name, "--timeout="+patience.String())
}

// newAuthority empties the Secret of the authority, and waits until the API server
// knows what follows it.
func (s *story) newAuthority() {
	s.Helper()
	before := s.bundle()
	s.product("patch", "secret", harness.Release+"-ca", "--type=merge", "-p", `{"data":null}`)
	s.eventually("the registration should have the new authority", func() error {
		if s.bundle() == before {
			return errors.New("it is the same")
		}
		return nil
	})
}

// rotationUnderLoad does all that an operator may do to the webhook, one after
// the other, while pods are created: none may be refused for it.
func rotationUnderLoad(s *story) {
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	enough := s.crowd()
	s.rollout("restart")
	s.newAuthority()
	s.product("delete", "pod", podsOf(s, "env-injector")[0])
	s.rollout("restart")
	if all := enough(); all.Failed > 0 {
		s.Errorf("%d pods were refused: %q", all.Failed, all.Failures)
	}
	s.started(value)
}

// aCrashUnderLoad may refuse pods, until the API server has heard of it; it lets
// none through uninjected.
func aCrashUnderLoad(s *story) {
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	enough := s.crowd()
	for _, pod := range podsOf(s, "env-injector") {
		s.killed(pod, "azure-keyvault-secrets-webhook")
	}
	s.rollout("")
	all := enough()
	for _, failure := range all.Failures {
		if !strings.Contains(failure, "pods.env-injector.admission.spv.no") {
			s.Errorf("refused for another reason: %s", failure)
		}
	}
	s.started(value)
}
