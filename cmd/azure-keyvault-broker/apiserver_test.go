// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

// apiServer answers exactly what the broker may ask for; everything else is
// 403, as with the chart's rights. It returns the path of a kubeconfig.
func apiServer(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	answer := func(pattern string, body any) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("watch") != "" {
				watch(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(body)
		})
	}
	resource := func(name, kind string, namespaced bool) metav1.APIResource {
		return metav1.APIResource{Name: name, Kind: kind, Namespaced: namespaced, Verbs: metav1.Verbs{"get", "list", "watch", "create"}}
	}
	group := func(name, version string) metav1.APIGroup {
		v := metav1.GroupVersionForDiscovery{GroupVersion: name + "/" + version, Version: version}
		return metav1.APIGroup{Name: name, Versions: []metav1.GroupVersionForDiscovery{v}, PreferredVersion: v}
	}
	answer("GET /api", metav1.APIVersions{Versions: []string{"v1"}})
	answer("GET /apis", metav1.APIGroupList{Groups: []metav1.APIGroup{group("spv.no", "v2beta1"), group("authentication.k8s.io", "v1")}})
	answer("GET /api/v1", metav1.APIResourceList{GroupVersion: "v1", APIResources: []metav1.APIResource{resource("pods", "Pod", true)}})
	answer("GET /apis/spv.no/v2beta1", metav1.APIResourceList{
		GroupVersion: "spv.no/v2beta1", APIResources: []metav1.APIResource{resource("azurekeyvaultsecrets", "AzureKeyVaultSecret", true)},
	})
	answer("GET /apis/authentication.k8s.io/v1", metav1.APIResourceList{
		GroupVersion: "authentication.k8s.io/v1", APIResources: []metav1.APIResource{resource("tokenreviews", "TokenReview", false)},
	})
	answer("GET /apis/spv.no/v2beta1/azurekeyvaultsecrets", v2beta1.AzureKeyVaultSecretList{
		TypeMeta: metav1.TypeMeta{APIVersion: "spv.no/v2beta1", Kind: "AzureKeyVaultSecretList"},
		ListMeta: metav1.ListMeta{ResourceVersion: "1"},
		Items: []v2beta1.AzureKeyVaultSecret{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "db", ResourceVersion: "1"},
			Spec:       v2beta1.AzureKeyVaultSecretSpec{Vault: v2beta1.Vault{Name: "my-kv", Object: v2beta1.VaultObject{Name: "db", Type: v2beta1.ObjectSecret}}},
		}},
	})
	answer("GET /api/v1/namespaces/team/pods/web", corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "web-uid"},
		Spec: corev1.PodSpec{ServiceAccountName: "account", Containers: []corev1.Container{
			{Name: "idle"}, {Name: "app", Env: []corev1.EnvVar{{Name: "A", Value: "db@azurekeyvault"}}},
		}},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	})
	mux.HandleFunc("POST /apis/authentication.k8s.io/v1/tokenreviews", reviewToken)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("the broker asks for %s %s, which it has no right to", r.Method, r.URL)
		http.Error(w, "forbidden", http.StatusForbidden)
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return kubeconfig(t, s.URL)
}

// watch stays silent until the caller goes. It cannot begin with what exists, as
// API servers before 1.32 could not, so the caller lists.
func watch(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	if r.URL.Query().Get("sendInitialEvents") != "" {
		w.WriteHeader(http.StatusUnprocessableEntity)
		_ = json.NewEncoder(w).Encode(metav1.Status{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
			Status:   metav1.StatusFailure, Reason: metav1.StatusReasonInvalid, Code: http.StatusUnprocessableEntity,
		})
		return
	}
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

// token has the form of the API server's. The name takes the place of a signature.
func token(name string) string {
	encode := base64.RawURLEncoding.EncodeToString
	claims := `{"iss":"https://kubernetes.default.svc","aud":["` + brokerapi.Audience + `"],"exp":4000000000,"kubernetes.io":{"namespace":"team",` +
		`"pod":{"name":"web","uid":"web-uid"},"serviceaccount":{"name":"account","uid":"account-uid"}}}`
	return encode([]byte(`{"alg":"RS256"}`)) + "." + encode([]byte(claims)) + "." + encode([]byte(name))
}

func reviewToken(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	review := &authenticationv1.TokenReview{}
	if err == nil {
		_, _, err = scheme.Codecs.UniversalDeserializer().Decode(body, nil, review) // JSON or protobuf
	}
	if err != nil {
		http.Error(w, "no review", http.StatusBadRequest)
		return
	}
	if review.Spec.Token == token("good") && strings.Join(review.Spec.Audiences, " ") == brokerapi.Audience {
		review.TypeMeta = metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenReview"}
		review.Status = authenticationv1.TokenReviewStatus{
			Authenticated: true, Audiences: review.Spec.Audiences,
			User: authenticationv1.UserInfo{Username: "system:serviceaccount:team:account", Extra: map[string]authenticationv1.ExtraValue{
				"authentication.kubernetes.io/pod-name": {"web"}, "authentication.kubernetes.io/pod-uid": {"web-uid"},
			}},
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(review)
}

func kubeconfig(t *testing.T, server string) string {
	t.Helper()
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["test"] = &clientcmdapi.Cluster{Server: server}
	cfg.Contexts["test"] = &clientcmdapi.Context{Cluster: "test"}
	cfg.CurrentContext = "test"
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*cfg, file); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
