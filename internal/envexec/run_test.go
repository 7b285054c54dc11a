// SPDX-License-Identifier: Apache-2.0

package envexec_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/envexec"
)

var errBoom = errors.New("boom")

// record is an Exec that starts nothing.
type record struct {
	path          string
	argv, environ []string
	err           error
}

func (r *record) exec(path string, argv, environ []string) error {
	r.path, r.argv, r.environ = path, argv, environ
	return r.err
}

type world struct {
	envexec.World
	stderr  *bytes.Buffer
	record  *record
	elapsed time.Duration // that Run took, where that was measured
}

// newWorld is an injected container whose environment is admission's plus more.
func newWorld(t *testing.T, admitted []string, more ...string) world {
	t.Helper()
	dir := t.TempDir()
	token, message := filepath.Join(dir, "token"), filepath.Join(dir, "message")
	write(t, token, "pod-token\n")
	write(t, message, "")
	w := world{stderr: &bytes.Buffer{}, record: &record{err: errBoom}}
	w.World = envexec.World{
		Args:           []string{brokerapi.Binary, "/bin/sh", "-c", "exit"},
		Environ:        append(admitted, more...),
		Stderr:         w.stderr,
		TokenFile:      token,
		TerminationLog: message,
		Dial:           (&net.Dialer{}).DialContext,
		Exec:           w.record.exec,
	}
	return w
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (w world) message(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(w.TerminationLog)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// admitted is what admission sets for a broker at address.
func admitted(address, ca string) []string {
	return []string{
		brokerapi.EnvContainer + "=app",
		brokerapi.EnvBroker + "=" + address,
		brokerapi.EnvServerName + "=example.com", // a name in httptest's certificate
		brokerapi.EnvCABundle + "=" + ca,
		brokerapi.EnvRetryWait + "=0",
	}
}

// broker serves h and returns what admission would set for it.
func broker(t *testing.T, h http.HandlerFunc) []string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return admitted(s.Listener.Addr().String(), string(ca))
}

// brokerV6 is one at an IPv6 address, as admission writes it.
func brokerV6(t *testing.T, h http.HandlerFunc) []string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "[::1]:0")
	if err != nil {
		t.Skipf("this machine has no IPv6: %v", err)
	}
	s := httptest.NewUnstartedServer(h)
	_ = s.Listener.Close()
	s.Listener = listener
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return admitted(listener.Addr().String(), string(ca))
}

func answer(w http.ResponseWriter, status int, body string) {
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

func TestRunAsksAsThePod(t *testing.T) {
	var got struct{ method, path, host, authorization, body string }
	env := broker(t, func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		got.method, got.path, got.host = r.Method, r.URL.Path, r.Host
		got.authorization, got.body = r.Header.Get("Authorization"), body.String()
		answer(w, http.StatusOK, `{"values":{"x@azurekeyvault":"aHVudGVyMg=="}}`)
	})
	// Proxies are the program's: this one would fail the request.
	t.Setenv("HTTPS_PROXY", "http://127.0.0.1:1")
	w := newWorld(t, env, "HTTPS_PROXY=http://127.0.0.1:1", "A=x@azurekeyvault", "PATH=/usr/bin:/bin")
	envexec.Run(w.World)
	want := got
	want.method, want.path, want.host = http.MethodPost, brokerapi.ValuesPath, "example.com"
	want.authorization, want.body = "Bearer pod-token", `{"container":"app"}`
	if got != want {
		t.Errorf("asked %+v", got)
	}
	if d := cmp.Diff([]string{"HTTPS_PROXY=http://127.0.0.1:1", "A=hunter2", "PATH=/usr/bin:/bin"}, w.record.environ); d != "" {
		t.Errorf("environment: -want +got\n%s", d)
	}
	if d := cmp.Diff([]string{"/bin/sh", "-c", "exit"}, w.record.argv); d != "" || w.record.path != "/bin/sh" {
		t.Errorf("started %s with -want +got\n%s", w.record.path, d)
	}
}

