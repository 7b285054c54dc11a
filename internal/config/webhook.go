// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// minLeafLife leaves the kubelet, which takes up to two minutes to bring a new
// certificate to the broker, a third of this.
const minLeafLife = 10 * time.Minute

// Webhook is the configuration of azure-keyvault-secrets-webhook.
type Webhook struct {
	Log Log

	Kubeconfig string // file; empty is the pod's own account
	Master     string // address of the API server; empty is the kubeconfig's

	TLSPort   int           // of POST /pods
	HTTPPort  int           // of /healthz, /readyz and /metrics
	DrainTime time.Duration // how long to answer still after a stop was asked for

	Namespace       string // of this pod, its Services and its Secrets
	Service         string // that the API server calls
	Registration    string // MutatingWebhookConfiguration that names the Service
	Advice          string // ValidatingWebhookConfiguration that does, for warnings and the exec guard; empty if there is none
	AuthService     bool   // there is a broker; without one every pod reads its vaults itself
	BrokerService   string
	AuthoritySecret string
	BrokerSecret    string
	LeafLife        time.Duration // of serving certificates

	EnvImage   string // that holds the wrapper
	PullPolicy string // of that image
	Delivery   string // auto, initContainer or imageVolume
	Installer  InstallerResources
	Direct     Direct

	ReadConfigMaps bool // that env and envFrom of a pod's containers name
	ReadSecrets    bool // likewise

	BreakGlassGroups []string // may get into guarded containers

	Registries Registries
	CABundle   string // PEM file of authorities to trust besides the usual ones; empty adds none

	Version bool // print the version and end
}

// Direct is what pods get that read their vaults themselves.
type Direct struct {
	Image       string // that holds their program; empty serves none of them
	PullPolicy  string // of that image
	TenantID    string // of identities whose service account names none
	Environment string // name of the cloud; empty is the public one
	VaultSuffix string // DNS suffix of the vaults; empty is the cloud's
}

// InstallerResources are those of the container that copies the wrapper, as
// Kubernetes quantities; empty sets none.
type InstallerResources struct{ RequestsCPU, RequestsMemory, LimitsCPU, LimitsMemory string }

// ParseWebhook reads the webhook's flags, then its environment. Help and the
// flags' own complaints go to output.
func ParseWebhook(args []string, getenv func(string) string, output io.Writer) (Webhook, error) {
	var w Webhook
	o := newOptions("azure-keyvault-secrets-webhook",
		"azure-keyvault-secrets-webhook makes pods with placeholders start with the values from Azure Key Vault.", output)
	w.declareCluster(o)
	w.declareInjection(o)
	groups := ""
	o.text(&groups, "exec-guard-groups", "EXEC_GUARD_GROUPS", "", "groups, one a line, that the refusal of kubectl exec in a guarded namespace names as excepted from it")
	w.Registries.declare(o)
	o.text(&w.CABundle, "ca-bundle", "CA_BUNDLE", "", "PEM file of certificate authorities to trust besides the usual ones, for a registry or proxy of your own")
	w.Log.declare(o)
	o.boolean(&w.Version, "version", "", false, "print the version and end")
	if err := o.parse(args, getenv); err != nil {
		return Webhook{}, err
	}
	if groups != "" {
		w.BreakGlassGroups = strings.Split(groups, "\n")
	}
	if w.Version {
		return w, nil
	}
	return w, w.validate()
}

