// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/akv2k8s/akv2k8s/api/v2beta1"
	"github.com/akv2k8s/akv2k8s/internal/plan"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// The values of the labels operation and object, as users of the first two
// metrics have always known them.
const (
	operationSync   = "sync"   // a read of the vault
	operationAdd    = "add"    // an output made
	operationUpdate = "update" // an output rewritten
	operationDelete = "delete" // an output, or a part of one, taken away

	objectVault  = "AzureKeyVault"
	objectOutput = "AzureKeyVaultSecret"
)

// Metrics of the Controller. No label ever names a resource, a vault or an object.
type Metrics struct {
	syncs  *prometheus.CounterVec
	failed *prometheus.CounterVec
	reads  *prometheus.HistogramVec
}

// NewMetrics registers them:
//
//	akv2k8s_syncs_total{operation,object}                       reads of vaults, writes of outputs
//	akv2k8s_syncs_failed_total{operation,object}                those that failed
//	akv2k8s_vault_read_duration_seconds{kind,outcome}           kind as vault.Kind; outcome as outcomes
//
// and, with the census, akv2k8s_resources{ready,reason}: status and reason of the
// condition Ready; akv2k8s_stale_resources; akv2k8s_objects{validity}: reason of the condition Valid, or
// Unlimited for objects without a validity.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		syncs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "akv2k8s_syncs_total", Help: "Reads of vaults and writes of outputs.",
		}, []string{"operation", "object"}),
		failed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "akv2k8s_syncs_failed_total", Help: "Reads of vaults and writes of outputs that failed.",
		}, []string{"operation", "object"}),
		reads: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "akv2k8s_vault_read_duration_seconds", Help: "How long reads of vaults took.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"kind", "outcome"}),
	}
	for _, series := range [][]string{{operationSync, objectVault}, {operationAdd, objectOutput}, {operationUpdate, objectOutput}, {operationDelete, objectOutput}} {
		m.syncs.WithLabelValues(series...) // so that a rate can be taken of the first failure
		m.failed.WithLabelValues(series...)
	}
	r.MustRegister(m.syncs, m.failed, m.reads)
	return m
}

// outcomes are the values of the label outcome; the first that fits is it.
var outcomes = []struct {
	err  error
	name string
}{
	{vault.ErrNoVault, "no_vault"},
	{vault.ErrNotFound, "not_found"},
	{vault.ErrPending, "pending"},
	{vault.ErrDisabled, "disabled"},
	{vault.ErrForbidden, "forbidden"},
	{vault.ErrFirewall, "network_denied"},
	{vault.ErrSignIn, "sign_in"},
}

func outcome(err error) string {
	if err == nil {
		return "ok"
	}
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			return o.name
		}
	}
	if _, ok := errors.AsType[vault.Throttled](err); ok {
		return "throttled"
	}
	return "unavailable"
}

func (m *Metrics) read(kind vault.Kind, err error, took time.Duration) {
	m.syncs.WithLabelValues(operationSync, objectVault).Inc()
	m.reads.WithLabelValues(string(kind), outcome(err)).Observe(took.Seconds())
	if err != nil {
		m.failed.WithLabelValues(operationSync, objectVault).Inc()
	}
}

// wrote counts a write of an output. One that met another writer is made again
// and has not failed.
func (m *Metrics) wrote(made bool, err error) {
	operation := operationUpdate
	if made {
		operation = operationAdd
	}
	m.changed(operation, err)
}

// released counts an output, or a part of one, that was taken away.
func (m *Metrics) released(err error) { m.changed(operationDelete, err) }

func (m *Metrics) changed(operation string, err error) {
	m.syncs.WithLabelValues(operation, objectOutput).Inc()
	if err != nil && !errors.Is(err, plan.ErrChanged) {
		m.failed.WithLabelValues(operation, objectOutput).Inc()
	}
}

// census counts the resources by what their Ready condition says, whenever
// somebody asks. Only the replica that works answers, lest they add up to double.
type census struct {
	list    client.Reader
	elected <-chan struct{}
	ready   *prometheus.Desc
	valid   *prometheus.Desc
	stale   *prometheus.Desc
}

func newCensus(list client.Reader, elected <-chan struct{}) *census {
	return &census{
		list: list, elected: elected,
		ready: prometheus.NewDesc("akv2k8s_resources",
			"AzureKeyVaultSecrets by the status and reason of their Ready condition.", []string{"ready", "reason"}, nil),
		valid: prometheus.NewDesc("akv2k8s_objects",
			"Vault objects in outputs by their validity.", []string{"validity"}, nil),
		stale: prometheus.NewDesc("akv2k8s_stale_resources",
			"AzureKeyVaultSecrets whose output the vault has not confirmed for some intervals.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *census) Describe(out chan<- *prometheus.Desc) {
	out <- c.ready
	out <- c.valid
	out <- c.stale
}

// Collect implements prometheus.Collector.
func (c *census) Collect(out chan<- prometheus.Metric) {
	select {
	case <-c.elected:
	default:
		return
	}
	var list v2beta1.AzureKeyVaultSecretList
	if err := c.list.List(context.Background(), &list, client.UnsafeDisableDeepCopy); err != nil {
		return // the cache has not started; there is nothing to count yet
	}
	counts, validities, stale := map[[2]string]float64{}, noneOf(validityLabels), 0.0
	for i := range list.Items {
		if isStale(list.Items[i].Status) {
			stale++
		}
		counts[verdict(&list.Items[i])]++
		if list.Items[i].Status.ObjectVersion != "" {
			validities[validity(&list.Items[i])]++
		}
	}
	out <- prometheus.MustNewConstMetric(c.stale, prometheus.GaugeValue, stale)
	for labels, n := range counts {
		out <- prometheus.MustNewConstMetric(c.ready, prometheus.GaugeValue, n, labels[:]...)
	}
	for label, n := range validities {
		out <- prometheus.MustNewConstMetric(c.valid, prometheus.GaugeValue, n, label)
	}
}

// unlimited is the label of an object that says of no time that it is not valid.
const unlimited = "Unlimited"

// validityLabels are all told, also at zero, so that an alert sees them come.
var validityLabels = []string{
	unlimited, v2beta1.ReasonValid, v2beta1.ReasonNearExpiry, v2beta1.ReasonExpired, v2beta1.ReasonNotYetValid,
}

func noneOf(labels []string) map[string]float64 {
	out := map[string]float64{}
	for _, label := range labels {
		out[label] = 0
	}
	return out
}

func validity(akvs *v2beta1.AzureKeyVaultSecret) string {
	if c := meta.FindStatusCondition(akvs.Status.Conditions, v2beta1.ConditionValid); c != nil {
		return c.Reason
	}
	return unlimited
}

func verdict(akvs *v2beta1.AzureKeyVaultSecret) [2]string {
	ready := meta.FindStatusCondition(akvs.Status.Conditions, v2beta1.ConditionReady)
	if ready == nil {
		return [2]string{"Unknown", "New"}
	}
	return [2]string{string(ready.Status), ready.Reason}
}