func TestRunFails(t *testing.T) {
	cases := map[string]struct {
		status  int
		answer  string
		environ []string
		says    string
	}{
		"Denied":           {http.StatusForbidden, `{"message":"this pod may not"}`, nil, "this pod may not"},
		"Problems":         {http.StatusUnprocessableEntity, `{"message":"no values","problems":[{"variable":"A","reason":"Why","message":"because"}]}`, nil, "no values; A (Why): because"},
		"ForeignText":      {http.StatusBadGateway, `hunter2`, nil, "could not be read"},
		"ForeignJSON":      {http.StatusBadGateway, `{"error":"hunter2"}`, nil, "could not be read"},
		"Redirect":         {http.StatusTemporaryRedirect, ``, nil, "could not be read"},
		"MalformedValues":  {http.StatusOK, `{"values":{"A":"hunter2?"}}`, nil, "could not be read"},
		"TooLarge":         {http.StatusOK, strings.Repeat(" ", brokerapi.MaxResponseBytes) + `{}`, nil, "could not be read"},
		"Unfilled":         {http.StatusOK, `{"values":{"y@azurekeyvault":"aHVudGVyMg=="}}`, nil, "A: the placeholder there is not among those"},
		"WrongName":        {http.StatusOK, `{}`, []string{brokerapi.EnvServerName + "=elsewhere"}, "certificate does not fit"},
		"NoContainer":      {http.StatusOK, `{}`, []string{brokerapi.EnvContainer + "="}, brokerapi.EnvContainer + " is not set"},
		"NoBroker":         {http.StatusOK, `{}`, []string{brokerapi.EnvBroker + "="}, brokerapi.EnvBroker + " is not set"},
		"NoServerName":     {http.StatusOK, `{}`, []string{brokerapi.EnvServerName + "="}, brokerapi.EnvServerName + " is not set"},
		"NoBundle":         {http.StatusOK, `{}`, []string{brokerapi.EnvCABundle + "="}, brokerapi.EnvCABundle + " is not set"},
		"BundleWithoutPEM": {http.StatusOK, `{}`, []string{brokerapi.EnvCABundle + "=x"}, "holds no PEM certificate"},
		"RetriesNoNumber":  {http.StatusOK, `{}`, []string{brokerapi.EnvRetries + "=many"}, brokerapi.EnvRetries + " must be a whole number"},
		"WaitTooLong":      {http.StatusOK, `{}`, []string{brokerapi.EnvRetryWait + "=3600"}, brokerapi.EnvRetryWait + " must be a whole number"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			env := broker(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, tc.status, tc.answer) })
			w := newWorld(t, append(env, brokerapi.EnvLogLevel+"=debug"), append(tc.environ, "A=x@azurekeyvault")...)
			status := envexec.Run(w.World)
			message, lines := w.message(t), w.stderr.String()
			if status != envexec.ExitFailed || w.record.path != "" {
				t.Errorf("Run() = %d, started %q", status, w.record.path)
			}
			if !strings.Contains(message, tc.says) || !strings.Contains(lines, tc.says) {
				t.Errorf("message %q\nlog %s", message, lines)
			}
			if strings.Contains(message+lines, "hunter2") || strings.Contains(message+lines, "aHVudGVyMg") {
				t.Errorf("a value or a remote text in %q or %s", message, lines)
			}
		})
	}
}

func TestRunWithoutToken(t *testing.T) {
	for name, text := range map[string]string{"Empty": " \n", "Missing": ""} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, broker(t, func(http.ResponseWriter, *http.Request) { t.Error("asked without a token") }))
			if err := os.WriteFile(w.TokenFile, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if name == "Missing" {
				w.TokenFile += ".not"
			}
			if status := envexec.Run(w.World); status != envexec.ExitFailed || !strings.Contains(w.message(t), "token") {
				t.Errorf("Run() = %d, %q", status, w.message(t))
			}
		})
	}
}

