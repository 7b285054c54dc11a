// SPDX-License-Identifier: Apache-2.0

package config_test

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/internal/config"
)

var update = flag.Bool("update", false, "rewrite testdata")

// golden compares with a file under testdata, or rewrites it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: go test ./internal/config -update rewrites it (-want +got):\n%s", file, diff)
	}
}

func variables(list map[string]string) func(string) string {
	return func(name string) string { return list[name] }
}

func controllerDefaults() config.Controller {
	return config.Controller{
		Log:           config.Log{Level: "info", Format: "text"},
		Azure:         config.Azure{AuthType: "azureCloudConfig", CloudConfig: "/etc/kubernetes/azure.json"},
		AllNamespaces: true,
		Reading:       config.Reading{ShareWindow: 5 * time.Second, Rate: 100, Burst: 500},
		Resync:        30 * time.Second,
		EventPoll:     time.Second,
		EventResync:   10 * time.Minute,
		StaleAfter:    3,
		MinRefresh:    30 * time.Second,
		ExpiryWarning: 720 * time.Hour,
		StatusRate:    50,
		Concurrency:   8,
		Port:          9000,
		Elect:         true,
		ElectionID:    "azure-keyvault-controller",
	}
}

func TestControllerHelp(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if _, err := config.ParseController([]string{"-h"}, variables(nil), &out); !errors.Is(err, config.ErrHelp) {
		t.Errorf("error %v, want %v", err, config.ErrHelp)
	}
	golden(t, "controller-help.txt", out.String())
}

func TestParseController(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args   []string
		env    map[string]string
		change func(*config.Controller)
	}{
		"Defaults": {nil, nil, func(*config.Controller) {}},
		"Chart": {
			nil,
			map[string]string{
				"AUTH_TYPE": "environment-azidentity", "RUNTIME_NAMESPACE": "akv2k8s", "WATCH_ALL_NAMESPACES": "false",
				"AZURE_RESYNC_PERIOD": "90", "OBJECT_LABELS": "a=b", "LOG_LEVEL": "debug", "LOG_FORMAT": "json",
				"CA_BUNDLE": "/ca.pem", "LEADER_ELECTION_ID": "x-controller",
				"MIN_REFRESH_INTERVAL": "5m", "EXPIRY_WARNING": "168h", "STATUS_RATE": "7",
				"VAULT_RATE": "9", "STALE_AFTER": "4", "EVENT_QUEUE": "https://a.queue.core.windows.net/q", "EVENT_POLL_INTERVAL": "2", "EVENT_RESYNC_PERIOD": "1h",
			},
			func(c *config.Controller) {
				c.Azure.AuthType, c.Namespace, c.AllNamespaces = "environment-azidentity", "akv2k8s", false
				c.Resync, c.ObjectLabels = 90*time.Second, "a=b"
				c.Log = config.Log{Level: "debug", Format: "json"}
				c.Azure.CABundle, c.ElectionID = "/ca.pem", "x-controller"
				c.MinRefresh, c.ExpiryWarning, c.StatusRate = 5*time.Minute, 168*time.Hour, 7
				c.Reading.Rate, c.StaleAfter = 9, 4
				c.EventQueue, c.EventPoll, c.EventResync = "https://a.queue.core.windows.net/q", 2*time.Second, time.Hour
			},
		},
		"OldManifest": {
			[]string{"--cloudconfig=/a.json", "--kubeconfig=/k", "--master=https://m", "--watch-all-namespaces=false", "--kube-resync-period=30", "--azure-resync-period=60", "--logging-format=json"},
			nil,
			func(c *config.Controller) {
				c.Azure.CloudConfig, c.Kubeconfig, c.Master, c.AllNamespaces = "/a.json", "/k", "https://m", false
				c.Resync, c.Log.Format = time.Minute, "json"
			},
		},
		"FlagOutranksVariable": {[]string{"--concurrency=3"}, map[string]string{"CONCURRENCY": "4"}, func(c *config.Controller) { c.Concurrency = 3 }},
		"Duration":             {[]string{"--azure-resync-period=1h30m"}, nil, func(c *config.Controller) { c.Resync = 90 * time.Minute }},
		"NoPolling":            {[]string{"--azure-resync-period=0"}, nil, func(c *config.Controller) { c.Resync = 0 }},
		"NoWarning":            {[]string{"--expiry-warning=0"}, nil, func(c *config.Controller) { c.ExpiryWarning = 0 }},
		"EmptyVariable":        {nil, map[string]string{"HTTP_PORT": ""}, func(*config.Controller) {}},
		"Version":              {[]string{"--version"}, nil, func(c *config.Controller) { c.Version = true }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := config.ParseController(tc.args, variables(tc.env), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			want := controllerDefaults()
			tc.change(&want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Every problem is told at once, and a variable's content, which may be a
// misplaced secret, never is.
func TestParseControllerTellsEveryProblem(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args  []string
		env   map[string]string
		wants []string
	}{
		"Values": {
			[]string{
				"--auth-type=x", "--log-level=y", "--azure-resync-period=-1", "--concurrency=0", "--http-port=70000", "--leader-election-id=",
				"--vault-rate=0", "--stale-after=1", "--event-poll-interval=1ms", "--event-resync-period=0",
				"--min-refresh-interval=999ms", "--expiry-warning=-1h", "--status-rate=1001",
			},
			nil,
			[]string{"--vault-rate", "--stale-after", "--event-poll-interval", "--event-resync-period", "--min-refresh-interval", "--expiry-warning", "--status-rate", "--auth-type", "--log-level", "--azure-resync-period", "--concurrency", "--http-port", "--leader-election-id"},
		},
		"Variables": {nil, map[string]string{"HTTP_PORT": "s3cr3t", "CONCURRENCY": "s3cr3t"}, []string{"HTTP_PORT", "CONCURRENCY"}},
		"TooOften":  {[]string{"--azure-resync-period=10ms"}, nil, []string{"10ms"}},
		"Unknown":   {[]string{"--nonsense"}, nil, []string{"nonsense"}},
		"Argument":  {[]string{"sync"}, nil, []string{`"sync"`, "flags only"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := config.ParseController(tc.args, variables(tc.env), io.Discard)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range tc.wants {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not mention %s", err, want)
				}
			}
			if strings.Contains(err.Error(), "s3cr3t") {
				t.Errorf("the content of a variable is shown: %v", err)
			}
		})
	}
}

func TestControllerInterval(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args []string
		want time.Duration
	}{
		"Usual":     {nil, 30 * time.Second},
		"Events":    {[]string{"--event-queue=https://q"}, 10 * time.Minute},
		"EventsOwn": {[]string{"--event-queue=https://q", "--event-resync-period=20s"}, 30 * time.Second},
		"Never":     {[]string{"--event-queue=https://q", "--azure-resync-period=0"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := config.ParseController(tc.args, variables(nil), io.Discard)
			if got := c.Interval(); err != nil || got != tc.want {
				t.Errorf("%s, want %s (%v)", got, tc.want, err)
			}
		})
	}
}
