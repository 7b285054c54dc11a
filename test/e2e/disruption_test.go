// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/akv2k8s/akv2k8s/test/harness"
)

// What happens to the installation as a whole; one after the other.
var disruptionStories = []tale{
	{"MetricsTellOfAllOfIt", metricsTellOfAllOfIt},
	{"AnotherControllerTakesOver", anotherControllerTakesOver},
	{"AStopOfTheControllerLosesNothing", aStopOfTheControllerLosesNothing},
	{"RotationUnderLoad", rotationUnderLoad}, // before a hundred pods keep the node busy, and be it with their end
	{"InjectorPodsAreReplaced", injectorPodsAreReplaced},
	{"ACrashUnderLoad", aCrashUnderLoad},
	{"NoBroker", noBroker},
	{"NoWebhook", noWebhook},
	{"CertificatesAreRenewedWithoutRestart", certificatesAreRenewedWithoutRestart},
}

// product runs kubectl in the release's namespace.
func (s *story) product(args ...string) string {
	s.Helper()
	return s.kubectl(append([]string{"-n", harness.Namespace}, args...)...)
}

func (s *story) scale(component string, replicas int) {
	s.Helper()
	name := "deployment/" + harness.Release + "-" + component
	s.product("scale", name, fmt.Sprintf("--replicas=%d", replicas))
	if replicas > 0 {
		s.product("rollout", "status", name, "--timeout="+patience.String())
		return
	}
	s.product("wait", "--for=delete", "pod", "-l", "app.kubernetes.io/component="+component, "--timeout="+patience.String())
}

// metricsTellOfAllOfIt comes after the stories that were told side by side, and
// keeps the metrics for the last story, since these pods will not last that long.
func metricsTellOfAllOfIt(s *story) {
	var all strings.Builder
	for _, h := range metrics(s) {
		fmt.Fprintf(&all, "# %s\n%s\n", h.name, h.data)
	}
	s.keep("metrics.txt", all.String())
	for _, name := range []string{
		"akv2k8s_syncs_total", "akv2k8s_syncs_failed_total", "akv2k8s_vault_read_duration_seconds_count",
		"akv2k8s_broker_requests_total", "akv2k8s_admission_duration_seconds_count", "akv2k8s_certificate_end_seconds",
	} {
		if !regexp.MustCompile(`(?m)^` + name + `(\{.*\})? [1-9]`).MatchString(all.String()) {
			s.Errorf("%s is not above zero anywhere", name)
		}
	}
}

// anotherControllerTakesOver when the leader is killed, without a word.
func anotherControllerTakesOver(s *story) {
	s.reach = inSecret
	value := s.secret("it")
	s.akvs("it", "secret", "it", opaque("out"))
	s.becomes("out", "value", value)
	holder := func() string {
		return s.product("get", "lease", harness.Release+"-controller", "-o", "jsonpath={.spec.holderIdentity}")
	}
	before := holder()
	leader, _, _ := strings.Cut(before, "_")
	s.killed(leader, "azure-keyvault-controller")
	s.eventually("another should lead", func() error {
		if holder() == before {
			return errors.New("it is the same")
		}
		return nil
	})
	s.becomes("out", "value", s.secret("it"))
	s.product("rollout", "status", "deployment/"+harness.Release+"-controller", "--timeout="+patience.String())
}

// killed ends a program in one of the product's pods without a word.
func (s *story) killed(pod, program string) {
	s.Helper()
	s.kill(harness.Namespace, pod, program)
}

// kill ends a program in any pod.
func (s *story) kill(namespace, pod, program string) {
	s.Helper()
	s.signal("KILL", s.kubectl("-n", namespace, "get", "pod", pod, "-o", "jsonpath={.metadata.uid}"), program)
}