// The kernel's refusals read like a shell's.
func TestRunExecRefused(t *testing.T) {
	cases := map[string]struct {
		err    error
		status int
		says   string
	}{
		"TooBig":        {syscall.E2BIG, envexec.ExitNotExecutable, "larger than the kernel allows"},
		"WrongFormat":   {syscall.ENOEXEC, envexec.ExitNotExecutable, "not a program for this machine"},
		"NotPermitted":  {syscall.EACCES, envexec.ExitNotExecutable, "may not execute"},
		"NoInterpreter": {syscall.ENOENT, envexec.ExitNotFound, "interpreter"},
		"Else":          {syscall.EIO, envexec.ExitNotExecutable, "the kernel refused it"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, broker(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, `{}`) }))
			w.record.err = tc.err
			if status := envexec.Run(w.World); status != tc.status || !strings.Contains(w.message(t), tc.says) {
				t.Errorf("Run() = %d, %q", status, w.message(t))
			}
		})
	}
}

// The second address is asked when the first has nothing to say, and only then.
func TestRunTriesAddressesInOrder(t *testing.T) {
	asked := 0
	env := broker(t, func(w http.ResponseWriter, _ *http.Request) {
		asked++
		answer(w, http.StatusForbidden, `{"message":"no"}`)
	})
	address := strings.TrimPrefix(env[1], brokerapi.EnvBroker+"=")
	for name, tc := range map[string]struct {
		list string
		want int
	}{
		"SecondAfterDead":   {"127.0.0.1:1, " + address, 1},
		"FirstHasSpoken":    {address + "," + address, 1},
		"NobodyButTheFirst": {address + ",127.0.0.1:1", 1},
	} {
		t.Run(name, func(t *testing.T) {
			asked = 0
			w := newWorld(t, env, brokerapi.EnvBroker+"="+tc.list)
			if envexec.Run(w.World); asked != tc.want || !strings.HasSuffix(w.message(t), ": no") {
				t.Errorf("asked %d times, %q", asked, w.message(t))
			}
		})
	}
}

// What may pass is asked for again, what may not is not.
func TestRunRetries(t *testing.T) {
	cases := map[string]struct {
		status int
		body   string
		want   int
	}{
		"Unavailable":       {http.StatusServiceUnavailable, `{"message":"later","retry":true}`, 3},
		"TooManyRequests":   {http.StatusTooManyRequests, `{"message":"later","retry":true}`, 3},
		"TooManyElsewhere":  {http.StatusTooManyRequests, `<html>`, 3},
		"NotOurs":           {http.StatusBadGateway, `<html>`, 3},
		"Denied":            {http.StatusForbidden, `{"message":"no"}`, 1},
		"Unauthenticated":   {http.StatusUnauthorized, `{"message":"no"}`, 1},
		"NotFound":          {http.StatusNotFound, `404 page not found`, 1},
		"ForAPersonToRepai": {http.StatusUnprocessableEntity, `{"message":"no"}`, 1},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			asked := 0
			env := broker(t, func(w http.ResponseWriter, _ *http.Request) { asked++; answer(w, tc.status, tc.body) })
			w := newWorld(t, env, brokerapi.EnvRetries+"=2")
			if status := envexec.Run(w.World); status != envexec.ExitFailed || asked != tc.want {
				t.Errorf("Run() = %d after asking %d times, want %d", status, asked, tc.want)
			}
		})
	}
}

// waited is how long Run takes on a clock that only waiting moves.
func waited(t *testing.T, dial func(*tls.Config) (net.Conn, error), environ ...string) time.Duration {
	t.Helper()
	return waiting(t, dial, environ...).elapsed
}

// waiting is a container whose broker is at the end of dial.
func waiting(t *testing.T, dial func(*tls.Config) (net.Conn, error), environ ...string) world {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	w := newWorld(t, admitted("broker:1", string(ca)), environ...)
	w.Dial = func(context.Context, string, string) (net.Conn, error) { return dial(server.TLS) }
	synctest.Test(t, func(*testing.T) {
		before := time.Now() // the bubble's clock, not the machine's
		envexec.Run(w.World) // fails: nobody answers
		w.elapsed = time.Since(before)
		time.Sleep(2 * time.Second) // until whoever was heard has noticed
	})
	return w
}

