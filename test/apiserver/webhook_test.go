// SPDX-License-Identifier: Apache-2.0

package apiserver_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// webhookRuns starts two replicas of the program with the chart's rights and
// variables. Both get ready, with one authority between them, and end in order.
func webhookRuns(t *testing.T, registration *admissionv1.MutatingWebhookConfiguration) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "azure-keyvault-secrets-webhook")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../../cmd/azure-keyvault-secrets-webhook").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	config := kubeconfigAs(t, webhookAccount)
	one, onePort := startWebhook(t, binary, config)
	other, otherPort := startWebhook(t, binary, config)
	one.ready(t)
	other.ready(t)
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(registration), registration); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(registration.Webhooks[0].ClientConfig.CABundle)
	for _, port := range []string{onePort, otherPort} {
		conn, err := tls.Dial("tcp", net.JoinHostPort("127.0.0.1", port), &tls.Config{
			RootCAs: roots, ServerName: "akv2k8s-env-injector." + chartNS + ".svc", MinVersion: tls.VersionTLS12,
		})
		if err != nil {
			t.Fatalf("the API server would not trust it: %v", err)
		}
		_ = conn.Close()
	}
	brokerIsGiven(t, roots)
	if _, body := one.get(t, "/metrics"); !strings.Contains(body, `akv2k8s_certificate_end_seconds{certificate="serving"}`) {
		t.Error("no metrics of its own")
	}
	// One that is told of no broker waits for none.
	alone, _ := startWebhook(t, binary, config, "AUTH_SERVICE=false", "AZUREKEYVAULT_ENV_DIRECT_IMAGE=registry.example/azure-keyvault-env-direct:1",
		"BROKER_SERVICE=", "BROKER_TLS_SECRET=", "AZUREKEYVAULT_ENV_IMAGE=")
	alone.ready(t)
	if _, body := alone.get(t, "/readyz"); strings.Contains(body, "broker") {
		t.Errorf("without a broker it looks for one: %s", body)
	}
	one.stop(t)
	other.stop(t)
	alone.stop(t)
	keysStayHidden(t, one.stderr.String()+other.stderr.String())
}

// brokerIsGiven: the chart's Secret holds what the broker serves with.
func brokerIsGiven(t *testing.T, roots *x509.CertPool) {
	t.Helper()
	var s corev1.Secret
	if err := admin.Get(t.Context(), client.ObjectKey{Namespace: chartNS, Name: "akv2k8s-broker-tls"}, &s); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(s.Data["tls.crt"], s.Data["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "akv2k8s-broker." + chartNS + ".svc"}); err != nil {
		t.Errorf("pods would not trust it: %v", err)
	}
}

// keysStayHidden goes by every line of both private keys.
func keysStayHidden(t *testing.T, log string) {
	t.Helper()
	for _, name := range []string{"akv2k8s-ca", "akv2k8s-broker-tls"} {
		var s corev1.Secret
		if err := admin.Get(t.Context(), client.ObjectKey{Namespace: chartNS, Name: name}, &s); err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(string(s.Data["tls.key"]), "\n") {
			if len(line) > 12 && !strings.HasPrefix(line, "-----") && strings.Contains(log, line[:12]) {
				t.Errorf("the log holds the key of %s", name)
			}
		}
	}
}

// startWebhook runs one replica and returns the port that the API server would
// call.
func startWebhook(t *testing.T, binary, kubeconfig string, variables ...string) (*replica, string) {
	t.Helper()
	http, https := freePort(t), freePort(t)
	r := &replica{url: "http://127.0.0.1:" + http, stderr: &output{}}
	r.cmd = exec.CommandContext(t.Context(), binary, "--kubeconfig="+kubeconfig, "--log-level=debug", "--drain-time=0")
	r.cmd.Env = append([]string{
		"HTTP_PORT=" + http, "TLS_PORT=" + https, "POD_NAMESPACE=" + chartNS,
		"WEBHOOK_SERVICE=akv2k8s-env-injector", "WEBHOOK_CONFIGURATION=akv2k8s-env-injector", "ADVICE_CONFIGURATION=akv2k8s-env-injector", "BROKER_SERVICE=akv2k8s-broker",
		"CA_SECRET=akv2k8s-ca", "BROKER_TLS_SECRET=akv2k8s-broker-tls", "AZUREKEYVAULT_ENV_IMAGE=registry.example/azure-keyvault-env:1",
	}, variables...)
	r.cmd.Stderr = r.stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.cmd.ProcessState == nil {
			_ = r.cmd.Process.Kill()
			_ = r.cmd.Wait()
		}
		if t.Failed() {
			t.Logf("%s\n%s", r.url, r.stderr)
		}
	})
	return r, https
}

// kubeconfigAs is a kubeconfig file with the rights of a user.
func kubeconfigAs(t *testing.T, user string) string {
	t.Helper()
	config, err := clientcmd.Load(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range config.AuthInfos {
		info.Impersonate, info.ImpersonateGroups = user, []string{"system:serviceaccounts", "system:authenticated"}
	}
	text, err := clientcmd.Write(*config)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(fmt.Errorf("writing a kubeconfig: %w", err))
	}
	return file
}
