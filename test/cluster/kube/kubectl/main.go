// SPDX-License-Identifier: Apache-2.0

// Command kubectl is kubectl alone. Within the multi-call binary beside it, each start
// would prepare the whole of Kubernetes first, which takes twice as long; tests
// start it thousands of times.
package main

import (
	"os"

	_ "k8s.io/client-go/plugin/pkg/client/auth" // plugins
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

func main() {
	logs.GlogSetter(kubectl.GetLogVerbosity(os.Args)) //nolint:errcheck // as kubectl's own main does
	if err := cli.RunNoErrOutput(kubectl.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
}
