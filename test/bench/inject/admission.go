// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	k8sruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/akv2k8s/akv2k8s/test/bench"
)

// reviewers is how many reviews are under way at once, for the rate.
const reviewers = 16

// admissionResult is what was seen of the webhook. Pairs are plain, then inject.
type admissionResult struct {
	Plain, Inject  []latency // of each round
	PerSecond      []float64 // of each round
	cost                     // of AtOnce reviews
	AtOnce, All    int       // reviews
	RSS            float64   // MiB
	Bytes, Answers [2]int    // of one review, and of its answer
}

// cost is processor time in seconds: of the webhook, of this program, of the whole
// machine, and how much there was to have.
type cost struct{ CPU, Asker, Busy, Cores float64 }

// latency is in ms.
type latency struct{ P50, P99 float64 }

func (l latency) String() string { return fmt.Sprintf("%.3f/%.3f", l.P50, l.P99) }

// admit measures what admissions cost.
func admit(ctx context.Context, api kubernetes.Interface, o order) (admissionResult, error) {
	var r admissionResult
	w, err := dial(ctx, api)
	if err != nil {
		return r, err
	}
	plain, err := newReview(ctx, api, o.Image, false)
	if err != nil {
		return r, err
	}
	inject, err := newReview(ctx, api, o.Image, true)
	if err != nil {
		return r, err
	}
	r.Bytes = [2]int{len(plain.body), len(inject.body)}
	if err := errors.Join(w.measureLatency(ctx, o.Size, plain, inject, &r), w.measureRate(ctx, o.Size, inject, &r)); err != nil {
		return r, err
	}
	r.Answers = [2]int{plain.answer, inject.answer}
	after, err := w.metrics(ctx)
	r.RSS, r.All = after["process_resident_memory_bytes"]/(1<<20), w.asked
	return r, err
}

// measureLatency asks one thing at a time, the two kinds in turn. The first round is
// not counted.
func (w *webhook) measureLatency(ctx context.Context, n size, plain, inject *review, r *admissionResult) error {
	for round := range n.Rounds + 1 {
		took := map[*review][]float64{}
		for range n.Each {
			for _, v := range []*review{plain, inject} {
				began := time.Now()
				if err := w.ask(ctx, v); err != nil {
					return err
				}
				took[v] = append(took[v], float64(time.Since(began))/float64(time.Millisecond))
			}
		}
		w.asked += 2 * n.Each
		if round > 0 {
			r.Plain, r.Inject = append(r.Plain, percentiles(took[plain])), append(r.Inject, percentiles(took[inject]))
		}
	}
	return nil
}

func percentiles(values []float64) latency {
	return latency{bench.Percentile(values, 50), bench.Percentile(values, 99)}
}

// measureRate asks many things at once. The first round opens the connections and is
// not counted.
func (w *webhook) measureRate(ctx context.Context, n size, v *review, r *admissionResult) error {
	if _, err := w.round(ctx, v, n.AtOnce); err != nil {
		return err
	}
	before, err := w.cost(ctx)
	if err != nil {
		return err
	}
	for range n.Rounds {
		perSecond, err := w.round(ctx, v, n.AtOnce)
		if err != nil {
			return err
		}
		r.PerSecond = append(r.PerSecond, perSecond)
		r.AtOnce += n.AtOnce
	}
	after, err := w.cost(ctx)
	r.cost = cost{after.CPU - before.CPU, after.Asker - before.Asker, after.Busy - before.Busy, after.Cores - before.Cores}
	return err
}

// cost is that of all time so far.
func (w *webhook) cost(ctx context.Context) (cost, error) {
	metrics, err := w.metrics(ctx)
	if err != nil {
		return cost{}, err
	}
	asker, err := bench.ProcessOf(os.Getpid()).CPU()
	if err != nil {
		return cost{}, err
	}
	busy, err := bench.Busy()
	has := time.Duration(runtime.NumCPU()) * time.Since(w.began)
	return cost{metrics["process_cpu_seconds_total"], asker.Seconds(), busy.Seconds(), has.Seconds()}, err
}

