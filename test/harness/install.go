// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// Where things are on the cluster.
const (
	Namespace         = "akv2k8s"
	EmulatorNamespace = "keyvault-emulator"
	emulator          = "keyvault-emulator"
	release           = "akv2k8s"

	// registry is how the test cluster's own network and pods know its registry.
	registry = "registry.localhost:5000/akv2k8s"
	// installTimeout is generous: the first pods wait for each other's
	// certificates.
	installTimeout = "180s"
)

//go:embed emulator-values.yaml
var emulatorValues string

// azureJSON is the node's file, as AKS writes it, for the emulator's principal.
const azureJSON = `{
  "cloud": "AzurePublicCloud",
  "tenantId": "00000000-0000-4000-8000-0000000000aa",
  "aadClientId": "00000000-0000-4000-8000-0000000000c1",
  "aadClientSecret": "vX7~qL0wTz3RkYb9NfHs5JdPm2CgUe8AoW1iVtB6",
  "useManagedIdentityExtension": false
}
`

// Images says where the images of this checkout go.
type Images struct {
	Registry string // where to push; empty is the test cluster's own registry
}

// Install builds the images, puts the emulator in the place of Azure and
// installs the chart, or upgrades both. Extra is passed to helm for the product's
// chart.
func (c *Cluster) Install(ctx context.Context, images Images, extra ...string) error {
	helm, err := c.helm(ctx)
	if err != nil {
		return err
	}
	values, err := c.images(ctx, images)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(values) }()
	if err := c.namespaces(ctx); err != nil {
		return err
	}
	if err := c.azureJSON(ctx); err != nil {
		return err
	}
	seed := filepath.Join(values, "seed.yaml")
	if err := os.WriteFile(seed, []byte(emulatorValues), 0o600); err != nil {
		return err
	}
	c.say("installing the emulator in the place of Azure")
	if err := c.quietly(c.Command(ctx, helm, "upgrade", "--install", emulator, "charts/keyvault-emulator", "--namespace", EmulatorNamespace,
		"--values", seed, "--values", filepath.Join(values, "keyvault-emulator.yaml"), "--wait", "--timeout", installTimeout)); err != nil {
		return err
	}
	c.say("installing the chart")
	args := append([]string{
		"upgrade", "--install", release, "charts/akv2k8s", "--namespace", Namespace,
		"--values", filepath.Join(values, "akv2k8s.yaml"), "--wait", "--timeout", installTimeout,
	}, c.network()...)
	return c.quietly(c.Command(ctx, helm, append(args, extra...)...))
}

// network makes the product reach the emulator under Azure's own names.
func (c *Cluster) network() []string {
	proxy := fmt.Sprintf("http://%s.%s.svc:8080", emulator, EmulatorNamespace)
	args := []string{
		"--set", "global.proxy.http=" + proxy,
		"--set", "global.proxy.https=" + proxy,
		"--set", "global.proxy.no=registry.localhost",
		"--set", "env_injector.registry.insecureRegistries={" + Registry + "}", // it speaks plain HTTP
		"--set", "global.caBundle.configMap.name=" + emulator + "-ca",
	}
	if !c.Local() { // another cluster's node is not ours to write to
		args = append(args, "--set", "cloudConfigFrom.secret.name=azure-json")
	}
	return args
}

// helm is the version that the tools module pins, as a file.
func (c *Cluster) helm(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "tool", "-modfile=go.tools.mod", "-n", "helm")
	cmd.Dir = c.root
	out, err := c.output(cmd, "")
	return strings.TrimSpace(out), err
}

// images builds the images and pushes them; it returns a directory with values
// for the charts that name exactly these.
func (c *Cluster) images(ctx context.Context, images Images) (string, error) {
	dir, err := os.MkdirTemp("", "akv2k8s-")
	if err != nil {
		return "", err
	}
	builder := filepath.Join(dir, "images")
	c.say("building the images")
	if err := c.quietly(exec.CommandContext(ctx, "go", "build", "-o", builder, "./internal/release/images")); err != nil {
		return dir, err
	}
	platform := "linux/" + runtime.GOARCH
	if c.current {
		if images.Registry == "" {
			return dir, fmt.Errorf("set REGISTRY to a registry that this machine may push to and the cluster pulls from, such as REGISTRY=registry.example/team")
		}
		return dir, c.quietly(exec.CommandContext(ctx, builder, "-registry", images.Registry, "-values-out", dir))
	}
	// Compile where the module proxy can be reached, push where the registry can.
	if err := c.quietly(exec.CommandContext(ctx, builder, "-registry", registry, "-platform", platform,
		"-push=false", "-layout", filepath.Join(dir, "layout"))); err != nil {
		return dir, err
	}
	return dir, c.quietly(c.Command(ctx, builder, "-registry", registry, "-platform", platform, "-insecure", "-values-out", dir))
}

func (c *Cluster) namespaces(ctx context.Context) error {
	for _, name := range []string{Namespace, EmulatorNamespace} {
		manifest := fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: %s\n", name)
		if _, err := c.Kubectl(ctx, manifest, "apply", "-f", "-"); err != nil {
			return err
		}
	}
	return nil
}

// azureJSON puts the node's file where AKS has it, readable by root alone; on a
// cluster whose node is not ours a Secret takes its place.
func (c *Cluster) azureJSON(ctx context.Context) error {
	if c.current {
		manifest := "apiVersion: v1\nkind: Secret\nmetadata:\n  name: azure-json\n  namespace: " + Namespace +
			"\nstringData:\n  azure.json: |\n    " + strings.ReplaceAll(azureJSON, "\n", "\n    ") + "\n"
		_, err := c.Kubectl(ctx, manifest, "apply", "-f", "-")
		return err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(c.root, "test/cluster/run"), "--node", "sh", "-c",
		"mkdir -p /etc/kubernetes && umask 077 && cat >/etc/kubernetes/azure.json")
	_, err := c.output(cmd, azureJSON)
	return err
}

func (c *Cluster) say(what string) { _, _ = fmt.Fprintln(c.log, what) }

// quietly runs a command whose output matters only when it fails.
func (c *Cluster) quietly(cmd *exec.Cmd) error {
	cmd.Dir = c.root
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return nil
}

// Uninstall removes both releases and their namespaces. The CRD stays, as the
// chart promises.
func (c *Cluster) Uninstall(ctx context.Context) error {
	helm, err := c.helm(ctx)
	if err != nil {
		return err
	}
	if err := c.quietly(c.Command(ctx, helm, "uninstall", release, "--namespace", Namespace, "--ignore-not-found")); err != nil {
		return err
	}
	if err := c.quietly(c.Command(ctx, helm, "uninstall", emulator, "--namespace", EmulatorNamespace, "--ignore-not-found")); err != nil {
		return err
	}
	_, err = c.Kubectl(ctx, "", "delete", "namespace", Namespace, EmulatorNamespace, "--wait=false")
	return err
}