func (w *Webhook) declareCluster(o *options) {
	o.text(&w.Kubeconfig, "kubeconfig", "KUBECONFIG", "", "kubeconfig file, to run outside of a cluster")
	o.text(&w.Master, "master", "", "", "address of the API server, when the kubeconfig's does not fit")
	o.integer(&w.TLSPort, "tls-port", "TLS_PORT", 8443, "port for the API server, with TLS")
	o.integer(&w.HTTPPort, "http-port", "HTTP_PORT", 8080, "port of /healthz, /readyz and /metrics, without TLS")
	o.duration(&w.DrainTime, "drain-time", "DRAIN_TIME", 10*time.Second, "how long to answer still after a stop was asked for, until no API server calls here any more")
	o.text(&w.Namespace, "namespace", "POD_NAMESPACE", "", "namespace of this pod, its Services and its Secrets")
	o.text(&w.Service, "service", "WEBHOOK_SERVICE", "", "name of the Service that the API server calls")
	o.text(&w.Registration, "webhook-configuration", "WEBHOOK_CONFIGURATION", "", "name of the MutatingWebhookConfiguration that names that Service")
	o.text(&w.Advice, "advice-configuration", "ADVICE_CONFIGURATION", "", "name of the ValidatingWebhookConfiguration that asks for warnings about workloads and who gets into guarded containers; empty if there is none")
	o.boolean(&w.AuthService, "auth-service", "AUTH_SERVICE", true, "whether there is a broker; without one every pod reads its vaults itself")
	o.text(&w.BrokerService, "broker-service", "BROKER_SERVICE", "", "name of the broker's Service; its port named https is used")
	o.text(&w.AuthoritySecret, "ca-secret", "CA_SECRET", "", "name of the Secret that keeps the certificate authority")
	o.text(&w.BrokerSecret, "broker-tls-secret", "BROKER_TLS_SECRET", "", "name of the Secret that gives the broker its serving certificate")
	o.duration(&w.LeafLife, "serving-certificate-life", "SERVING_CERTIFICATE_LIFE", 90*24*time.Hour, "life of a serving certificate; it is renewed after two thirds")
}

func (w *Webhook) declareInjection(o *options) {
	o.text(&w.EnvImage, "env-image", "AZUREKEYVAULT_ENV_IMAGE", "", "image that brings the wrapper into pods")
	o.text(&w.Delivery, "delivery", "DELIVERY", "initContainer", "how it does: initContainer copies the wrapper into memory of the pod, imageVolume mounts the image, auto mounts it if every schedulable node is known to be able to")
	o.text(&w.PullPolicy, "env-image-pull-policy", "WEBHOOK_CONTAINER_IMAGE_PULL_POLICY", string(corev1.PullIfNotPresent), "when to pull that image: Always, IfNotPresent or Never")
	o.text(&w.Installer.RequestsCPU, "init-container-requests-cpu", "WEBHOOK_INIT_CONTAINER_REQUESTS_CPU", "5m", "CPU that the container requests, where the pod's QoS class allows")
	o.text(&w.Installer.RequestsMemory, "init-container-requests-memory", "WEBHOOK_INIT_CONTAINER_REQUESTS_MEMORY", "32Mi", "memory that it requests")
	o.text(&w.Installer.LimitsCPU, "init-container-limits-cpu", "WEBHOOK_INIT_CONTAINER_LIMITS_CPU", "", "limit of its CPU; empty sets none unless all containers of the pod have one")
	o.text(&w.Installer.LimitsMemory, "init-container-limits-memory", "WEBHOOK_INIT_CONTAINER_LIMITS_MEMORY", "32Mi", "limit of its memory")
	o.text(&w.Direct.Image, "direct-env-image", "AZUREKEYVAULT_ENV_DIRECT_IMAGE", "", "image that brings the wrapper into pods that read their vaults themselves; empty serves none of them")
	o.text(&w.Direct.PullPolicy, "direct-env-image-pull-policy", "DIRECT_IMAGE_PULL_POLICY", string(corev1.PullIfNotPresent), "when to pull that image: Always, IfNotPresent or Never")
	o.text(&w.Direct.TenantID, "direct-tenant-id", "DIRECT_TENANT_ID", "", "tenant of the identities of such pods whose service account names none")
	o.text(&w.Direct.Environment, "direct-azure-environment", "DIRECT_AZURE_ENVIRONMENT", "", "the Azure cloud of such pods: AzurePublicCloud, AzureChinaCloud or AzureUSGovernmentCloud; empty is the public one")
	o.text(&w.Direct.VaultSuffix, "direct-vault-dns-suffix", "DIRECT_VAULT_DNS_SUFFIX", "", "DNS suffix of the vaults of such pods, when the cloud's own does not fit")
	o.boolean(&w.ReadConfigMaps, "read-configmaps", "READ_CONFIGMAPS", true, "look for placeholders in the ConfigMaps that env and envFrom of a pod's containers name")
	o.boolean(&w.ReadSecrets, "read-secrets", "READ_SECRETS", true, "look for placeholders in the Secrets that env and envFrom of a pod's containers name")
}

