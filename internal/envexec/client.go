// SPDX-License-Identifier: Apache-2.0

package envexec

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

// dialTimeout, for the connection and again for TLS, leaves time for the next
// address: a Service without endpoints may drop packets instead of refusing them.
const dialTimeout = 5 * time.Second

// maxRetryAfter bounds how long a broker can make a container wait before its
// next try.
const maxRetryAfter = time.Minute

// The ways in which asking fails before the broker says anything of its own.
var (
	errUnreachable = errors.New("the broker did not answer at any of its addresses: " +
		"see that the pods of azure-keyvault-broker are ready and that no network policy stands between")
	errCertificate = errors.New("the broker's certificate does not fit the CA bundle and name that this pod was admitted with: " +
		"create the pod again if the Env Injector was reinstalled since")
	errAnswer = errors.New("the broker's answer could not be read: see that broker and Env Injector are of the same release")
	errToken  = errors.New("the pod's token for the broker could not be read at " + brokerapi.TokenFile +
		": the Env Injector mounts it when it admits a pod")
)

// failure is an error with what asking again would do about it.
type failure struct {
	err   error
	retry bool
	after time.Duration // not before this long, when the broker said so
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

type client struct {
	settings  settings
	tokenFile string
	http      func(address string) *http.Client
	log       *slog.Logger
}

type dialer func(ctx context.Context, network, address string) (net.Conn, error)

func newClient(s settings, tokenFile string, dial dialer, log *slog.Logger) *client {
	return &client{settings: s, tokenFile: tokenFile, log: log, http: func(address string) *http.Client {
		return &http.Client{
			Timeout: brokerapi.RequestTimeout,
			// A redirect would carry the token to wherever it points.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{
				Proxy:               nil, // proxy variables are the program's
				DisableKeepAlives:   true,
				DisableCompression:  true,
				TLSHandshakeTimeout: dialTimeout,
				DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
					return dial(ctx, network, address)
				},
				TLSClientConfig: &tls.Config{
					MinVersion: tls.VersionTLS13,
					RootCAs:    s.roots,
					ServerName: s.serverName,
				},
			},
		}
	}}
}

// ask returns the values, asking again while that may help.
func (c *client) ask(ctx context.Context) (map[string][]byte, error) {
	wait := c.settings.wait
	for left := c.settings.retries; ; left-- {
		values, err := c.round(ctx)
		if err == nil {
			return values, nil
		}
		if !err.retry || left == 0 {
			return nil, err
		}
		pause := max(wait, min(err.after, maxRetryAfter))
		c.log.Warn("asking the broker again", "reason", oneLine(err.Error()), "after", pause.String(), "left", left)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, err
		}
		wait *= 2
	}
}

// round tries each address until one has something to say.
func (c *client) round(ctx context.Context) (map[string][]byte, *failure) {
	token, err := os.ReadFile(c.tokenFile) // each time: the kubelet renews it
	token = bytes.TrimSpace(token)
	defer clear(token)
	if err != nil || len(token) == 0 {
		return nil, &failure{err: errToken}
	}
	last := &failure{err: errUnreachable, retry: true}
	for _, address := range c.settings.brokers {
		resp, err := c.post(ctx, address, string(token))
		if err == nil {
			return read(resp)
		}
		c.log.Debug("no answer", "address", address, "error", err)
		var untrusted *tls.CertificateVerificationError
		if errors.As(err, &untrusted) {
			last = &failure{err: errCertificate}
		}
	}
	return nil, last
}

func (c *client) post(ctx context.Context, address, token string) (*http.Response, error) {
	body, err := json.Marshal(brokerapi.Request{Container: c.settings.container})
	if err != nil {
		return nil, err
	}
	url := "https://" + c.settings.serverName + brokerapi.ValuesPath
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	return c.http(address).Do(req)
}

// read takes the answer apart. Whatever is not the broker's own JSON is not
// repeated to anyone.
func read(resp *http.Response) (map[string][]byte, *failure) {
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, brokerapi.MaxResponseBytes+1))
	defer clear(body)
	if err != nil {
		return nil, &failure{err: errUnreachable, retry: true}
	}
	if resp.StatusCode != http.StatusOK {
		return nil, refusal(resp, body)
	}
	var answer brokerapi.Response
	if len(body) > brokerapi.MaxResponseBytes || json.Unmarshal(body, &answer) != nil {
		return nil, &failure{err: errAnswer}
	}
	return answer.Values, nil
}

func refusal(resp *http.Response, body []byte) *failure {
	var said brokerapi.Failure
	if json.Unmarshal(body, &said) != nil || said.Message == "" {
		return &failure{err: errAnswer, retry: resp.StatusCode >= http.StatusInternalServerError}
	}
	f := &failure{err: refused(said), retry: said.Retry}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		f.after = time.Duration(min(s, int(maxRetryAfter/time.Second))) * time.Second
	}
	return f
}

// refused is the broker's message and what it says of each variable.
func refused(said brokerapi.Failure) error {
	words := []string{said.Message}
	for _, p := range said.Problems {
		words = append(words, fmt.Sprintf("%s (%s): %s", p.Variable, p.Reason, p.Message))
	}
	return errors.New(strings.Join(words, "; "))
}
