// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// insideFlag starts the half of the program that measures: insideFlag, what, and an
// order. It finds its kubeconfig in the environment, and prints a result as JSON.
const insideFlag = "-inside"

// order is what the outer half asks for.
type order struct {
	Size     size
	Image    string // of the application
	Dir      string // where the programs are
	Distinct bool   // no two pods have a secret in common
}

// measurements are what can be asked for.
var measurements = map[string]func(context.Context, kubernetes.Interface, order) (any, error){
	"admission": func(ctx context.Context, api kubernetes.Interface, o order) (any, error) { return admit(ctx, api, o) },
	"podstart": func(ctx context.Context, api kubernetes.Interface, o order) (any, error) {
		return startPods(ctx, api, o)
	},
	"wrapper": func(ctx context.Context, api kubernetes.Interface, o order) (any, error) {
		return startWrappers(ctx, api, o)
	},
	"storm": func(ctx context.Context, api kubernetes.Interface, o order) (any, error) { return storm(ctx, api, o) },
}

func inside(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := measure(ctx, args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func measure(ctx context.Context, args []string) error {
	if len(args) != 2 || measurements[args[0]] == nil {
		return fmt.Errorf("%s is for this program's own use", insideFlag)
	}
	var o order
	if err := json.Unmarshal([]byte(args[1]), &o); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	config.QPS = -1 // nothing waits here
	api, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	result, err := measurements[args[0]](ctx, api, o)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}