func (w *Webhook) validate() error {
	errs := []error{
		w.Log.validate(), w.Registries.validate(), w.validatePorts(), oneOf("--env-image-pull-policy", w.PullPolicy, "Always", "IfNotPresent", "Never"),
		oneOf("--delivery", w.Delivery, "auto", "initContainer", "imageVolume"),
		oneOf("--direct-env-image-pull-policy", w.Direct.PullPolicy, "Always", "IfNotPresent", "Never"), w.validateNames(),
	}
	if w.LeafLife < minLeafLife {
		errs = append(errs, fmt.Errorf("--serving-certificate-life: %s is less than ten minutes", w.LeafLife))
	}
	if w.DrainTime < 0 || w.DrainTime > time.Minute {
		errs = append(errs, fmt.Errorf("--drain-time: %s is not between 0 and one minute", w.DrainTime))
	}
	_, err := w.Installer.Requirements()
	return errors.Join(append(errs, err)...)
}

func (w *Webhook) validateNames() error {
	var errs []error
	for _, named := range []struct {
		flag, value string
		needed      bool
	}{
		{"--namespace", w.Namespace, true},
		{"--service", w.Service, true},
		{"--webhook-configuration", w.Registration, true},
		{"--ca-secret", w.AuthoritySecret, true},
		{"--broker-service", w.BrokerService, w.AuthService},
		{"--broker-tls-secret", w.BrokerSecret, w.AuthService},
		{"--env-image", w.EnvImage, w.AuthService},
		{"--direct-env-image", w.Direct.Image, !w.AuthService},
	} {
		if named.needed && named.value == "" {
			errs = append(errs, fmt.Errorf("%s: is required", named.flag))
		}
	}
	return errors.Join(errs...)
}

func (w *Webhook) validatePorts() error {
	var errs []error
	errs = append(errs, port("--tls-port", w.TLSPort), port("--http-port", w.HTTPPort))
	if w.TLSPort == w.HTTPPort {
		errs = append(errs, fmt.Errorf("--tls-port and --http-port: both are %d", w.TLSPort))
	}
	return errors.Join(errs...)
}

// Requirements are the resources as a container states them.
func (r InstallerResources) Requirements() (corev1.ResourceRequirements, error) {
	out := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	var errs []error
	for _, part := range []struct {
		flag string
		text string
		list corev1.ResourceList
		name corev1.ResourceName
	}{
		{"--init-container-requests-cpu", r.RequestsCPU, out.Requests, corev1.ResourceCPU},
		{"--init-container-requests-memory", r.RequestsMemory, out.Requests, corev1.ResourceMemory},
		{"--init-container-limits-cpu", r.LimitsCPU, out.Limits, corev1.ResourceCPU},
		{"--init-container-limits-memory", r.LimitsMemory, out.Limits, corev1.ResourceMemory},
	} {
		if part.text == "" {
			continue
		}
		q, err := resource.ParseQuantity(part.text)
		if err != nil || q.Sign() <= 0 {
			errs = append(errs, fmt.Errorf("%s: %q is not an amount such as 100m or 32Mi", part.flag, part.text))
			continue
		}
		part.list[part.name] = q
	}
	for name, limit := range out.Limits {
		if request, ok := out.Requests[name]; ok && request.Cmp(limit) > 0 {
			errs = append(errs, fmt.Errorf("the init container's request of %s is more than its limit", name))
		}
	}
	return out, errors.Join(errs...)
}
