// SPDX-License-Identifier: Apache-2.0

// Command demo plays the two examples that the product was made for on a real
// cluster: a certificate of Key Vault reaches a pod's environment while Kubernetes
// sees placeholders only, and the same certificate becomes a TLS Secret that
// follows its rotation.
//
//	KEEP=1           leave cluster and installation running
//	CLUSTER=current  play on the cluster of the current kubeconfig context
//	REGISTRY=…       where the images go, with CLUSTER=current
//	DEMO_IMAGE=…     image with sh, printf and sha256sum for the example pod
package main

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/akv2k8s/akv2k8s/test/harness"
)

func main() {
	os.Exit(run())
}

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	only := flag.String("only", "", "deploy: install on the running test cluster and play nothing")
	flag.Parse()
	s := newStory(os.Stdout)
	root, err := harness.Root()
	if err != nil {
		s.failed(err, "")
		return 1
	}
	current := os.Getenv("CLUSTER") == "current"
	d := &demo{
		story:   s,
		cluster: harness.NewCluster(root, current, os.Stdout),
		images:  harness.Images{Registry: os.Getenv("REGISTRY")},
		image:   os.Getenv("DEMO_IMAGE"),
	}
	if d.image == "" {
		d.image = "registry.localhost:5000/busybox:1" // the test cluster has it
		if current {
			d.image = "busybox:stable"
		}
	}
	if *only == "deploy" {
		return d.deploy(ctx)
	}
	return d.whole(ctx)
}

// deploy is `make deploy`.
func (d *demo) deploy(ctx context.Context) int {
	if err := d.cluster.Install(ctx, d.images); err != nil {
		d.failed(err, "test/cluster/kubectl get pods,events -A")
		return 1
	}
	d.print("installed in %s\n", d.elapsed())
	return 0
}

// whole is `make demo`: it leaves nothing behind unless asked to.
func (d *demo) whole(ctx context.Context) int {
	if os.Getenv("KEEP") == "" {
		defer func() {
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Minute)
			defer cancel()
			d.tidy(end)
		}()
	}
	if err := d.play(ctx); err != nil {
		d.failed(err, d.look)
		return 1
	}
	d.print("\n%s in %s.\n", d.paint(bold, "Both examples work"), d.elapsed())
	return 0
}
