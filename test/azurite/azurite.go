// SPDX-License-Identifier: Apache-2.0

// Package azurite runs the queue service of Azurite, Microsoft's own emulator of Azure Storage. A test begins with
// Start, a program with Launch.
package azurite

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/akv2k8s/akv2k8s/emulator/pki"
)

// Host is the account's host, a production name: whoever is to reach it must be led to Address.
const Host = Account + ".queue.core.windows.net"

// Account is the one storage account there is.
const Account = "account1"

// Server is a queue service that runs until it is stopped.
type Server struct {
	// Address is where it listens, as host:port of the loopback address.
	Address string

	dir  string
	stop context.CancelFunc
	cmd  *exec.Cmd
	http *http.Client
}

// Launch installs Azurite where it is not yet (half a minute, once per machine) and runs it, with a certificate for
// Host of the CA. It speaks TLS alone and wants a token of Entra ID, of which it checks issuer, audience and times but
// no signature. The queues are made and empty. The end of ctx stops it too.
func Launch(ctx context.Context, ca *pki.CA, queues ...string) (*Server, error) {
	node, program, err := install(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "akv2k8s-azurite-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for Azurite: %w", err)
	}
	s := &Server{dir: dir, stop: func() {}}
	s.http = &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: ca.Pool(), MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, s.Address)
		},
	}}
	err = s.run(ctx, node, program, ca)
	for _, name := range queues {
		if err == nil {
			err = s.Create(ctx, name)
		}
	}
	if err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// Stop ends it and all that it holds.
func (s *Server) Stop() {
	s.stop()
	if s.cmd != nil {
		_ = s.cmd.Wait() // it was told to end
	}
	_ = os.RemoveAll(s.dir)
}

// URL is a queue's, as production has it.
func (s *Server) URL(queue string) string { return "https://" + Host + "/" + queue }

// Create makes a queue that is not there yet.
func (s *Server) Create(ctx context.Context, queue string) error {
	return s.do(ctx, http.MethodPut, s.URL(queue), "", http.StatusCreated)
}

// Put puts a message into a queue, as it is.
func (s *Server) Put(ctx context.Context, queue, text string) error {
	escaped := strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
	return s.do(ctx, http.MethodPost, s.URL(queue)+"/messages", "<QueueMessage><MessageText>"+escaped+"</MessageText></QueueMessage>", http.StatusCreated)
}

// Count is about how many messages a queue holds, those that somebody has received and not yet deleted included.
func (s *Server) Count(ctx context.Context, queue string) (int, error) {
	resp, err := s.send(ctx, http.MethodGet, s.URL(queue)+"?comp=metadata", "")
	if err != nil {
		return 0, err
	}
	_ = resp.Body.Close()
	return strconv.Atoi(resp.Header.Get("X-Ms-Approximate-Messages-Count"))
}

func (s *Server) do(ctx context.Context, method, url, body string, want int) error {
	resp, err := s.send(ctx, method, url, body)
	if err != nil {
		return err
	}
	answer, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode != want {
		return fmt.Errorf("Azurite answered %s to %s %s: %s", resp.Status, method, url, answer) //nolint:staticcheck // a name
	}
	return nil
}

func (s *Server) send(ctx context.Context, method, url, body string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+Token("https://storage.azure.com"))
	req.Header.Set("Content-Type", "application/xml")
	req.Header.Set("X-Ms-Version", "2024-11-04")
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("asking Azurite: %w", err)
	}
	return resp, nil
}

// Token is one that Azurite takes for an audience, or refuses for it: nobody signed it.
func Token(audience string) string {
	now := time.Now().Unix()
	part := func(v any) string {
		raw, _ := json.Marshal(v) // strings and numbers only
		return base64.RawURLEncoding.EncodeToString(raw)
	}
	return part(map[string]string{"alg": "RS256", "typ": "JWT"}) + "." + part(map[string]any{
		"aud": audience, "iss": "https://sts.windows.net/00000000-0000-0000-0000-000000000000/",
		"iat": now - 60, "nbf": now - 60, "exp": now + 3600,
	}) + ".bm9ib2R5"
}

// install returns the paths of Node.js and of the queue service.
func install(ctx context.Context) (string, string, error) {
	_, self, _, _ := runtime.Caller(0)
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(self), "install.sh"))
	var failed bytes.Buffer
	cmd.Stderr = io.MultiWriter(os.Stderr, &failed)
	out, err := cmd.Output()
	if err != nil {
		return "", "", fmt.Errorf("installing Azurite: %w\n%s", err, &failed)
	}
	node, program, ok := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if !ok {
		return "", "", fmt.Errorf("installing Azurite: install.sh printed %q", out)
	}
	return node, program, nil
}

var listens = regexp.MustCompile(`successfully listens on https://(\S+)`)

// run returns once it listens.
func (s *Server) run(ctx context.Context, node, program string, ca *pki.CA) error {
	certFile, keyFile := filepath.Join(s.dir, "tls.crt"), filepath.Join(s.dir, "tls.key")
	if err := writeLeaf(ca, certFile, keyFile); err != nil {
		return fmt.Errorf("writing Azurite's certificate: %w", err)
	}
	ctx, s.stop = context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, node, program,
		"--queueHost", "127.0.0.1", "--queuePort", "0", "--cert", certFile, "--key", keyFile, "--oauth", "basic",
		"--inMemoryPersistence", "--disableTelemetry", "--skipApiVersionCheck", "--silent")
	cmd.Dir = s.dir
	key := base64.StdEncoding.EncodeToString([]byte("nobody signs in with this key of the account"))
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.dir, "AZURITE_ACCOUNTS=" + Account + ":" + key}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second // and SIGKILL then
	var failed bytes.Buffer
	cmd.Stderr = &failed
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("starting Azurite: %w", err)
	}
	s.cmd = cmd
	said := bufio.NewScanner(out)
	for s.Address == "" && said.Scan() {
		if found := listens.FindStringSubmatch(said.Text()); found != nil {
			s.Address = found[1]
		}
	}
	if s.Address == "" {
		s.stop()
		_ = cmd.Wait()
		s.cmd = nil
		return errors.New("Azurite ended before it listened: " + failed.String())
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return nil
}

func writeLeaf(ca *pki.CA, certFile, keyFile string) error {
	leaf, err := ca.Leaf(Host)
	if err != nil {
		return err
	}
	var chain []byte
	for _, der := range leaf.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	if err != nil {
		return err
	}
	if err := os.WriteFile(certFile, chain, 0o600); err != nil {
		return err
	}
	return os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), 0o600)
}
