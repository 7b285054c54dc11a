// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// get prints the status line and the body of a URL's answer, asked for with a
// service account's token and CA unless told otherwise. An empty -token asks
// anonymously.
func get(args []string) error {
	const sa = "/var/run/secrets/kubernetes.io/serviceaccount/"
	fs := flag.NewFlagSet("get", flag.ExitOnError)
	ca := fs.String("ca", sa+"ca.crt", "CA file")
	tokenFile := fs.String("token", sa+"token", "token file")
	_ = fs.Parse(args)

	client, err := clientTrusting(*ca)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(http.MethodGet, fs.Arg(0), http.NoBody)
	if err != nil {
		return err
	}
	if *tokenFile != "" {
		token, err := os.ReadFile(*tokenFile)
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	fmt.Printf("%s\n%s\n", resp.Status, body)
	return err
}

func clientTrusting(caFile string) (*http.Client, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate in " + caFile)
	}
	return &http.Client{
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}},
	}, nil
}
