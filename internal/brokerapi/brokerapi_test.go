// SPDX-License-Identifier: Apache-2.0

package brokerapi_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

func TestResponseShowsNothing(t *testing.T) {
	t.Parallel()
	value := map[string][]byte{"PASSWORD": []byte("hunter2")}
	r := brokerapi.Response{Values: value, Directories: map[string]map[string][]byte{"D": value}}
	var text strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&text, verb+verb, r, &r)
		fmt.Fprintf(&text, verb, struct{ R brokerapi.Response }{r})
	}
	fmt.Fprintln(&text, r, fmt.Errorf("reading %v", r))
	slog.New(slog.NewTextHandler(&text, nil)).Info("x", "response", r, "pointer", &r)
	slog.New(slog.NewJSONHandler(&text, nil)).Info("x", "response", r, "group", slog.GroupValue(slog.Any("r", r)))
	for _, trace := range []string{"hunter2", "104 117", "68756e", "aHVudGVyMg", "0x68"} {
		if strings.Contains(text.String(), trace) {
			t.Errorf("%q in %s", trace, text.String())
		}
	}
}

// Wrapper and broker may be of different releases: these bytes are the contract.
func TestWire(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		value any
		want  string
	}{
		"Request":  {brokerapi.Request{Container: "app"}, `{"container":"app"}`},
		"Response": {brokerapi.Response{Values: map[string][]byte{"A": []byte("1"), "B": {}}}, `{"values":{"A":"MQ==","B":""}}`},
		"Directories": {
			brokerapi.Response{Values: map[string][]byte{}, Directories: map[string]map[string][]byte{"A": {"f": []byte("1")}, "B": {}}, Absent: []string{"C"}},
			`{"values":{},"directories":{"A":{"f":"MQ=="},"B":{}},"absent":["C"]}`,
		},
		"Failure": {
			brokerapi.Failure{Message: "m", Problems: []brokerapi.Problem{{Variable: "v", Placeholder: "p", Reason: "r", Message: "n"}}, Retry: true},
			`{"message":"m","problems":[{"variable":"v","placeholder":"p","reason":"r","message":"n"}],"retry":true}`,
		},
		"FailureAlone": {brokerapi.Failure{Message: "m"}, `{"message":"m"}`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := json.Marshal(tc.value)
			if d := cmp.Diff(tc.want, string(got)); d != "" || err != nil {
				t.Errorf("%v, -want +got\n%s", err, d)
			}
		})
	}
	var back brokerapi.Response
	if err := json.Unmarshal([]byte(cases["Response"].want), &back); err != nil || !bytes.Equal(back.Values["A"], []byte("1")) || back.Values["B"] == nil {
		t.Errorf("a Response does not survive the wire: %v", err)
	}
}

// What admission sets is what the wrapper removes.
func TestOwnVariablesHaveThePrefix(t *testing.T) {
	t.Parallel()
	for _, name := range []string{
		brokerapi.EnvContainer, brokerapi.EnvBroker, brokerapi.EnvServerName, brokerapi.EnvCABundle,
		brokerapi.EnvCoreDumps, brokerapi.EnvTerminationLog,
		brokerapi.EnvLogLevel, brokerapi.EnvLogFormat, brokerapi.EnvRetries, brokerapi.EnvRetryWait,
	} {
		if !strings.HasPrefix(name, brokerapi.EnvPrefix) {
			t.Errorf("%s reaches the program", name)
		}
	}
}