func TestRunWaitsLongerEachTime(t *testing.T) {
	refuse := func(*tls.Config) (net.Conn, error) { return nil, errBoom }
	if got := waited(t, refuse, brokerapi.EnvRetryWait+"="); got != (3+6+12)*time.Second {
		t.Errorf("default: waited %v", got)
	}
	if got := waited(t, refuse, brokerapi.EnvRetryWait+"=5", brokerapi.EnvRetries+"=2"); got != (5+10)*time.Second {
		t.Errorf("5 s, 2 retries: waited %v", got)
	}
}

// Who is told how long to wait does not come earlier, nor waits longer than a minute.
func TestRunHeedsRetryAfter(t *testing.T) {
	for said, want := range map[string]time.Duration{"20": 20 * time.Second, "1": 3 * time.Second, "3600": time.Minute, "soon": 3 * time.Second} {
		for _, body := range []string{`{"message":"later","retry":true}`, `<html>`} {
			limited := func(c *tls.Config) (net.Conn, error) {
				near, far := net.Pipe()
				go func() {
					conn := tls.Server(far, c)
					if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
						_, _ = fmt.Fprintf(conn, "HTTP/1.1 429 x\r\nRetry-After: %s\r\nContent-Length: %d\r\n\r\n%s", said, len(body), body)
					}
				}()
				return near, nil
			}
			if got := waited(t, limited, brokerapi.EnvRetries+"=1", brokerapi.EnvRetryWait+"="); got != want {
				t.Errorf("Retry-After: %s, %s: waited %v", said, body, got)
			}
		}
	}
}

// A broker that accepts and says nothing is given up, soon enough to ask at
// another address.
func TestRunGivesUpOnSilence(t *testing.T) {
	silent := func(*tls.Config) (net.Conn, error) {
		near, _ := net.Pipe()
		return near, nil
	}
	if got := waited(t, silent, brokerapi.EnvRetries+"=0"); got != 5*time.Second {
		t.Errorf("waited %v", got)
	}
}

// A broker that listens and does not answer is given all the time it may take.
func TestRunGivesUpOnSlowness(t *testing.T) {
	slow := func(c *tls.Config) (net.Conn, error) {
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, tls.Server(far, c)) }()
		return near, nil
	}
	if got := waited(t, slow, brokerapi.EnvRetries+"=0"); got != brokerapi.RequestTimeout {
		t.Errorf("waited %v, want %v", got, brokerapi.RequestTimeout)
	}
}

// A drop now and then keeps no container waiting for longer.
func TestRunGivesUpOnTrickles(t *testing.T) {
	for name, begin := range map[string]string{
		"Status": "HTTP/1.1 200 ", "Header": "HTTP/1.1 200 OK\r\nX: ", "Body": "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
	} {
		trickle := func(c *tls.Config) (net.Conn, error) {
			near, far := net.Pipe()
			go func() {
				conn := tls.Server(far, c)
				_, err := http.ReadRequest(bufio.NewReader(conn))
				if err == nil {
					_, err = io.WriteString(conn, begin)
				}
				for ; err == nil; time.Sleep(time.Second) {
					_, err = io.WriteString(conn, " ")
				}
			}()
			return near, nil
		}
		if got := waited(t, trickle, brokerapi.EnvRetries+"=0"); got != brokerapi.RequestTimeout {
			t.Errorf("%s: waited %v, want %v", name, got, brokerapi.RequestTimeout)
		}
	}
}

// What is not HTTP is not repeated, at any log level.
func TestRunQuotesNobody(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	w := newWorld(t, admitted("broker:1", string(ca)), brokerapi.EnvRetries+"=0", brokerapi.EnvLogLevel+"=debug")
	w.Dial = func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			conn := tls.Server(far, server.TLS)
			_, _ = conn.Read(make([]byte, 64))
			_, _ = io.WriteString(conn, "hunter2 hunter2 hunter2\r\n\r\n")
			_ = conn.Close()
		}()
		return near, nil
	}
	if status := envexec.Run(w.World); status != envexec.ExitFailed {
		t.Errorf("Run() = %d", status)
	}
	if said := w.stderr.String() + w.message(t); strings.Contains(said, "hunter2") || !strings.Contains(said, "no HTTP answer") {
		t.Errorf("said %s", said)
	}
}

