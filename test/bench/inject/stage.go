// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/akv2k8s/akv2k8s/test/bench"
	"github.com/akv2k8s/akv2k8s/test/harness"
)

const (
	// vaultLatency is what each request that signed in waits for its answer, about as
	// long as from a node to a vault of its region; tokenLatency is what a token takes.
	vaultLatency, tokenLatency = "10ms", "50ms"

	vaultName = "e2e-kv"
	namespace = "bench-inject"
	// component is the chart's name of webhook, Service and registration.
	component = harness.Release + "-env-injector"
	broker    = harness.Release + "-broker"
)

// size is how much there is to measure.
type size struct {
	Rounds int // of reviews
	Each   int // reviews of a kind in a round, one at a time
	AtOnce int // reviews in a round, many at once
	Pairs  int // of pods
	Starts int // of the wrapper in a round, one at a time
	Storm  int // pods whose containers start at once
}

var (
	full  = size{Rounds: 5, Each: 500, AtOnce: 2000, Pairs: 10, Starts: 80, Storm: 200}
	short = size{Rounds: 2, Each: 50, AtOnce: 200, Pairs: 2, Starts: 10, Storm: 20}
)

// A delivery is a way in which the wrapper comes into a pod, as the chart's value
// env_injector.delivery names it.
type delivery string

const (
	deliveryInitContainer delivery = "initContainer"
	deliveryImageVolume   delivery = "imageVolume"
)

// A stage is the cluster with the product, and the vault with its values.
type stage struct {
	*harness.Cluster

	size   size
	report *bench.Report
	dir    string // of files that are made here
	app    string // image of the application
}

// The programs in the stage's directory.
const (
	appFile     = "app"
	starterFile = "starter"
)

// set installs the product and makes what pods need. One webhook answers everything,
// as if there were but one API server and the other webhook were being replaced. There
// is no Controller, so that all that the vault is asked for is asked for by brokers.
func (s *stage) set(ctx context.Context) error {
	if err := s.Install(ctx, harness.Images{}, "--set", "env_injector.replicaCount=1", "--set", "controller.enabled=false"); err != nil {
		return err
	}
	vault := s.Vault()
	err := errors.Join(
		vault.Misbehave(ctx, vaultName, []harness.Fault{{Kind: "latency", Latency: vaultLatency}}),
		vault.MisbehaveSignIns(ctx, []harness.Fault{{Kind: "latency", Latency: tokenLatency, Operations: []string{"/oauth2/v2.0/token"}}}),
	)
	for i := range placeholders {
		err = errors.Join(err, vault.SetSecret(ctx, vaultName, objectName(i), harness.Secret{Value: valueOf(i)}))
	}
	if err != nil {
		return fmt.Errorf("filling the vault: %w", err)
	}
	if _, err := s.Kubectl(ctx, manifests(), "apply", "-f", "-"); err != nil {
		return err
	}
	if _, err := s.Kubectl(ctx, "", "-n", namespace, "wait", "--for=create", "serviceaccount/default", "--timeout=30s"); err != nil {
		return err
	}
	if err := s.Build(ctx, filepath.Join(s.dir, starterFile), "./test/bench/inject/starter"); err != nil {
		return err
	}
	return s.pushApplication(ctx)
}

// manifests are the namespace and an AzureKeyVaultSecret for each placeholder.
func manifests() string {
	var text strings.Builder
	_, _ = fmt.Fprintf(&text, "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s, labels: {azure-key-vault-env-injection: enabled}}\n", namespace)
	for i := range placeholders {
		_, _ = fmt.Fprintf(&text, `---
apiVersion: spv.no/v2beta1
kind: AzureKeyVaultSecret
metadata: {name: %s, namespace: %s}
spec: {vault: {name: %s, object: {type: secret, name: %s}}}
`, objectName(i), namespace, vaultName, objectName(i))
	}
	return text.String()
}

// pushApplication names the image by its content: the node keeps images by tag.
func (s *stage) pushApplication(ctx context.Context) error {
	app := filepath.Join(s.dir, appFile)
	if err := s.Build(ctx, app, "./test/bench/inject/app"); err != nil {
		return err
	}
	program, err := os.ReadFile(app)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(program)
	name := "bench/app:" + hex.EncodeToString(sum[:6])
	s.app = harness.Registry + "/" + name
	return s.Push(ctx, name, app+"=/app")
}

// play measures. A scenario that fails is reported, and the next is tried.
func (s *stage) play(ctx context.Context, each scenario) {
	s.report.Note("%s; %s", each.figures[0], bench.Machine())
	began := time.Now()
	if err := each.play(ctx, s); err != nil {
		s.report.Fail(err, each.figures...)
	}
	s.report.Note("that took %s", time.Since(began).Round(time.Second))
}

// inside runs a measurement in the cluster's network; see inside.go.
func (s *stage) inside(ctx context.Context, what string, o order, result any) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	o.Size, o.Image, o.Dir = s.size, s.app, s.dir
	text, err := json.Marshal(o)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	cmd := s.Command(ctx, self, insideFlag, what, string(text))
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("measuring in the cluster's network: %w", err)
	}
	return json.Unmarshal(out.Bytes(), result)
}

// restart begins with processes that have done nothing yet.
func (s *stage) restart(ctx context.Context, deployment string) error {
	if _, err := s.Kubectl(ctx, "", "-n", harness.Namespace, "rollout", "restart", "deployment/"+deployment); err != nil {
		return err
	}
	return s.settled(ctx, deployment)
}

// scale asks for so many brokers, and waits for nothing.
func (s *stage) scale(ctx context.Context, replicas int) error {
	_, err := s.Kubectl(ctx, "", "-n", harness.Namespace, "scale", "deployment/"+broker, "--replicas="+strconv.Itoa(replicas))
	return err
}

// settled waits until the pods are those that were asked for and no other answers any
// more.
func (s *stage) settled(ctx context.Context, deployment string) error {
	for _, args := range [][]string{
		{"rollout", "status", "deployment/" + deployment, "--timeout=120s"},
		{"wait", "--for=jsonpath={.status.terminatingReplicas}=0", "deployment/" + deployment, "--timeout=60s"},
	} {
		if _, err := s.Kubectl(ctx, "", append([]string{"-n", harness.Namespace}, args...)...); err != nil {
			return err
		}
	}
	return nil
}

// deliver has the chart deliver the wrapper so, and has every start read the vault:
// nothing is shared with the start before.
func (s *stage) deliver(ctx context.Context, d delivery) error {
	if _, err := s.Helm(ctx, "upgrade", harness.Release, "charts/akv2k8s", "--namespace", harness.Namespace, "--reuse-values",
		"--set", "env_injector.delivery="+string(d), "--set", "env_injector.keyVaultReads.shareWindow=0", "--wait", "--timeout", "180s"); err != nil {
		return err
	}
	return errors.Join(s.settled(ctx, component), s.settled(ctx, broker))
}
