// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/akv2k8s/akv2k8s/test/bench"
	"github.com/akv2k8s/akv2k8s/test/bench/launch"
	"github.com/akv2k8s/akv2k8s/test/harness"
)

const (
	// bucketBurst and bucketRate are the chart's global.keyVaultReads: what a broker may
	// ask of a vault at once, and in a second.
	bucketBurst, bucketRate = 500, 100

	// underWay is how many requests of one broker a vault may have at a time. It counts
	// a request when it answers, so that those may have left their bucket before.
	underWay = 10

	// everyNth pod of a storm is started once more, to look at its values.
	everyNth = 20
)

// stormResult is what was seen of a storm.
type stormResult struct {
	Seconds       float64 // until all were started
	VaultRequests int
	Overdrawn     float64 // requests above what the buckets let through
	Brokers       []brokerResult
	Spent         spent
	Word          string // the last that a wrapper said, such as that it asks again
}

// brokerResult is what one broker says of itself.
type brokerResult struct {
	VaultRequests int
	CPU           float64 // seconds
	RSS           float64 // MiB
}

func (b brokerResult) String() string {
	return fmt.Sprintf("%d (%.2f s, %.1f MiB)", b.VaultRequests, b.CPU, b.RSS)
}

// most is that of the broker that has most of it.
func (r stormResult) most(of func(brokerResult) float64) float64 {
	var all []float64
	for _, b := range r.Brokers {
		all = append(all, of(b))
	}
	return slices.Max(all)
}

// storm starts the containers of very many pods at once.
func storm(ctx context.Context, api kubernetes.Interface, o order) (stormResult, error) {
	same := o.Size.Storm
	if o.Distinct {
		same = 1
	}
	c, err := gather(ctx, api, o, o.Size.Storm, same)
	if err != nil {
		return stormResult{}, err
	}
	r, err := c.storm(ctx, api, o)
	if err != nil {
		return r, err
	}
	var some []launch.Start
	for i := 0; i < len(c.starts); i += everyNth {
		some = append(some, checking(c.starts[i]))
	}
	if _, _, err := carryOut(ctx, o, launch.Order{Starts: some}); err != nil {
		return r, err
	}
	return r, disperse(ctx, api)
}

func (c *crowd) storm(ctx context.Context, api kubernetes.Interface, o order) (stormResult, error) {
	var r stormResult
	before, err := brokers(ctx, api)
	if err != nil {
		return r, err
	}
	if err := errors.Join(bench.Sleep(ctx, settling), emulator.Reset(ctx)); err != nil {
		return r, err
	}
	counting := count(ctx)
	seen, spent, err := carryOut(ctx, o, launch.Order{Starts: c.starts, AtOnce: true})
	readings, countErr := counting()
	if err := errors.Join(err, countErr); err != nil {
		return r, err
	}
	after, err := brokers(ctx, api)
	if err != nil {
		return r, err
	}
	r = stormResult{
		Seconds: seen.Took.Seconds(), Spent: spent, Word: seen.Word, VaultRequests: readings[len(readings)-1].Count,
		Overdrawn: bench.Overdrawn(readings, float64(len(after))*(bucketBurst+underWay), float64(len(after))*bucketRate),
	}
	sum := 0
	for name, b := range after {
		b.VaultRequests -= before[name].VaultRequests
		b.CPU -= before[name].CPU
		sum += b.VaultRequests
		r.Brokers = append(r.Brokers, b)
	}
	if sum != r.VaultRequests {
		return r, fmt.Errorf("the vault has answered %d requests, and the brokers count %d", r.VaultRequests, sum)
	}
	return r, nil
}

// settling is for what 200 new pods and 1,000 AzureKeyVaultSecrets give others to do,
// the brokers' memory among them.
const settling = 3 * time.Second

// count reads the vault's counter again and again, until the function that it returns
// is called.
func count(ctx context.Context) func() ([]bench.Reading, error) {
	var readings []bench.Reading
	read := func() error {
		before := time.Now()
		n, err := emulator.Requests(ctx)
		readings = append(readings, bench.Reading{Before: before, After: time.Now(), Count: n})
		return err
	}
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				ended <- read() // the last
				return
			case <-time.After(50 * time.Millisecond):
			}
			if err := read(); err != nil {
				ended <- err
				return
			}
		}
	}()
	return func() ([]bench.Reading, error) {
		close(stop)
		err := <-ended
		return readings, err
	}
}

// brokers asks each of them, by the pod's name.
func brokers(ctx context.Context, api kubernetes.Interface) (map[string]brokerResult, error) {
	pods, err := api.CoreV1().Pods(harness.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=broker"})
	if err != nil {
		return nil, err
	}
	out := map[string]brokerResult{}
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp != nil || pod.Status.PodIP == "" {
			continue
		}
		metrics, err := bench.Scrape(ctx, "http://"+net.JoinHostPort(pod.Status.PodIP, "8080")+"/metrics")
		if err != nil {
			return nil, err
		}
		b := brokerResult{CPU: metrics["process_cpu_seconds_total"], RSS: metrics["process_resident_memory_bytes"] / (1 << 20)}
		for name, number := range metrics {
			if strings.HasPrefix(name, "akv2k8s_vault_requests_total{") {
				b.VaultRequests += int(number)
			}
		}
		out[pod.Name] = b
	}
	if len(out) == 0 {
		return nil, errors.New("there is no broker")
	}
	return out, nil
}
