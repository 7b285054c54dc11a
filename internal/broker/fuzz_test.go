// SPDX-License-Identifier: Apache-2.0

package broker_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/akv2k8s/akv2k8s/internal/broker"
	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
)

// Whatever bytes a connection carries, a stranger gets no value, each request that
// reaches the broker is on record once, one connection is one answer, and nothing
// ends in a panic. The broker's own server reads them, without its TLS.
func FuzzRequest(f *testing.F) {
	seeds := requests()
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	p := newPlayer(f)
	for name, seed := range seeds { // or the search begins in the wrong place
		if got := p.play(f, []byte(seed)); strings.HasPrefix(name, "good") != (got == http.StatusOK) {
			f.Errorf("%s: status %d", name, got)
		}
	}
	f.Fuzz(func(t *testing.T, sent []byte) { p.play(t, sent) })
}

// forever is a token's end that comes after that of any search.
func forever(claims map[string]any) { claims["exp"] = 1 << 40 }

// requests are whole ones; those of "good" get values.
func requests() map[string]string {
	const (
		line   = "POST " + brokerapi.ValuesPath + " HTTP/1.1\r\nHost: broker\r\n"
		asked  = `{"container":"app"}`
		length = "Content-Length: 19\r\n\r\n"
		chunks = "Transfer-Encoding: chunked\r\n\r\n"
		// The next request, for a server that miscounts the one before.
		next = line + length + asked
	)
	auth := func(name string, change ...func(map[string]any)) string {
		return "Authorization: Bearer " + token(name, append(change, forever)...) + "\r\n"
	}
	good, bad := auth("good"), auth("bad")
	body := func(text string) string {
		return line + good + "Content-Length: " + strconv.Itoa(len(text)) + "\r\n\r\n" + text
	}
	return map[string]string{
		"good":              line + good + length + asked,
		"goodChunked":       line + good + chunks + "5\r\n{\"con\r\ne;a=b\r\ntainer\":\"app\"}\r\n0\r\n\r\n",
		"goodTrailer":       line + "Trailer: X\r\n" + good + chunks + "13\r\n" + asked + "\r\n0\r\nX: y\r\n\r\n",
		"goodSecond":        line + good + length + asked + next,
		"goodLines":         strings.ReplaceAll(line+good+length+asked, "\r\n", "\n"),
		"goodOld":           strings.Replace(line, "1.1", "1.0", 1) + good + length + asked,
		"goodAbsolute":      strings.Replace(line, brokerapi.ValuesPath, "https://broker"+brokerapi.ValuesPath, 1) + good + length + asked,
		"goodQuery":         strings.Replace(line, " HTTP", "?container=init HTTP", 1) + good + length + asked,
		"goodExpect":        line + "Expect: 100-continue\r\n" + good + length + asked,
		"goodSameLength":    line + good + "Content-Length: 19\r\n" + length + asked,
		"goodCase":          strings.Replace(line, "Host", "hOST", 1) + strings.Replace(good, "Authorization: Bearer", "aUTHORIZATION:\tbEARER", 1) + length + asked,
		"goodInit":          body(`{"container":"init"}`),
		"goodPlain":         body(`{"container":"idle"}`),
		"goodTwice":         body(`{"container":"none","container":"init"}`), // as encoding/json reads it
		"goodWrappedLine":   line + strings.Replace(good, "Bearer ", "\r\n Bearer ", 1) + length + asked,
		"stranger":          line + bad + length + asked,
		"nobody":            line + length + asked,
		"twoTokens":         line + bad + good + length + asked,
		"tokenList":         line + strings.Replace(good, "\r\n", ", Bearer x\r\n", 1) + length + asked,
		"tokenInQuery":      strings.Replace(line, " HTTP", "?access_token="+token("good", forever)+" HTTP", 1) + length + asked,
		"tokenInTrailer":    line + "Trailer: Authorization\r\n" + chunks + "13\r\n" + asked + "\r\n0\r\n" + good + "\r\n",
		"tokenInBody":       line + "Content-Length: 2000\r\n\r\n" + good + next,
		"tokenOfProxy":      line + "Proxy-" + good + length + asked,
		"basic":             line + strings.Replace(good, "Bearer", "Basic", 1) + length + asked,
		"otherAudience":     line + auth("good", func(c map[string]any) { c["aud"] = "else" }) + length + asked,
		"unbound":           line + auth("good", func(c map[string]any) { c["kubernetes.io"] = nil }) + length + asked,
		"expired":           line + "Authorization: Bearer " + token("good", func(c map[string]any) { c["exp"] = 1 }) + "\r\n" + length + asked,
		"strayLine":         line + auth("bad", func(c map[string]any) { c["iss"] = "x\nlevel=INFO" }) + length + asked,
		"lengthAndChunks":   line + good + "Content-Length: 4\r\n" + chunks + "13\r\n" + asked + "x\r\n0\r\n\r\n" + next,
		"twoLengths":        line + good + "Content-Length: 2\r\n" + length + asked,
		"noLength":          line + good + "\r\n" + asked,
		"negativeLength":    line + good + "Content-Length: -1\r\n\r\n" + asked,
		"hugeLength":        line + good + "Content-Length: 9223372036854775808\r\n\r\n" + asked,
		"shortBody":         line + good + "Content-Length: 4096\r\n\r\n" + asked,
		"brokenChunk":       line + good + chunks + "xyz\r\n" + asked,
		"hugeChunk":         line + good + chunks + "ffffffffffffffff\r\n" + asked,
		"noLastChunk":       line + good + chunks + "13\r\n" + asked + "\r\n",
		"otherEncoding":     line + good + "Transfer-Encoding: gzip, chunked\r\n\r\n13\r\n" + asked + "\r\n0\r\n\r\n",
		"hugeBody":          body(asked + strings.Repeat(" ", brokerapi.MaxRequestBytes)),
		"hugeHeader":        line + "X: " + strings.Repeat("x", 40<<10) + "\r\n" + good + length + asked,
		"manyHeaders":       line + strings.Repeat("X: x\r\n", 6000) + good + length + asked,
		"spaceBeforeColon":  line + strings.Replace(good, ":", " :", 1) + length + asked,
		"zeroInHeader":      line + strings.Replace(good, "\r\n", "\x00\r\n", 1) + length + asked,
		"noHost":            "POST " + brokerapi.ValuesPath + " HTTP/1.1\r\n" + good + length + asked,
		"twoHosts":          line + "Host: other\r\n" + good + length + asked,
		"get":               strings.Replace(line, "POST", "GET", 1) + good + length + asked,
		"method":            strings.Replace(line, "POST", "post", 1) + good + length + asked,
		"overridden":        strings.Replace(line, "POST", "GET", 1) + "X-HTTP-Method-Override: POST\r\n" + good + length + asked,
		"connect":           "CONNECT broker:443 HTTP/1.1\r\nHost: broker\r\n" + good + "\r\n",
		"upgrade":           line + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n" + bad + length + asked,
		"preface":           "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
		"otherPath":         strings.Replace(line, "values", "value", 1) + good + length + asked,
		"dots":              strings.Replace(line, "/v1", "/x/../v1", 1) + good + length + asked,
		"slashes":           strings.Replace(line, "/v1", "//v1", 1) + good + length + asked,
		"hello":             "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"empty":             "",
		"invented":          body(`{"container":"nobody"}`),
		"ephemeral":         body(`{"container":"debugger"}`),
		"foreign":           body(`{"container":"foreign"}`),
		"path":              body(`{"container":"../app"}`),
		"capital":           body(`{"container":"App"}`),
		"zeroInName":        body("{\"container\":\"app\x00\"}"),
		"escapedZeroInName": body(`{"container":"app\u0000"}`),
		"number":            body(`{"container":1}`),
		"list":              body(`[{"container":"app"}]`),
		"text":              body(`"app"`),
		"null":              body(`null`),
		"twoDocuments":      body(asked + asked),
		"deep":              body(strings.Repeat("[", 2000)),
		"noJSON":            body("container=app"),
		"mark":              body("\xef\xbb\xbf" + asked),
	}
}

