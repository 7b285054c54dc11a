// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"net/http"
	"strings"
	"testing"
)

// Whatever is sent, a stranger gets no value and no request ends in a panic.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		"", "{}", `{"container":"app"}`, `{"container":"app"}{}`, `{"container":1}`, `{"container":"../app"}`,
		`{"container":"app","container":"init"}`, "[]", "null", `"app"`, "\x00", `{"CONTAINER":"app"}`,
	} {
		f.Add("Bearer bad", seed)
		f.Add("Bearer good", seed)
	}
	f.Add("Bearer  good", "{}")
	f.Add("bearer\tgood", "{}")
	f.Fuzz(func(t *testing.T, authorization, body string) {
		if strings.ContainsAny(authorization, "\r\n\x00") || strings.TrimSpace(authorization) != authorization {
			t.Skip("not a header that a client sends")
		}
		s := newStage(t)
		got := s.respond(authorization, body)
		stranger := !strings.EqualFold(authorization, "Bearer good")
		if got.Code == http.StatusInternalServerError || stranger && got.Code == http.StatusOK {
			t.Errorf("status %d: %s", got.Code, s.log)
		}
	})
}
