// SPDX-License-Identifier: Apache-2.0

//go:build !envtest

package main

import (
	"context"
	_ "time/tzdata" // CronJob time zones

	"github.com/spf13/cobra"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	kubeproxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

func init() {
	commands["kube-controller-manager"] = component(controllermanager.NewControllerManagerCommand)
	commands["kube-scheduler"] = component(func() *cobra.Command { return scheduler.NewSchedulerCommand() })
	commands["kube-proxy"] = component(kubeproxy.NewProxyCommand)
	commands["kubelet"] = component(func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) })
}