// player plays connections to the broker's own server.
type player struct {
	stage   *stage
	wire    *wire
	reached atomic.Int64 // the broker, for its one route
	server  buffer       // what the server says of its own accord
	played  int
	open    sync.WaitGroup // connections; a server lingers half a second over some
}

func newPlayer(f *testing.F) *player {
	f.Helper()
	few := func(pod *corev1.Pod) { // each request reads them all
		pod.Spec.Containers = slices.DeleteFunc(pod.Spec.Containers, func(c corev1.Container) bool {
			return !slices.Contains([]string{"app", "idle", "foreign"}, c.Name)
		})
	}
	p := &player{stage: newStage(f, few), wire: &wire{conns: make(chan net.Conn), done: make(chan struct{})}}
	p.stage.broker.Unlimited()
	served := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.URL.Path == brokerapi.ValuesPath {
			p.reached.Add(1)
		}
		// That the client has said all it will say does not mean that it has gone.
		p.stage.handler.ServeHTTP(w, r.WithContext(context.WithoutCancel(r.Context())))
	})
	server := broker.NewServer("", served, nil, slog.New(slog.NewTextHandler(&p.server, &slog.HandlerOptions{Level: slog.LevelDebug})))
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(p.wire) }()
	f.Cleanup(func() {
		p.open.Wait()
		_ = server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			f.Error(err)
		}
	})
	return p
}

