// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

// Whatever is sent, a stranger gets no value and no request ends in a panic.
func FuzzRequest(f *testing.F) {
	good, bad := "Bearer "+token("good"), "Bearer "+token("bad")
	for _, seed := range []string{
		"", "{}", `{"container":"app"}`, `{"container":"app"}{}`, `{"container":1}`, `{"container":"../app"}`,
		`{"container":"app","container":"init"}`, "[]", "null", `"app"`, "\x00", `{"CONTAINER":"app"}`,
		`{"container":"app"}` + strings.Repeat(" ", brokerapi.MaxRequestBytes),
	} {
		f.Add(good, seed)
		f.Add(bad, seed)
	}
	f.Add("Bearer none", "{}")
	f.Add("Bearer  "+token("good"), "{}")
	f.Add("bearer\t"+token("good"), "{}")
	f.Add("Bearer "+strings.Repeat("x", 20<<10), `{"container":"app"}`)
	s := newStage(f)
	s.broker.Unlimited()
	f.Fuzz(func(t *testing.T, authorization, body string) {
		if strings.ContainsAny(authorization, "\r\n\x00") || strings.TrimSpace(authorization) != authorization {
			t.Skip("not a header that a client sends")
		}
		s.log.Reset()
		got := s.respond(authorization, body)
		// The signature alone counts here: a stranger is who has not got that.
		stranger := nameOf(authorization) != "good"
		if got.Code == http.StatusInternalServerError || stranger && got.Code == http.StatusOK {
			t.Errorf("status %d: %s", got.Code, s.log)
		}
		if strings.Count(s.log.String(), `"msg":"request"`) != 1 {
			t.Errorf("not audited: %s", s.log)
		}
	})
}
