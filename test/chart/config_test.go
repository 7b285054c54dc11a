// SPDX-License-Identifier: Apache-2.0

package chart_test

import (
	"io"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/internal/config"
)

// parsers are how each process reads what the chart gives it.
var parsers = map[string]func(args []string, getenv func(string) string) error{
	"controller": func(args []string, getenv func(string) string) error {
		_, err := config.ParseController(args, getenv, io.Discard)
		return err
	},
	"env-injector": func(args []string, getenv func(string) string) error {
		_, err := config.ParseWebhook(args, getenv, io.Discard)
		return err
	},
	"broker": func(args []string, getenv func(string) string) error {
		_, err := config.ParseBroker(args, getenv, io.Discard)
		return err
	},
}

// others are variables that libraries read: Azure's SDK, net/http, the Go runtime.
var others = []string{"AZURE_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "GOMAXPROCS"}

// TestBinariesUnderstandTheChart gives each container's arguments and variables to
// the options of its binary, which must accept them all and ask for each.
func TestBinariesUnderstandTheChart(t *testing.T) {
	t.Parallel()
	files := cases(t)
	files["default"] = ""
	for name, values := range files {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, d := range deployments(t, values) {
				for _, c := range d.Spec.Template.Spec.Containers {
					understands(t, c)
				}
			}
		})
	}
}

func understands(t *testing.T, c corev1.Container) {
	t.Helper()
	parse, ok := parsers[c.Name]
	if !ok {
		t.Errorf("no parser is known for container %s", c.Name)
		return
	}
	variables := map[string]string{}
	for _, env := range c.Env {
		if _, twice := variables[env.Name]; twice {
			t.Errorf("%s is told %s twice", c.Name, env.Name)
		}
		variables[env.Name] = env.Value
		if env.ValueFrom != nil {
			variables[env.Name] = "from-elsewhere"
		}
	}
	asked := map[string]bool{}
	err := parse(c.Args, func(name string) string {
		asked[name] = true
		return variables[name]
	})
	if err != nil {
		t.Errorf("%s refuses its configuration: %v", c.Name, err)
	}
	for name := range variables {
		library := slices.ContainsFunc(others, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
		if !asked[name] && !library {
			t.Errorf("%s does not know the variable %s", c.Name, name)
		}
	}
}
