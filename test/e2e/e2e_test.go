// SPDX-License-Identifier: Apache-2.0

// Package e2e_test plays the product's stories on the real node, in terms of what
// a user types, against the emulator in the place of Azure. `make e2e` prepares
// everything and runs it.
//
// Start at groups; a story is a function that gets a namespace of its own. Values
// are drawn at random and planted (see canary_test.go), so that the last story can
// search everything that was written anywhere for any part of them.
package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/akv2k8s/akv2k8s/test/harness"
)

const (
	// required is set by whoever has a cluster for the tests alone: they take the
	// product apart. A missing cluster is then a failure. With namesOnly no story is
	// told, so that it can be seen which there are.
	required  = "AKV2K8S_E2E"
	namesOnly = "names"
	// evidenceVar names a directory to keep what stories leave behind.
	evidenceVar = "AKV2K8S_E2E_EVIDENCE"

	vaultName  = "e2e-kv"
	appImage   = harness.Registry + "/e2e/app:1"
	shellImage = harness.Registry + "/busybox:1"
	optInLabel = "azure-key-vault-env-injection"
	storyLabel = "e2e.example/story" // on every namespace that a story made

	// patience bounds every wait: far more than a refresh or a pod start takes on
	// a busy machine, so that only something broken runs into it.
	patience = 90 * time.Second
)

// world is what all stories share.
type world struct {
	*harness.Cluster

	evidence string
	planted  *garden
	faults   *faults
}

// the is the one world. A test binary has no other way to hand it to its tests.
var the world

// groups run in this order, after one another. Stories that are tellable side by
// side are; the others concern the installation as a whole.
var groups = []struct {
	name     string
	together bool
	stories  []tale
}{
	{"Outage", true, outageStories}, // takes longest, and waits most
	{"Controller", true, controllerStories},
	{"Outputs", true, outputStories},
	{"ControllerRefuses", true, controllerRefusals},
	{"Injector", true, injectorStories},
	{"Placeholders", true, placeholderStories},
	{"Files", true, fileStories},
	{"InjectorRefuses", true, injectorRefusals},
	{"Broker", true, brokerStories},
	{"Direct", true, directStories},
	{"Guard", true, guardStories},
	{"Wrapper", true, wrapperStories},
	{"Delivery", false, deliveryStories},
	{"Disruption", false, disruptionStories},
	{"SignIn", false, signInStories},
	{"Chart", false, chartStories},
	{"Canary", false, canaryStories},
}

// A tale is a story with its name.
type tale struct {
	name string
	tell func(*story)
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if os.Getenv(required) == namesOnly {
		return m.Run()
	}
	if os.Getenv(required) == "" {
		fmt.Println("skipped: the end-to-end tests need the test cluster for themselves; `make e2e` starts it, installs the product and runs them")
		return 0
	}
	root, err := harness.Root()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	the.Cluster = harness.NewCluster(root, false, os.Stderr)
	if !the.Running(ctx) {
		fmt.Println("the test cluster does not answer; `make e2e` starts it")
		return 1
	}
	the.planted, the.faults = &garden{}, &faults{}
	if err := prepare(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "preparing the end-to-end tests:", err)
		return 1
	}
	end := keepPodLogs(ctx)
	defer end()
	return m.Run()
}

func prepare(ctx context.Context) error {
	the.evidence = os.Getenv(evidenceVar)
	if the.evidence == "" {
		dir, err := os.MkdirTemp("", "akv2k8s-e2e-")
		if err != nil {
			return err
		}
		the.evidence = dir
	}
	if _, err := the.Kubectl(ctx, "", "delete", "namespaces", "-l", storyLabel, "--wait=false"); err != nil { // of an earlier run
		return err
	}
	dir, err := os.MkdirTemp("", "akv2k8s-e2e-app-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	app := filepath.Join(dir, "app")
	if err := the.Build(ctx, app, "./test/e2e/app"); err != nil {
		return err
	}
	return pushImages(ctx, dir, app)
}

func TestStories(t *testing.T) {
	// Below one parent, so that these groups run side by side and end together.
	t.Run("Together", func(t *testing.T) {
		for _, group := range groups {
			if group.together {
				t.Run(group.name, func(t *testing.T) {
					t.Parallel()
					tellAll(t, group.stories, true)
				})
			}
		}
	})
	for _, group := range groups {
		if !group.together {
			t.Run(group.name, func(t *testing.T) { tellAll(t, group.stories, false) })
		}
	}
}

func tellAll(t *testing.T, stories []tale, together bool) {
	t.Helper()
	for _, each := range stories {
		t.Run(each.name, func(t *testing.T) {
			if os.Getenv(required) == namesOnly {
				return
			}
			if together {
				t.Parallel()
			}
			each.tell(newStory(t))
		})
	}
}
