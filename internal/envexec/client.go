// SPDX-License-Identifier: Apache-2.0

package envexec

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

// dialTimeout, for the connection and its TLS, leaves time for the next address:
// a Service without endpoints may drop packets instead of refusing them.
const dialTimeout = 5 * time.Second

// silence is how long the broker may take before a person is told what is waited for.
const silence = 5 * time.Second

// maxHeader bounds what comes before the body, which net/http would read without end;
// the broker sends some 200 bytes.
const maxHeader = 64 << 10

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

type client struct {
	settings  settings
	tokenFile string
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	log       *slog.Logger
}

// askBroker is the Source of a World that has none of its own.
func askBroker(w World, log *slog.Logger) (Ask, error) {
	s, err := parseSettings(w.Environ)
	if err != nil {
		return nil, err
	}
	return client{s, w.TokenFile, w.Dial, log}.round, nil
}

// round tries each address until one has something to say.
func (c client) round(ctx context.Context) (brokerapi.Response, *Failure) {
	token, err := os.ReadFile(c.tokenFile) // each time: the kubelet renews it
	token = bytes.TrimSpace(token)
	defer clear(token)
	if err != nil || len(token) == 0 {
		return brokerapi.Response{}, &Failure{Err: errToken}
	}
	last := &Failure{Err: errUnreachable, Retry: true}
	for _, address := range c.settings.brokers {
		said, err := c.exchange(ctx, address, string(token))
		if err == nil {
			return said.read()
		}
		c.log.Debug("no answer", "address", address, "error", plain(err))
		if _, untrusted := errors.AsType[*tls.CertificateVerificationError](err); untrusted {
			last = &Failure{Err: errCertificate}
		}
	}
	return brokerapi.Response{}, last
}

// plain is the kind of an error. Its text may quote the other side.
func plain(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "the certificate is not trusted"
	}
	if e, ok := errors.AsType[net.Error](err); errors.Is(err, context.DeadlineExceeded) || ok && e.Timeout() {
		return "timed out"
	}
	return "no HTTP answer"
}

// answer is what came back, whoever it is from.
type answer struct {
	status     int
	retryAfter string
	body       []byte
}

// exchange is one request on a connection of its own, written and read with
// net/http's words for the wire. An http.Client would add HTTP/2, pools, proxies
// and redirects, a tenth of the binary, for none of which there is use here.
func (c client) exchange(ctx context.Context, address, token string) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, brokerapi.RequestTimeout)
	defer cancel()
	conn, err := c.connect(ctx, address)
	if err != nil {
		return answer{}, err
	}
	hangUp := func() { _ = conn.NetConn().Close() } // without TLS's farewell, which could take its time
	defer hangUp()
	defer context.AfterFunc(ctx, hangUp)() // ends a read that takes too long
	defer time.AfterFunc(silence, func() {
		c.log.Info("waiting for the broker, which may be waiting for the vault", "address", address, "atMost", brokerapi.RequestTimeout.String())
	}).Stop()
	req, err := c.request(ctx, token)
	if err != nil {
		return answer{}, err
	}
	if err := req.Write(conn); err != nil {
		return answer{}, err
	}
	head := &io.LimitedReader{R: conn, N: maxHeader}
	resp, err := http.ReadResponse(bufio.NewReader(head), req)
	if err != nil {
		return answer{}, err
	}
	head.N = math.MaxInt64                             // the body has a limit of its own
	defer func() { hangUp(); _ = resp.Body.Close() }() // in this order: Close reads what is left, which may have no end
	body, err := io.ReadAll(io.LimitReader(resp.Body, brokerapi.MaxResponseBytes+1))
	return answer{resp.StatusCode, resp.Header.Get("Retry-After"), body}, err
}

// connect speaks to nobody but the broker: proxies and trust store are the
// program's.
func (c client) connect(ctx context.Context, address string) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := c.dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS13,
		RootCAs:    c.settings.roots,
		ServerName: c.settings.serverName,
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

func (c client) request(ctx context.Context, token string) (*http.Request, error) {
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
	req.Close = true
	return req, nil
}

// read takes the answer apart. Whatever is not the broker's own JSON is not
// repeated to anyone.
func (a answer) read() (brokerapi.Response, *Failure) {
	defer clear(a.body)
	if a.status != http.StatusOK {
		return brokerapi.Response{}, a.refusal()
	}
	var said brokerapi.Response
	if len(a.body) > brokerapi.MaxResponseBytes || json.Unmarshal(a.body, &said) != nil {
		return brokerapi.Response{}, &Failure{Err: errAnswer}
	}
	return said, nil
}

func (a answer) refusal() *Failure {
	var said brokerapi.Failure
	f := &Failure{Err: errAnswer, Retry: a.status >= http.StatusInternalServerError || a.status == http.StatusTooManyRequests}
	if json.Unmarshal(a.body, &said) == nil && said.Message != "" {
		f = Refused(said)
	}
	if s, err := strconv.Atoi(a.retryAfter); err == nil && s > 0 {
		f.After = time.Duration(min(s, int(maxRetryAfter/time.Second))) * time.Second
	}
	return f
}
