// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/emulator/emulatortest"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
	"github.com/akv2k8s/akv2k8s/internal/cluster"
)

// soakTime is how long the chaos lasts: SOAK, or long enough to see that it works.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("SOAK")
	if text == "" {
		return 10 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal("SOAK must be a time, such as 10m")
	}
	return d
}

const soakObjects = 60

// TestSoak changes values while the vault misbehaves in every way that it knows and
// the Controller is killed again and again. At no moment is an output empty,
// partial or older than it has been, and at the end each equals its vault object.
func TestSoak(t *testing.T) {
	t.Parallel()
	seedOf := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seedOf)
	s := newSoak(t, rand.New(rand.NewPCG(seedOf, 0)))
	watched := s.observe(t)
	for end := time.Now().Add(soakTime(t)); time.Now().Before(end); {
		s.step(t)
		time.Sleep(time.Duration(s.random.IntN(60)) * time.Millisecond)
	}
	s.vault.SetFaults("my-kv")
	for name, n := range s.counts {
		s.equals(t, name, n)
	}
	watched()
	s.saysNoValue(t)
	s.controller.stop(t)
	t.Logf("%d changes, %d faults, %d kills; %d states of outputs seen", s.changes, s.faults, s.kills, s.seen)
}

type soak struct {
	*stage

	vault      *emulatortest.Instance
	random     *rand.Rand
	controller *replica
	startAgain func() *replica
	counts     map[string]int // the number in each object's value

	changes, faults, kills, seen int
}

func newSoak(t *testing.T, random *rand.Rand) *soak {
	t.Helper()
	s := &soak{stage: &stage{namespace: namespace(t)}, random: random, counts: map[string]int{}}
	s.vault = emulatortest.Start(t, `
principals: [{ name: node, clientId: 22222222-2222-4222-8222-222222222222, secrets: [c4n4ry-client-secret] }]
vaults: [{ name: my-kv, permissions: [{ principal: node, roles: [Key Vault Secrets User] }] }]
`)
	azureJSON := filepath.Join(t.TempDir(), "azure.json")
	text := fmt.Sprintf(`{"tenantId": %q, "aadClientId": "22222222-2222-4222-8222-222222222222", "aadClientSecret": "c4n4ry-client-secret"}`, tenant)
	if err := os.WriteFile(azureJSON, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.startAgain = func() *replica {
		return start(t, s.vault.ProxyURL, []string{"CA_BUNDLE=" + s.vault.CAFile, "RUNTIME_NAMESPACE=" + s.namespace},
			"--cloudconfig="+azureJSON, "--watch-all-namespaces=false", "--leader-elect=false", "--azure-resync-period=1", "--log-level=info")
	}
	for i := range soakObjects {
		name := "object-" + strconv.Itoa(i)
		s.change(name)
		s.apply(t, name, func(spec *v2beta1.AzureKeyVaultSecretSpec) { spec.Output.Secret.Name = name })
	}
	s.controller = s.startAgain()
	for name, n := range s.counts {
		s.equals(t, name, n)
	}
	return s
}

// change gives an object its next value.
func (s *soak) change(name string) {
	s.counts[name]++
	s.changes++
	s.vault.SetSecret("my-kv", name, valueOf(name, s.counts[name]))
}

func valueOf(name string, n int) string { return fmt.Sprintf("%s %s %08d end", canary, name, n) }

// step does one of the things that happen.
func (s *soak) step(t *testing.T) {
	t.Helper()
	switch n := s.random.IntN(100); {
	case n < 70:
		s.change("object-" + strconv.Itoa(s.random.IntN(soakObjects)))
	case n < 85:
		s.faults++
		kinds := []seed.Fault{
			{Kind: seed.FaultThrottle, RetryAfter: s.random.IntN(2)},
			{Kind: seed.FaultError, Status: 500 + s.random.IntN(5)},
			{Kind: seed.FaultLatency, Latency: seed.Duration(time.Duration(1+s.random.IntN(500)) * time.Millisecond)},
			{Kind: seed.FaultReset},
			{Kind: seed.FaultFirewall},
			{Kind: seed.FaultForbid},
			{Kind: seed.FaultRevoke},
		}
		s.vault.SetFaults("my-kv", kinds[s.random.IntN(len(kinds))])
	case n < 98:
		s.vault.SetFaults("my-kv")
	default:
		s.kills++
		if err := s.controller.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = s.controller.cmd.Wait()
		s.controller = s.startAgain()
	}
}

func (s *soak) equals(t *testing.T, name string, n int) {
	t.Helper()
	eventually(t, name+" holds its value", func() error {
		out, err := s.secret(t.Context(), name)
		if err != nil {
			return err
		}
		if string(out.Data["password"]) != valueOf(name, n) {
			return errors.New("it does not")
		}
		return nil
	})
}

// observe looks at every state that any output is ever in, until the returned
// function is called.
func (s *soak) observe(t *testing.T) func() {
	t.Helper()
	c, err := client.NewWithWatch(adminConfig, client.Options{Scheme: cluster.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	w, err := c.Watch(ctx, &corev1.SecretList{}, client.InNamespace(s.namespace))
	if err != nil {
		t.Fatal(err)
	}
	last := map[string]int{}
	var done sync.WaitGroup
	done.Go(func() {
		for event := range w.ResultChan() {
			out, ok := event.Object.(*corev1.Secret)
			if !ok {
				continue
			}
			s.seen++
			if event.Type == watch.Deleted {
				t.Errorf("%s was deleted", out.Name)
				continue
			}
			n := -1
			text := strings.TrimPrefix(string(out.Data["password"]), canary+" "+out.Name+" ")
			if count, found := strings.CutSuffix(text, " end"); found {
				n, _ = strconv.Atoi(count)
			}
			if n < 1 || n < last[out.Name] || len(out.Data) != 1 {
				t.Errorf("%s went from value %d to %d, with %d keys", out.Name, last[out.Name], n, len(out.Data))
			}
			last[out.Name] = n
		}
	})
	return func() {
		w.Stop()
		cancel()
		done.Wait()
	}
}
