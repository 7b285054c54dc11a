// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/akv2k8s/akv2k8s/test/harness"
)

// The article's own manifests.
var (
	//go:embed manifests/injection-akvs.yaml
	akvsWithoutOutput string
	//go:embed manifests/sync-akvs.yaml
	akvsWithOutput string
	//go:embed manifests/pod.yaml
	podManifest string
)

const (
	vaultName   = "my-kv"
	certificate = "test-cert"
	akvsName    = "my-first-azure-keyvault-certificate"
	secretName  = "keyvault-certificate"
	podName     = "my-pod"
	optIn       = "azure-key-vault-env-injection=enabled"

	// refresh is how often the Controller reads the vault, in seconds: often enough
	// for somebody who is watching.
	refresh = "10"

	// patience bounds every wait: far more than a refresh interval and a pod
	// start, so that only something broken runs into it.
	patience = 2 * time.Minute
)

type demo struct {
	*story
	cluster *harness.Cluster
	images  harness.Images
	image   string // of the example pod
	look    string // where to look if the step at hand fails
}

func (d *demo) play(ctx context.Context) error {
	d.chapter("Azure Key Vault to Kubernetes")
	d.look = "the log named above, or test/cluster/README.md"
	if err := d.cluster.Up(ctx); err != nil {
		return err
	}
	d.look = "test/cluster/kubectl get pods,events -A (KEEP=1 keeps the cluster)"
	if err := d.cluster.Install(ctx, d.images, "--set", "azureKeyVaultResyncPeriod="+refresh); err != nil {
		return err
	}
	d.proved("installed: the vault is read every %s s here (30 s by default)", refresh)
	for _, scene := range []func(context.Context) error{
		d.inject, d.placeholdersOnly, d.application, d.nowhereInEtcd, d.sync, d.foundInEtcd, d.rotate,
	} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	return nil
}

// inject is the Env Injector's example.
func (d *demo) inject(ctx context.Context) error {
	d.chapter("Env Injector: the value exists in the application only")
	d.look = "kubectl describe pod " + podName + "; kubectl logs -n akv2k8s deploy/akv2k8s-broker"
	d.step("Name the vault's certificate, and let the namespace's pods use it.")
	d.typed("kubectl apply -f akvs.yaml")
	d.shown(akvsWithoutOutput, 12)
	if _, err := d.cluster.Kubectl(ctx, akvsWithoutOutput, "apply", "-f", "-"); err != nil {
		return err
	}
	d.typed("kubectl label namespace default " + optIn)
	if _, err := d.cluster.Kubectl(ctx, "", "label", "namespace", "default", optIn, "--overwrite"); err != nil {
		return err
	}
	d.step("Start a pod whose environment holds placeholders.")
	d.typed("kubectl apply -f pod.yaml")
	if _, err := d.cluster.Kubectl(ctx, strings.ReplaceAll(podManifest, "IMAGE", d.image), "apply", "-f", "-"); err != nil {
		return err
	}
	if _, err := d.cluster.Kubectl(ctx, "", "wait", "--for=condition=Ready", "pod/"+podName, "--timeout", patience.String()); err != nil {
		return err
	}
	d.proved("the pod runs")
	return nil
}

func (d *demo) placeholdersOnly(ctx context.Context) error {
	d.step("What Kubernetes and its users see: the placeholders.")
	views := []struct {
		typed string
		args  []string
	}{
		{"kubectl get pod my-pod -o yaml | grep -A1 'name: MY_'", []string{"get", "pod", podName, "-o", "yaml"}},
		{"kubectl exec my-pod -- env | grep MY_", []string{"exec", podName, "-c", "alpine", "--", "env"}},
	}
	held, err := d.cluster.Vault().Certificate(ctx, vaultName, certificate)
	if err != nil {
		return err
	}
	for _, view := range views {
		d.typed(view.typed)
		text, err := d.cluster.Kubectl(ctx, "", view.args...)
		if err != nil {
			return err
		}
		var mine []string
		for line := range strings.Lines(text) {
			if about := strings.Contains(line, "MY_") || strings.Contains(line, "@azurekeyvault"); about && !strings.Contains(line, "printf") {
				mine = append(mine, strings.TrimRight(line, "\n"))
			}
		}
		d.shown(strings.Join(mine, "\n"), 6)
		if !strings.Contains(text, akvsName+"@azurekeyvault?tls.key") {
			return errors.New("the placeholder is not where it should be")
		}
		if found := needles(held).in([]byte(text)); found != "" {
			return fmt.Errorf("the private key is visible, %s", found)
		}
	}
	d.proved("placeholders only")
	return nil
}

