// SPDX-License-Identifier: Apache-2.0

// Command kit holds the small tools that the test cluster and its check need:
//
//	kit pki          writes a CA, certificates, keys and kubeconfigs
//	kit certificate  writes one more serving certificate of that CA
//	kit registry     serves an in-memory image registry
//	kit push         makes an image out of local files and pushes it
//	kit image        prints an image's configuration as its registry tells it
//	kit webhook      serves a mutating webhook that injects an init container
//	kit get          prints what a URL answers, with a CA and a bearer token
package main

import (
	"fmt"
	"os"
)

func main() {
	commands := map[string]func([]string) error{
		"pki": pki, "certificate": certificate,
		"registry": serveRegistry, "push": push, "image": image,
		"webhook": serveWebhook, "get": get,
	}
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: kit pki|certificate|registry|push|image|webhook|get [flags]")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "kit %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}
