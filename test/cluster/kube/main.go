// SPDX-License-Identifier: Apache-2.0

// Command kube is a multi-call binary holding a whole Kubernetes control plane
// and node agent: it runs as etcd, kube-apiserver, kube-controller-manager,
// kube-scheduler, kubelet or kube-proxy, chosen by the name it is called by (a
// symlink) or, failing that, by its first argument.
//
// Built with -tags envtest it holds only etcd and kube-apiserver: what, with
// kubectl, controller-runtime's envtest wants to find in KUBEBUILDER_ASSETS.
package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// Each command is constructed only when it is the one asked for: the
// constructors register flags and feature gates in process-wide state.
var commands = map[string]func(){
	"etcd":           func() { etcdmain.Main(os.Args) },
	"kube-apiserver": component(apiserver.NewAPIServerCommand),
}

func component(newCommand func() *cobra.Command) func() {
	return func() { os.Exit(cli.Run(newCommand())) }
}

func main() {
	if run, ok := commands[filepath.Base(os.Args[0])]; ok {
		run()
		return
	}
	if len(os.Args) > 1 {
		if run, ok := commands[os.Args[1]]; ok {
			os.Args = os.Args[1:]
			run()
			return
		}
	}
	fmt.Fprintln(os.Stderr, "usage: kube COMMAND [flags]; COMMAND is one of",
		strings.Join(slices.Sorted(maps.Keys(commands)), ", "))
	os.Exit(2)
}
