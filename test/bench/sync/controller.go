// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/akv2k8s/akv2k8s/emulator/seed"
	"github.com/akv2k8s/akv2k8s/test/bench"
)

// A controller is the program itself, with one replica's worth of what the chart
// gives it.
type controller struct {
	cmd     *exec.Cmd
	url     string
	began   time.Time
	logFile string
	ended   chan struct{} // closed once it has, and err says how
	err     error
}

// controllerOptions are what differs between starts.
type controllerOptions struct {
	args, env []string
}

// startController starts the program; it does not wait for it to do anything.
func startController(ctx context.Context, s *stage, o controllerOptions) (*controller, error) {
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	s.starts++
	c := &controller{
		url:     "http://127.0.0.1:" + port,
		logFile: filepath.Join(s.dir, fmt.Sprintf("controller-%d.log", s.starts)),
		ended:   make(chan struct{}),
	}
	args := []string{
		"--kubeconfig=" + s.api.kubeconfig, "--http-port=" + port, "--leader-election-id=" + lease,
		"--azure-resync-period=" + strconv.Itoa(int(s.interval.Seconds())),
	}
	c.cmd = exec.CommandContext(ctx, s.programs.controller, append(append(args, s.extra...), o.args...)...)
	c.cmd.Env = append([]string{
		"LOG_LEVEL=info", "LOG_FORMAT=text", "RUNTIME_NAMESPACE=" + home,
		"HTTPS_PROXY=" + s.vault.proxy, "HTTP_PROXY=" + s.vault.proxy, "NO_PROXY=127.0.0.1,localhost", "CA_BUNDLE=" + s.vault.caFile,
		"AUTH_TYPE=environment", "AZURE_TENANT_ID=" + seed.DefaultTenant, "AZURE_CLIENT_ID=" + clientID, "AZURE_CLIENT_SECRET=" + clientSecret,
	}, o.env...)
	c.began = time.Now()
	if err := startLogged(c.cmd, os.DevNull, c.logFile); err != nil {
		return nil, fmt.Errorf("starting the Controller: %w", err)
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.ended)
	}()
	return c, nil
}

// kill ends the process at once, as a node that fails does.
func (c *controller) kill() {
	_ = c.cmd.Process.Kill()
	<-c.ended
}

// stop asks the process to end, as a kubelet does, so that it gives its Lease back.
func (c *controller) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return errors.Join(err, c.alive())
	}
	select {
	case <-c.ended:
		return c.err
	case <-time.After(30 * time.Second): // what Kubernetes gives a pod
		c.kill()
		return errors.New("the Controller did not end in time")
	}
}

// alive fails when the process has ended by itself.
func (c *controller) alive() error {
	select {
	case <-c.ended:
		return fmt.Errorf("the Controller has ended by itself (%s); see %s", c.cmd.ProcessState, c.logFile)
	default:
		return nil
	}
}

func (c *controller) proc() bench.Process { return bench.ProcessOf(c.cmd.Process.Pid) }

func (c *controller) metrics(ctx context.Context) (bench.Metrics, error) {
	return bench.Scrape(ctx, c.url+"/metrics")
}

// listening waits until the Controller answers at all.
func (c *controller) listening(ctx context.Context) error {
	for {
		_, err := c.metrics(ctx)
		if err == nil {
			return nil
		}
		if err := errors.Join(c.alive(), bench.Sleep(ctx, 20*time.Millisecond)); err != nil {
			return err
		}
	}
}

// profile saves one of the Controller's profiles to a file. It fails where the
// Controller serves none.
func (c *controller) profile(ctx context.Context, path, file string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+"/debug/pprof/"+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the Controller answers %s: %s", path, resp.Status)
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, resp.Body)
	return errors.Join(err, out.Close())
}

// startLogged starts a process whose outputs go to files, which costs the harness
// nothing.
func startLogged(cmd *exec.Cmd, stdout, stderr string) error {
	out, err := os.OpenFile(stdout, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	log, err := os.Create(stderr)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd.Stdout, cmd.Stderr = out, log
	return cmd.Start()
}

func freePort(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}
