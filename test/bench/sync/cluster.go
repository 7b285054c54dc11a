// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/cluster"
	"github.com/akv2k8s/akv2k8s/test/bench"
)

const (
	crdFile   = "charts/akv2k8s/files/azurekeyvaultsecrets.yaml"
	chartFile = "test/chart/testdata/default.yaml" // the chart as it is rendered by default
	home      = "akv2k8s-system"                   // its namespace there
	account   = "system:serviceaccount:" + home + ":akv2k8s-controller"
	lease     = "akv2k8s-controller" // the only one that the chart's role allows

	namespaces = 10
	dataKey    = "value"
)

// kubernetesAPI is a real API server with the product's CRD and the chart's roles.
type kubernetesAPI struct {
	server     *envtest.Environment
	admin      client.Client        // who sets the scene
	clients    kubernetes.Interface // the same, in protobuf, for very many Secrets
	kubeconfig string               // file of the Controller's account
	audit      *bench.AuditLog      // what the Controller asks for
}

// startAPI starts one whose audit log tells of the Controller's account.
func startAPI(ctx context.Context, root, dir string) (*kubernetesAPI, error) {
	a := &kubernetesAPI{
		server:     &envtest.Environment{CRDInstallOptions: envtest.CRDInstallOptions{Paths: []string{filepath.Join(root, crdFile)}}},
		kubeconfig: filepath.Join(dir, "kubeconfig"),
		audit:      &bench.AuditLog{File: filepath.Join(dir, "audit.log"), Home: home},
	}
	if err := a.configureAudit(filepath.Join(dir, "audit.yaml")); err != nil {
		return nil, err
	}
	config, err := a.server.Start()
	if err == nil {
		err = a.prepare(ctx, root, config)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting the API server: %w", err), a.server.Stop())
	}
	return a, nil
}

// configureAudit has the log written as requests end, and never begun anew.
func (a *kubernetesAPI) configureAudit(policy string) error {
	if err := os.WriteFile(policy, []byte(bench.AuditPolicy(account)), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(a.audit.File, nil, 0o600); err != nil { // there to read before the first line
		return err
	}
	a.server.ControlPlane.GetAPIServer().Configure().
		Set("audit-policy-file", policy).
		Set("audit-log-path", a.audit.File).
		Set("audit-log-mode", "blocking").
		Set("audit-log-maxsize", "100000") // MB
	return nil
}

func (a *kubernetesAPI) prepare(ctx context.Context, root string, config *rest.Config) error {
	config.QPS = -1 // the scene is set as fast as the API server can
	var err error
	if a.admin, err = client.New(config, client.Options{Scheme: cluster.Scheme()}); err != nil {
		return err
	}
	binary := rest.CopyConfig(config)
	binary.ContentType = "application/vnd.kubernetes.protobuf"
	if a.clients, err = kubernetes.NewForConfig(binary); err != nil {
		return err
	}
	if err := a.writeKubeconfig(); err != nil {
		return err
	}
	if err := a.makeNamespaces(ctx); err != nil {
		return err
	}
	return a.installRights(ctx, filepath.Join(root, chartFile))
}

// writeKubeconfig makes a certificate for the Controller's account, so that the API
// server itself takes the Controller for it: an audit policy asks who signed in, not
// whom somebody plays.
func (a *kubernetesAPI) writeKubeconfig() error {
	user, err := a.server.AddUser(envtest.User{Name: account, Groups: []string{"system:serviceaccounts"}}, nil)
	if err != nil {
		return err
	}
	text, err := user.KubeConfig()
	if err != nil {
		return err
	}
	return os.WriteFile(a.kubeconfig, text, 0o600)
}

func (a *kubernetesAPI) makeNamespaces(ctx context.Context) error {
	names := []string{home, foreignNamespace}
	for i := range namespaces {
		names = append(names, namespaceOf(i))
	}
	for _, name := range names {
		if err := a.admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			return err
		}
	}
	return nil
}

// installRights gives the Controller the chart's roles, and nothing more.
func (a *kubernetesAPI) installRights(ctx context.Context, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		u := &unstructured.Unstructured{}
		if err := decoder.Decode(u); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if u.GroupVersionKind().Group != "rbac.authorization.k8s.io" {
			continue
		}
		if err := a.admin.Create(ctx, u); err != nil {
			return err
		}
	}
}

func (a *kubernetesAPI) stop() error { return a.server.Stop() }

// namespaceOf is where the AzureKeyVaultSecret of an object is.
func namespaceOf(object int) string { return fmt.Sprintf("bench-%d", object%namespaces) }

// createResources makes the AzureKeyVaultSecrets of n objects.
func (a *kubernetesAPI) createResources(ctx context.Context, n int) error {
	return bench.Each(ctx, n, func(ctx context.Context, i int) error {
		akvs := &v2beta1.AzureKeyVaultSecret{Spec: v2beta1.AzureKeyVaultSecretSpec{
			Vault:  v2beta1.Vault{Name: vaultName, Object: v2beta1.VaultObject{Name: objectName(i), Type: v2beta1.ObjectSecret}},
			Output: v2beta1.Output{Secret: &v2beta1.SecretOutput{Name: objectName(i), DataKey: dataKey}},
		}}
		akvs.Namespace, akvs.Name = namespaceOf(i), objectName(i)
		return a.admin.Create(ctx, akvs)
	})
}

// createForeign makes n Secrets that are none of the Controller's business.
func (a *kubernetesAPI) createForeign(ctx context.Context, n, size int) error {
	return bench.Each(ctx, n, func(ctx context.Context, i int) error {
		_, err := a.clients.CoreV1().Secrets(foreignNamespace).Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("foreign-%d", i)},
			Data:       map[string][]byte{"data": bytes.Repeat([]byte{byte(i)}, size)},
		}, metav1.CreateOptions{})
		return err
	})
}

// untilQuiet waits until count has not changed for a while, at most for limit, and
// says whether that came.
func untilQuiet(ctx context.Context, quiet, limit time.Duration, count func(context.Context) (int, error)) (bool, error) {
	last, err := count(ctx)
	if err != nil {
		return false, err
	}
	end, since := time.Now().Add(limit), time.Now()
	for time.Now().Before(end) {
		if err := bench.Sleep(ctx, 250*time.Millisecond); err != nil {
			return false, err
		}
		n, err := count(ctx)
		switch {
		case err != nil:
			return false, err
		case n != last:
			last, since = n, time.Now()
		case time.Since(since) >= quiet:
			return true, nil
		}
	}
	return false, nil
}
