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
	rbacv1 "k8s.io/api/rbac/v1"
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
		return 2 * time.Minute
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal("SOAK must be a time, such as 10m")
	}
	return d
}

const soakObjects = 500

// TestSoak changes values while the vault and the sign-in misbehave in every way that
// they know, and one of two Controllers is killed again and again, the one that works
// among them. At no moment is an output empty, partial or older than it has been, and
// at the end each equals its vault object.
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
	s.calm()
	for name, n := range s.counts {
		s.equals(t, name, n)
	}
	watched()
	s.saysNoValue(t)
	for _, r := range s.replicas {
		r.stop(t)
	}
	t.Logf("%d changes, %d faults, %d kills; %d states of outputs seen", s.changes, s.faults, s.kills, s.seen)
}

type soak struct {
	*stage

	vault      *emulatortest.Instance
	random     *rand.Rand
	replicas   [2]*replica
	startAgain func() *replica
	counts     map[string]int  // the number in each object's value
	off        map[string]bool // objects that are disabled
	gone       map[string]bool // objects that are deleted

	changes, faults, kills, seen int
}

func newSoak(t *testing.T, random *rand.Rand) *soak {
	t.Helper()
	s := &soak{stage: &stage{namespace: namespace(t)}, random: random, counts: map[string]int{}, off: map[string]bool{}, gone: map[string]bool{}}
	s.vault = emulatortest.Start(t, `
principals: [{ name: node, clientId: 22222222-2222-4222-8222-222222222222, secrets: [c4n4ry-client-secret] }]
vaults: [{ name: my-kv, limit: {}, permissions: [{ principal: node, roles: [Key Vault Secrets User] }] }]
`)
	// A clock that is wrong all the time; one that goes back is none.
	s.vault.SetClock("my-kv", time.Duration(random.IntN(600)-300)*time.Second)
	azureJSON := filepath.Join(t.TempDir(), "azure.json")
	text := fmt.Sprintf(`{"tenantId": %q, "aadClientId": "22222222-2222-4222-8222-222222222222", "aadClientSecret": "c4n4ry-client-secret"}`, tenant)
	if err := os.WriteFile(azureJSON, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.startAgain = func() *replica {
		return start(t, s.vault.ProxyURL, []string{"CA_BUNDLE=" + s.vault.CAFile, "RUNTIME_NAMESPACE=" + s.namespace},
			"--cloudconfig="+azureJSON, "--watch-all-namespaces=false", "--leader-election-id=soak", "--azure-resync-period=2", "--log-level=info")
	}
	s.mayElect(t)
	for i := range soakObjects {
		name := "object-" + strconv.Itoa(i)
		s.change(name)
		s.apply(t, name, func(spec *v2beta1.AzureKeyVaultSecretSpec) { spec.Output.Secret.Name = name })
	}
	for i := range s.replicas {
		s.replicas[i] = s.startAgain()
	}
	for name, n := range s.counts {
		s.equals(t, name, n)
	}
	return s
}

// mayElect gives the Controllers a Lease of their own: the chart's is another story's.
func (s *soak) mayElect(t *testing.T) {
	t.Helper()
	role := &rbacv1.Role{Rules: []rbacv1.PolicyRule{{
		APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get", "create", "update", "patch"},
	}}}
	binding := &rbacv1.RoleBinding{
		Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: account}},
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "elects"},
	}
	for _, object := range []client.Object{role, binding} {
		object.SetNamespace(s.namespace)
		object.SetName("elects")
		if err := admin.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
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
	switch n := s.random.IntN(1000); {
	case n < 650:
		s.happens("object-" + strconv.Itoa(s.random.IntN(soakObjects)))
	case n < 800:
		s.faults++
		s.vault.SetFaults("my-kv", s.fault(seed.FaultKinds()))
	case n < 840:
		s.faults++
		s.vault.SetSignInFaults(s.fault(seed.SignInFaultKinds()))
		s.vault.Emulator.Authority.RevokeTokens() // or nobody signs in for an hour
	case n < 998:
		s.vault.SetFaults("my-kv")
		s.vault.SetSignInFaults()
	default:
		s.kills++
		i := s.random.IntN(len(s.replicas))
		if err := s.replicas[i].cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = s.replicas[i].cmd.Wait()
		s.replicas[i] = s.startAgain()
	}
}

// happens is what people do to an object. One that is disabled or deleted is so for a
// while, and then back with a new value or the old one.
func (s *soak) happens(name string) {
	whim := s.random.IntN(20)
	switch {
	case s.gone[name]:
		s.gone[name] = false
		s.vault.Recover("my-kv", "secrets", name)
	case s.off[name]:
		s.off[name] = false
		s.vault.SetEnabled("my-kv", "secrets", name, true)
	case whim == 0:
		s.gone[name] = true
		s.vault.Delete("my-kv", "secrets", name)
	case whim == 1:
		s.off[name] = true
		s.vault.SetEnabled("my-kv", "secrets", name, false)
	default:
		s.change(name)
	}
}

// fault is one of these kinds, of all requests or some.
func (s *soak) fault(kinds []seed.FaultKind) seed.Fault {
	f := seed.Fault{Kind: kinds[s.random.IntN(len(kinds))]}
	if s.random.IntN(2) == 0 {
		f.Probability = 0.3
	}
	switch f.Kind { //nolint:exhaustive // the others take nothing
	case seed.FaultThrottle:
		f.RetryAfter = s.random.IntN(2)
	case seed.FaultError:
		f.Status = 500 + s.random.IntN(5)
	case seed.FaultLatency, seed.FaultSlow:
		f.Latency = seed.Duration(time.Duration(1+s.random.IntN(500)) * time.Millisecond)
	case seed.FaultForbid:
		if s.random.IntN(2) == 0 {
			f.Operations = []string{"secrets/list"}
		}
	}
	return f
}

// calm is the end of all that is wrong.
func (s *soak) calm() {
	s.vault.SetFaults("my-kv")
	s.vault.SetSignInFaults()
	for name, gone := range s.gone {
		if gone {
			s.vault.Recover("my-kv", "secrets", name)
		}
	}
	for name, off := range s.off {
		if off {
			s.vault.SetEnabled("my-kv", "secrets", name, true)
		}
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