// signal sends one to the processes of a pod that have a word in their arguments.
func (s *story) signal(name, uid, word string) {
	s.Helper()
	_, err := the.OnNode(s.Context(), "", "sh", "-c", `
		for p in $(grep -l '`+uid+`' /proc/[0-9]*/cgroup | cut -d/ -f3); do
			! grep -q `+word+` /proc/$p/cmdline || kill -`+name+` $p
		done`)
	s.ok(err)
}

func aStopOfTheControllerLosesNothing(s *story) {
	s.reach = inSecret
	values := map[string]string{}
	for _, name := range []string{"same", "changed", "dropped"} {
		values[name] = s.secret(name)
		s.akvs(name, "secret", name, opaque(name))
	}
	for name, value := range values {
		s.becomes(name, "value", value)
	}
	before := s.output("same")
	s.scale("controller", 0)
	next := s.secret("changed")
	s.kubectl("delete", "akvs", "dropped")
	s.wait("delete", "secret/dropped")
	s.scale("controller", 2)
	s.becomes("changed", "value", next)
	if after := s.output("same"); after.Metadata != before.Metadata {
		s.Error("a start of the Controller touched an output that was right")
	}
}

// injectorPodsAreReplaced while a hundred containers start: brokers are killed, one
// after another, and no container has to start twice for it.
func injectorPodsAreReplaced(s *story) {
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	s.apply(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: many}
spec:
  replicas: 100
  selector: {matchLabels: {app: many}}
  template:
    metadata: {labels: {app: many}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: app
        image: ` + appImage + `
        command: [/app, report]
        env: [{name: VALUE, value: it@azurekeyvault}]
`)
	s.product("delete", "pod", podsOf(s, "env-injector")[0], "--wait=false")
	killed := 0
	for deadline := time.Now().Add(3 * patience); s.kubectl("get", "deployment", "many", "-o", "jsonpath={.status.readyReplicas}") != "100"; killed++ {
		if time.Now().After(deadline) {
			s.Fatalf("not all have started: %s", s.kubectl("get", "deployment", "many"))
		}
		oldest := s.product("get", "pods", "-l", "app.kubernetes.io/component=broker", "--field-selector", "status.phase=Running",
			"--sort-by=.metadata.creationTimestamp", "-o", "jsonpath={.items[0].metadata.name}")
		s.product("delete", "pod", oldest, "--grace-period=0", "--force")
		s.product("rollout", "status", "deployment/"+harness.Release+"-broker", "--timeout="+patience.String())
	}
	s.Logf("%d brokers were killed", killed)
	if killed < 3 {
		s.Errorf("only %d brokers were killed: that proves little", killed)
	}
	restarts := s.kubectl("get", "pods", "-l", "app=many", "-o", "jsonpath={.items[*].status.containerStatuses[0].restartCount}")
	if strings.Trim(restarts, "0 ") != "" {
		s.Errorf("containers were restarted: %s", restarts)
	}
	reports := s.kubectl("logs", "-l", "app=many", "-c", "app", "--tail=-1", "--max-log-requests=100")
	if got := strings.Count(reports, digest(value)); got != 100 {
		s.Errorf("%d programs have the value", got)
	}
	s.product("rollout", "status", "deployment/"+harness.Release+"-env-injector", "--timeout="+patience.String())
}

func noBroker(s *story) {
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	s.scale("broker", 0)
	s.Cleanup(func() {
		_, _ = the.Kubectl(s.afterwards(), "", "-n", harness.Namespace, "scale", "deployment/"+harness.Release+"-broker", "--replicas=2")
	})
	s.apply(doomed("lost", "it@azurekeyvault"))
	s.apply(pod(usual + `
    - {name: ENV_INJECTOR_RETRIES, value: "10"}
    - {name: ENV_INJECTOR_WAIT_BEFORE_RETRY, value: "1"}
`))
	s.failed("lost", "125", "the broker did not answer", "azure-keyvault-broker")
	s.scale("broker", 2)
	s.wait("condition=Ready", "pod/app")
	s.got(s.reported("app", "app"), map[string]string{"VALUE": value})
}

func noWebhook(s *story) {
	s.secret("it")
	s.akvs("it", "secret", "it", "")
	s.scale("env-injector", 0)
	s.Cleanup(func() {
		_, _ = the.Kubectl(s.afterwards(), "", "-n", harness.Namespace, "scale", "deployment/"+harness.Release+"-env-injector", "--replicas=2")
	})
	if message := s.applyFails(pod(usual)); !strings.Contains(message, "pods.env-injector.admission.spv.no") {
		s.Errorf("%q does not name the webhook", message)
	}
	plain := strings.Replace(pod(strings.Replace(usual, "it@azurekeyvault", "plain", 1)), "name: app}", "name: plain}", 1)
	s.apply(plain) // pods without a placeholder do not wait for us
	s.wait("condition=Ready", "pod/plain")
	s.scale("env-injector", 2)
	s.eventually("pods should be admitted again", func() error {
		_, err := s.try(pod(usual), "apply", "-f", "-")
		return err
	})
	s.wait("condition=Ready", "pod/app")
}

// certificatesAreRenewedWithoutRestart forces what time would bring: a new
// authority, and new certificates for webhook and broker. A pod of before, which
// trusts the old authority alone, starts its container again.
func certificatesAreRenewedWithoutRestart(s *story) {
	value := s.secret("it")
	s.akvs("it", "secret", "it", "")
	s.apply(strings.Replace(pod(usual), "name: app}", "name: old}", 1))
	s.wait("condition=Ready", "pod/old")
	beforePods, beforeServed := s.productPods(), s.served()
	s.newAuthority()
	s.eventually("every broker should serve a new certificate", func() error {
		for ip, served := range s.served() {
			if served == beforeServed[ip] {
				return fmt.Errorf("%s serves the same", ip)
			}
		}
		return nil
	})
	s.eventually("pods should be admitted", func() error {
		_, err := s.try(pod(usual), "apply", "-f", "-")
		return err
	})
	s.wait("condition=Ready", "pod/app")
	s.got(s.reported("app", "app"), map[string]string{"VALUE": value})
	if s.trusted("old") == s.trusted("app") {
		s.Error("the pod of before trusts the new authority")
	}
	s.kill(s.ns, "old", "/app")
	s.wait("jsonpath={.status.containerStatuses[0].restartCount}=1", "pod/old")
	s.wait("condition=Ready", "pod/old")
	s.got(s.reported("old", "app"), map[string]string{"VALUE": value})
	if after := s.productPods(); after != beforePods {
		s.Errorf("pods were restarted: before\n%safter\n%s", beforePods, after)
	}
}

// productPods are the product's pods, but for those that are on their way out.
func (s *story) productPods() string {
	s.Helper()
	return s.product("get", "pods", "--sort-by=.metadata.name", "-o",
		`go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}} {{(index .status.containerStatuses 0).restartCount}}{{"\n"}}{{end}}{{end}}`)
}

// bundle is what the API server trusts the webhook by.
func (s *story) bundle() string {
	s.Helper()
	return s.kubectl("get", "mutatingwebhookconfiguration", harness.Release+"-env-injector", "-o", "jsonpath={.webhooks[0].clientConfig.caBundle}")
}

// trusted is whom the wrapper of a pod trusts.
func (s *story) trusted(pod string) string {
	s.Helper()
	return s.kubectl("get", "pod", pod, "-o", `jsonpath={.spec.containers[0].env[?(@.name=="ENV_INJECTOR_BROKER_CA")].value}`)
}

// served are the certificates of all brokers by address.
func (s *story) served() map[string]string {
	s.Helper()
	out := map[string]string{}
	for ip := range strings.FieldsSeq(s.product("get", "pods", "-l", "app.kubernetes.io/component=broker", "-o", "jsonpath={.items[*].status.podIP}")) {
		text, err := the.Run(s.Context(), "", "curl", "-sSk", "-o", "/dev/null", "-w", "%{certs}", "https://"+ip+":9443/")
		s.ok(err)
		out[ip] = text
	}
	return out
}