// A Service of two address families has an address of each.
func TestRunOverIPv6(t *testing.T) {
	env := brokerV6(t, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, `{"values":{"x@azurekeyvault":"aHVudGVyMg=="}}`)
	})
	address := strings.TrimPrefix(env[1], brokerapi.EnvBroker+"=")
	for name, list := range map[string]string{"Alone": address, "SecondOfTwo": "127.0.0.1:1," + address, "FirstOfTwo": address + ",127.0.0.1:1"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, env, "A=x@azurekeyvault", brokerapi.EnvBroker+"="+list)
			if envexec.Run(w.World); !slices.Equal(w.record.environ, []string{"A=hunter2"}) {
				t.Errorf("started with %q: %s", w.record.environ, w.stderr)
			}
		})
	}
}

// The program is looked for along the PATH that it will have, wherever that is from.
func TestRunFindsAlongTheProgramsPath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	t.Setenv("PATH", "/nowhere") // the wrapper's own says nothing
	file(t, 0o755, dir, "bin", "tool")
	file(t, 0o755, dir, "here")
	env := broker(t, func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, `{"values":{"x@azurekeyvault":"`+base64.StdEncoding.EncodeToString([]byte(filepath.Join(dir, "bin")))+`"}}`)
	})
	cases := map[string]struct {
		program, path, want string
	}{
		"Placeholder":       {"tool", "x@azurekeyvault", filepath.Join(dir, "bin", "tool")},
		"WithinText":        {"tool", "/nowhere:<x@azurekeyvault>", filepath.Join(dir, "bin", "tool")},
		"LastOfTheName":     {"tool", filepath.Join(dir, "bin"), filepath.Join(dir, "bin", "tool")},
		"Empty":             {"sh", "", "/bin/sh"},
		"WorkingDirectory":  {"./here", "/nowhere", "./here"},
		"HereByEmptyEntry":  {"here", "/nowhere:", "./here"},
		"NotHereByItself":   {"here", "/nowhere", ""},
		"RelativeToWorkDir": {"bin/tool", "", "bin/tool"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, env, "PATH=/nowhere", "PATH="+tc.path)
			w.Args = []string{brokerapi.Binary, tc.program}
			status := envexec.Run(w.World)
			if !strings.HasSuffix(w.record.path, tc.want) || (tc.want == "") != (w.record.path == "") {
				t.Errorf("Run() = %d, started %q, want %q", status, w.record.path, tc.want)
			}
		})
	}
}

// A signal that comes when all is asked and done still ends the container, and from
// then on signals are the program's.
func TestRunStoppedAtTheLastMoment(t *testing.T) {
	env := broker(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, `{}`) })
	for name, came := range map[string]error{"Stopped": errBoom, "NotStopped": nil} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, env)
			given := false
			w.UntilStopped = func(ctx context.Context) (context.Context, func() error) {
				return ctx, func() error { given = true; return came }
			}
			w.Exec = func(path string, _, _ []string) error {
				if !given {
					t.Error("started with the wrapper still listening for signals")
				}
				w.record.path = path
				return errBoom
			}
			if envexec.Run(w.World); (w.record.path == "") != (came != nil) {
				t.Errorf("started %q, %q", w.record.path, w.message(t))
			}
		})
	}
}

// What a panic has to say may be anything, so nobody hears it.
func TestRunPanics(t *testing.T) {
	w := newWorld(t, broker(t, func(http.ResponseWriter, *http.Request) {}), brokerapi.EnvLogLevel+"=debug")
	w.Dial = func(context.Context, string, string) (net.Conn, error) { panic("hunter2") }
	if status := envexec.Run(w.World); status != envexec.ExitFailed || !strings.Contains(w.message(t), "bug of its own") {
		t.Errorf("Run() = %d, %q", status, w.message(t))
	}
	if said := w.stderr.String(); strings.Contains(said, "hunter2") || !strings.Contains(said, "envexec.client.connect:") {
		t.Errorf("said %s", said)
	}
}