func (d *demo) application(ctx context.Context) error {
	d.step("What the application got: the exact bytes. It prints their SHA-256.")
	held, err := d.cluster.Vault().Certificate(ctx, vaultName, certificate)
	if err != nil {
		return err
	}
	want, err := digests(held)
	if err != nil {
		return err
	}
	d.typed("kubectl logs my-pod")
	logs, err := d.cluster.Kubectl(ctx, "", "logs", podName, "-c", "alpine")
	if err != nil {
		return err
	}
	d.shown(logs, 4)
	for name, digest := range want {
		if !strings.Contains(logs, name+" "+digest) && !strings.Contains(logs, name+"  "+digest) {
			return fmt.Errorf("%s in the application is not what the vault holds: SHA-256 there is %s", name, digest)
		}
		d.proved("%s: the vault's has SHA-256 %s… too", name, digest[:16])
	}
	return nil
}

func (d *demo) nowhereInEtcd(ctx context.Context) error {
	d.step("Search etcd's files, database and log, for the private key: as it is, in base64, escaped as in JSON.")
	found, err := d.search(ctx)
	if err != nil || found == "skipped" {
		return err
	}
	if found != "" {
		return fmt.Errorf("the private key is in etcd: %s", found)
	}
	d.proved("the private key is nowhere in etcd")
	return nil
}

// sync is the Controller's example.
func (d *demo) sync(ctx context.Context) error {
	d.chapter("Controller: a native Secret, kept equal to the vault")
	d.look = "kubectl describe akvs " + akvsName + "; kubectl logs -n akv2k8s deploy/akv2k8s-controller"
	d.step("The same resource, now with an output.")
	d.typed("kubectl apply -f akvs.yaml")
	_, output, _ := strings.Cut(akvsWithOutput, "test-cert\n")
	d.shown(output, 6)
	if _, err := d.cluster.Kubectl(ctx, akvsWithOutput, "apply", "-f", "-"); err != nil {
		return err
	}
	if err := d.follows(ctx); err != nil {
		return err
	}
	d.typed("kubectl get akvs")
	if text, err := d.cluster.Kubectl(ctx, "", "get", "akvs"); err == nil {
		d.shown(text, 4)
	}
	d.typed("kubectl get secret " + secretName)
	if text, err := d.cluster.Kubectl(ctx, "", "get", "secret", secretName); err == nil {
		d.shown(text, 4)
	}
	d.proved("the Secret is of type kubernetes.io/tls and holds the vault's certificate and key")
	return nil
}

func (d *demo) foundInEtcd(ctx context.Context) error {
	d.step("The same search of etcd: a Secret is stored there, so now it must find the key.")
	found, err := d.search(ctx)
	if err != nil || found == "skipped" {
		return err
	}
	if found == "" {
		return errors.New("the search does not find the key that is there: it proves nothing")
	}
	d.proved("found, %s: the search works, and shows what the Env Injector avoids", found)
	return nil
}

func (d *demo) rotate(ctx context.Context) error {
	d.step("Rotate the certificate in the vault.")
	d.typed("az keyvault certificate create --vault-name my-kv --name test-cert --policy …   # a new version, with a new key")
	before, err := d.cluster.Vault().Certificate(ctx, vaultName, certificate)
	if err != nil {
		return err
	}
	if err := d.cluster.Vault().Rotate(ctx, vaultName, certificate); err != nil {
		return err
	}
	after, err := d.cluster.Vault().Certificate(ctx, vaultName, certificate)
	if err != nil {
		return err
	}
	if before.Version == after.Version {
		return errors.New("the vault did not rotate the certificate")
	}
	d.shown("thumbprint "+before.Thumbprint+" → "+after.Thumbprint, 2)
	rotated := time.Now()
	if err := d.follows(ctx); err != nil {
		return err
	}
	d.proved("the Secret followed after %s, without anybody touching it", time.Since(rotated).Round(time.Second))
	return nil
}