// said is a connection whose client has said everything, and listens.
type said struct {
	io.Reader

	peer   net.Addr
	answer buffer
	// done and closed run once. A connection over which the server lingers is done, and
	// closed half a second later.
	done, closed func()
}

func (c *said) Write(b []byte) (int, error)      { return c.answer.Write(b) }
func (c *said) CloseWrite() error                { c.done(); return nil }
func (c *said) Close() error                     { c.done(); c.closed(); return nil }
func (c *said) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *said) RemoteAddr() net.Addr             { return c.peer }
func (c *said) SetDeadline(time.Time) error      { return nil }
func (c *said) SetReadDeadline(time.Time) error  { return nil }
func (c *said) SetWriteDeadline(time.Time) error { return nil }

// peer is another each time, so that none has too many connections.
func (p *player) peer() net.Addr {
	p.played++
	return &net.TCPAddr{IP: net.IPv4(10, 0, byte(p.played>>8), byte(p.played)), Port: 1}
}

// play returns the status of the answer, 0 for none.
func (p *player) play(tb testing.TB, sent []byte) int {
	tb.Helper()
	p.stage.log.Reset()
	p.server.Reset()
	before := p.reached.Load()
	p.open.Add(1)
	done := make(chan struct{})
	conn := &said{Reader: bytes.NewReader(sent), peer: p.peer(), done: sync.OnceFunc(func() { close(done) }), closed: sync.OnceFunc(p.open.Done)}
	p.wire.conns <- conn
	<-done
	log, answer := p.stage.log.String(), conn.answer.String()
	if lines, reached := strings.Count(log, `"msg":"request"`), p.reached.Load()-before; int64(lines) != reached || reached > 1 {
		tb.Errorf("%d requests, %d lines of audit: %s", reached, lines, log)
	}
	for line := range strings.Lines(log) {
		if !json.Valid([]byte(line)) {
			tb.Errorf("a line that is none: %q", line)
		}
	}
	if all := log + p.server.String(); strings.Contains(all, canary) || strings.Contains(all, "panic") || strings.Contains(all, tokenHead) {
		tb.Errorf("a value, a panic or a token in the log: %s", all)
	}
	return p.judge(tb, sent, answer)
}

var (
	// tokenHead begins every token of the tests.
	tokenHead, _, _ = strings.Cut(token(""), ".")
	// goodSignature ends those that the API server knows.
	goodSignature = base64.RawURLEncoding.EncodeToString([]byte("good"))
	// hidden begins the values in an answer, all but those of the pair.
	hidden = base64.StdEncoding.EncodeToString([]byte(canary))[:16]
)

// judge reads the answer as a client does.
func (p *player) judge(tb testing.TB, sent []byte, answer string) int {
	tb.Helper()
	from := bufio.NewReader(strings.NewReader(answer))
	status := 0
	for status < 200 && answer != "" {
		resp, err := http.ReadResponse(from, nil)
		if err != nil {
			tb.Errorf("no answer of HTTP: %v: %q", err, answer)
			return 0
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if status = resp.StatusCode; err != nil {
			tb.Errorf("status %d: %v", status, err)
		}
	}
	if rest, _ := io.ReadAll(from); len(rest) > 0 {
		tb.Errorf("a second answer: %q", rest)
	}
	// The signature alone counts here: a stranger is who has not got that.
	stranger := !bytes.Contains(sent, []byte("."+goodSignature))
	if status == http.StatusInternalServerError || status == http.StatusOK && stranger {
		tb.Errorf("status %d", status)
	}
	if strings.Contains(answer, canary) || status != http.StatusOK && strings.Contains(answer, hidden) {
		tb.Errorf("a value in %q", answer)
	}
	if status == http.StatusOK && !strings.Contains(answer, "Cache-Control: no-store\r\n") {
		tb.Error("an answer that may be stored")
	}
	return status
}