// A person who looks at the log of a container that hangs sees what it waits for,
// and one that reads its last word how often it has asked.
func TestRunSaysWhatItWaitsFor(t *testing.T) {
	said := ""
	slow := func(c *tls.Config) (net.Conn, error) {
		near, far := net.Pipe()
		go func() { _, _ = io.Copy(io.Discard, tls.Server(far, c)) }()
		return near, nil
	}
	w := waiting(t, slow, brokerapi.EnvRetries+"=2", brokerapi.EnvRetryWait+"=")
	for line := range strings.SplitSeq(strings.TrimSpace(w.stderr.String()), "\n") {
		_, line, _ = strings.Cut(line, `"level":`)
		said += line + "\n"
	}
	waits := `"INFO","msg":"waiting for the broker, which may be waiting for the vault","address":"broker:1","atMost":"30s"}` + "\n"
	unreachable := "the broker did not answer at any of its addresses: see that the pods of azure-keyvault-broker are ready and that no network policy stands between"
	again := `"WARN","msg":"no values yet, asking the broker again","reason":"` + unreachable + `","in":"%s","triesLeft":%d}` + "\n"
	want := waits + fmt.Sprintf(again, "3s", 2) + waits + fmt.Sprintf(again, "6s", 1) + waits +
		`"ERROR","msg":"the container does not start","error":"azure-keyvault-env: ` + unreachable + ` (asked 3 times)"}` + "\n"
	if d := cmp.Diff(want, said); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

func TestRunWithoutProgram(t *testing.T) {
	w := newWorld(t, nil)
	w.Args = w.Args[:1]
	if status := envexec.Run(w.World); status != envexec.ExitFailed || !strings.Contains(w.message(t), "no program") {
		t.Errorf("Run() = %d, %q", status, w.message(t))
	}
}

func TestLogFormats(t *testing.T) {
	for name, tc := range map[string]struct{ format, says string }{
		"Default": {"", `{"time":`},
		"JSON":    {"json", `{"time":`},
		"Text":    {"text", "level=ERROR"},
		"Fmt":     {"fmt", "level=ERROR"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil, brokerapi.EnvLogFormat+"="+tc.format)
			if envexec.Run(w.World); !strings.Contains(w.stderr.String(), tc.says) {
				t.Errorf("log %s", w.stderr)
			}
		})
	}
}

// Who has another source asks that, with the same budget, and no broker's settings.
func TestRunFromAnotherSource(t *testing.T) {
	later := &envexec.Failure{Err: errors.New("later"), Retry: true}
	cases := map[string]struct {
		failure *envexec.Failure
		after   int // good answers come after so many failures
		environ []string
		asked   int
		says    string
	}{
		"Answered":   {nil, 0, nil, 1, ""},
		"AskedAgain": {later, 2, nil, 3, ""},
		"Exhausted":  {later, 9, []string{brokerapi.EnvRetries + "=1"}, 2, "later"},
		"Refused":    {envexec.Refused(brokerapi.Failure{Message: "no", Problems: []brokerapi.Problem{{Variable: "A", Reason: "Why", Message: "because"}}}), 9, nil, 1, "no; A (Why): because"},
		"BadBudget":  {nil, 0, []string{brokerapi.EnvRetries + "=x"}, 0, brokerapi.EnvRetries},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, []string{brokerapi.EnvContainer + "=app", brokerapi.EnvRetryWait + "=0"}, append(tc.environ, "A=x@azurekeyvault")...)
			asked := 0
			w.Source = func(envexec.World, *slog.Logger) (envexec.Ask, error) {
				return func(context.Context) (brokerapi.Response, *envexec.Failure) {
					if asked++; asked <= tc.after {
						return brokerapi.Response{}, tc.failure
					}
					return brokerapi.Response{Values: map[string][]byte{"x@azurekeyvault": []byte("hunter2")}}, nil
				}, nil
			}
			envexec.Run(w.World)
			if asked != tc.asked || !strings.Contains(w.message(t), tc.says) {
				t.Errorf("asked %d times, %q", asked, w.message(t))
			}
			if d := cmp.Diff([]string{"A=hunter2"}, w.record.environ); (d == "") != (tc.says == "") {
				t.Errorf("environment: -want +got\n%s", d)
			}
		})
	}
}
