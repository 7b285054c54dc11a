// SPDX-License-Identifier: Apache-2.0

package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/inject"
	"github.com/akv2k8s/akv2k8s/internal/webhook"
)

// guard is a webhook that knows the pods team/web, which holds values, and team/plain.
func guard(log *bytes.Buffer, err error) *webhook.Handler {
	return webhook.NewHandler(webhook.Options{
		Log: slog.New(slog.NewJSONHandler(log, nil)),
		Guard: webhook.Guard{Groups: []string{"oncall"}, Pod: func(_ context.Context, namespace, name string) (*corev1.Pod, error) {
			pods := map[string][]string{"team/web": {brokerapi.Binary}, "team/plain": {"/app"}}
			command, ok := pods[namespace+"/"+name]
			if !ok || err != nil {
				return nil, err
			}
			return &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Command: command}}}}, nil
		}},
	})
}

// into is what the API server asks when somebody wants to get into a pod.
func into(t *testing.T, way, pod string, object, before any) admission.Request {
	t.Helper()
	raw := func(o any) k8sruntime.RawExtension {
		text, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return k8sruntime.RawExtension{Raw: text}
	}
	r := admissionv1.AdmissionRequest{
		UID: "request", Operation: admissionv1.Connect, Namespace: "team", Name: pod, SubResource: way, Object: raw(object), OldObject: raw(before),
		UserInfo: authenticationv1.UserInfo{Username: "me", Groups: []string{"oncall", "system:authenticated"}},
	}
	if way == "ephemeralcontainers" {
		r.Operation = admissionv1.Update
	}
	return admission.Request{AdmissionRequest: r}
}

func TestKeepOut(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		pod     string
		err     error
		allowed bool
		code    int32
		says    string
	}{
		"HoldsValues": {"web", nil, false, http.StatusForbidden, inject.KeptOut("web", []string{"oncall"})},
		"HoldsNone":   {"plain", nil, true, http.StatusOK, ""},
		"NoPod":       {"nosuch", nil, true, http.StatusOK, ""},
		"NoAnswer":    {"web", errBoom, false, http.StatusServiceUnavailable, "the Env Injector cannot look at the pod"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			got := guard(&log, tc.err).KeepOut(t.Context(), into(t, "exec", tc.pod, corev1.PodExecOptions{Command: []string{"env"}}, nil))
			if got.Allowed != tc.allowed || got.Result.Code != tc.code || !strings.HasPrefix(got.Result.Message, tc.says) || strings.Contains(got.Result.Message, "boom") {
				t.Errorf("%+v", got)
			}
			if logged := strings.Contains(log.String(), "boom"); logged != (tc.err != nil) {
				t.Errorf("log: %s", &log)
			}
		})
	}
}

// Who breaks the glass gets in and is written down, with the first word of the command
// alone.
func TestRecord(t *testing.T) {
	t.Parallel()
	pod := func(names ...string) corev1.Pod {
		var p corev1.Pod
		for _, n := range names {
			p.Spec.EphemeralContainers = append(p.Spec.EphemeralContainers, corev1.EphemeralContainer{
				EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: n, Command: []string{"/bin/" + n, "hunter2"}},
			})
		}
		return p
	}
	for name, tc := range map[string]struct {
		request admission.Request
		want    []string // container and program of each line
	}{
		"Exec":           {into(t, "exec", "web", corev1.PodExecOptions{Container: "app", Command: []string{"sh", "-c", "hunter2"}}, nil), []string{"app sh"}},
		"ExecOfDefault":  {into(t, "exec", "web", corev1.PodExecOptions{Command: []string{"env"}}, nil), []string{" env"}},
		"ExecOfALongOne": {into(t, "exec", "web", corev1.PodExecOptions{Command: []string{strings.Repeat("a", 1000)}}, nil), []string{" " + strings.Repeat("a", 256)}},
		"Attach":         {into(t, "attach", "web", corev1.PodAttachOptions{Container: "app", TTY: true}, nil), []string{"app "}},
		"Debug":          {into(t, "ephemeralcontainers", "web", pod("old", "a", "b"), pod("old")), []string{"a /bin/a", "b /bin/b"}},
		"Unreadable":     {into(t, "exec", "web", "hunter2", nil), []string{" "}},
		"DebugOfNothing": {into(t, "ephemeralcontainers", "web", pod("old"), pod("old")), []string{" "}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			got := guard(&log, nil).Record(t.Context(), tc.request)
			if !got.Allowed || len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "on record") {
				t.Errorf("%+v", got)
			}
			if d := cmp.Diff(tc.want, written(t, log.String(), tc.request.SubResource)); d != "" || strings.Contains(log.String(), "hunter2") {
				t.Errorf("-want +got\n%s\n%s", d, &log)
			}
			yes := true
			log.Reset()
			tc.request.DryRun = &yes
			if got := guard(&log, nil).Record(t.Context(), tc.request); !got.Allowed || len(got.Warnings) > 0 || log.Len() > 0 {
				t.Errorf("a dry run: %+v, %s", got, &log)
			}
		})
	}
}

// written is the container and program of each line about pod team/web, of which
// everything else is checked.
func written(t *testing.T, log, way string) []string {
	t.Helper()
	var lines []string
	for text := range strings.Lines(log) {
		var line struct {
			Msg, User, Way, Namespace, Pod, Container, Program, RequestID string
			Groups                                                        []string
		}
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line.Container+" "+line.Program)
		line.Container, line.Program = "", ""
		got := []string{line.Msg, line.User, line.Way, line.Namespace, line.Pod, line.RequestID, strings.Join(line.Groups, " ")}
		if d := cmp.Diff([]string{"somebody breaks the glass", "me", way, "team", "web", "request", "oncall system:authenticated"}, got); d != "" {
			t.Errorf("-want +got\n%s", d)
		}
	}
	return lines
}
