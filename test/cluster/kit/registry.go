// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"log"
	"net/http"
	"os"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"
)

// serveRegistry serves one in-memory registry, over plain HTTP, on every
// address given.
func serveRegistry(args []string) error {
	fs := flag.NewFlagSet("registry", flag.ExitOnError)
	listen := fs.String("listen", "127.0.0.1:5000", "addresses to listen on, comma-separated")
	_ = fs.Parse(args)

	handler := registry.New(registry.Logger(log.New(os.Stderr, "", log.LstdFlags)))
	ended := make(chan error)
	for address := range strings.SplitSeq(*listen, ",") {
		go func() { ended <- http.ListenAndServe(address, handler) }()
	}
	return <-ended
}