// round sends n reviews, and says how many a second there were.
func (w *webhook) round(ctx context.Context, v *review, n int) (float64, error) {
	began := time.Now()
	group, ctx := errgroup.WithContext(ctx)
	for range reviewers {
		group.Go(func() error {
			for range n / reviewers {
				if err := w.ask(ctx, &review{body: v.body, inject: v.inject}); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := group.Wait()
	w.asked += n / reviewers * reviewers
	return float64(n/reviewers*reviewers) / time.Since(began).Seconds(), err
}

// webhook is the one that the API server calls.
type webhook struct {
	http         *http.Client
	url, scraped string
	began        time.Time
	asked        int
}

// dial finds where and how the API server calls the webhook. Like that, it speaks
// HTTP/1.1: over HTTP/2 one connection would carry everything to one replica.
func dial(ctx context.Context, api kubernetes.Interface) (*webhook, error) {
	registration, err := api.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, component, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	called := registration.Webhooks[0].ClientConfig
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(called.CABundle) {
		return nil, errors.New("the webhook's registration has no CA")
	}
	service, err := api.CoreV1().Services(called.Service.Namespace).Get(ctx, called.Service.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	host := called.Service.Name + "." + called.Service.Namespace + ".svc"
	address := net.JoinHostPort(service.Spec.ClusterIP, strconv.Itoa(int(*called.Service.Port)))
	transport := &http.Transport{
		MaxIdleConnsPerHost: reviewers,
		TLSClientConfig:     &tls.Config{RootCAs: roots, ServerName: host, NextProtos: []string{"http/1.1"}},
	}
	return &webhook{
		began:   time.Now(),
		http:    &http.Client{Transport: transport},
		url:     "https://" + address + *called.Service.Path + "?timeout=10s",
		scraped: "http://" + service.Spec.ClusterIP + "/metrics",
	}, nil
}

func (w *webhook) metrics(ctx context.Context) (bench.Metrics, error) {
	return bench.Scrape(ctx, w.scraped)
}

// review is a request as the API server sends it.
type review struct {
	body   []byte
	inject bool // whether the answer must have a patch
	answer int  // bytes
}

// ask sends a review, and checks that the answer is the right one.
func (w *webhook) ask(ctx context.Context, v *review) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(v.body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !bytes.Contains(answer, []byte(`"allowed":true`)) ||
		bytes.Contains(answer, []byte(`"patch":"`)) != v.inject || bytes.Contains(answer, []byte(`"warnings"`)) {
		return fmt.Errorf("the webhook's answer is not the right one: %s %s", resp.Status, answer)
	}
	v.answer = len(answer)
	return nil
}

// newReview has the API server complete a pod (defaults, the token's volume, who
// manages what) without storing it, in a namespace whose pods are not injected. Like
// most pods it has no name yet.
func newReview(ctx context.Context, api kubernetes.Interface, image string, inject bool) (*review, error) {
	pod := newPod("", image, inject)
	pod.GenerateName, pod.Namespace = "review-", metav1.NamespaceDefault
	pod, err := api.CoreV1().Pods(pod.Namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldManager: "kubectl-create"})
	if err != nil {
		return nil, err
	}
	if len(pod.Spec.InitContainers) > 0 {
		return nil, errors.New("pods of namespace " + metav1.NamespaceDefault + " are injected, so there is none to ask about")
	}
	pod.TypeMeta, pod.Name, pod.Namespace = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, "", namespace
	object, err := json.Marshal(pod)
	if err != nil {
		return nil, err
	}
	kind := metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}
	resource := metav1.GroupVersionResource{Version: "v1", Resource: "pods"}
	no := false
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: types.UID("c0ffee00-0000-4000-8000-000000000001"), Kind: kind, Resource: resource, RequestKind: &kind, RequestResource: &resource,
			Namespace: namespace, Operation: admissionv1.Create, DryRun: &no,
			UserInfo: authenticationv1.UserInfo{Username: "kubernetes-admin", Groups: []string{"system:masters", "system:authenticated"}},
			Object:   k8sruntime.RawExtension{Raw: object}, OldObject: k8sruntime.RawExtension{Raw: []byte("null")},
			Options: k8sruntime.RawExtension{Raw: []byte(`{"kind":"CreateOptions","apiVersion":"meta.k8s.io/v1","fieldManager":"kubectl-create"}`)},
		},
	})
	return &review{body: body, inject: inject}, err
}
