// SPDX-License-Identifier: Apache-2.0

package envexec_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/envexec"
)

// authority signs certificates.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return authority{key, sign(t, template, template, key, key)}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, template, parent *x509.Certificate, key, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (a authority) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

// issue makes what a server serves: a certificate for the broker, changed.
func (a authority) issue(t *testing.T, change ...func(*x509.Certificate)) *tls.Config {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "hunter2"}, DNSNames: []string{"example.com"},
		NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, f := range change {
		f(template)
	}
	leaf := sign(t, template, a.cert, key, a.key)
	return &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw, a.cert.Raw}, PrivateKey: key}}, MinVersion: tls.VersionTLS12,
	}
}

// liar is a server that keeps all that it is told, also what it could not decipher.
type liar struct {
	mu    sync.Mutex
	heard bytes.Buffer
	calls int
}

func (l *liar) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.heard.Write(b)
}

func (l *liar) all() (int, string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls, l.heard.String()
}

// overheard is a connection that the liar keeps.
type overheard struct {
	net.Conn

	by *liar
}

func (c overheard) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	_, _ = c.by.Write(b[:n])
	return n, err
}

// lie listens, speaks TLS unless config is nil, hears a request and says something.
// It returns the address.
func lie(t *testing.T, config *tls.Config, say func(to io.Writer)) (string, *liar) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			l.mu.Lock()
			l.calls++
			l.mu.Unlock()
			all.Go(func() { l.serve(conn, config, say) })
		}
	})
	t.Cleanup(func() { _ = listener.Close(); all.Wait() })
	return listener.Addr().String(), l
}

func (l *liar) serve(raw net.Conn, config *tls.Config, say func(io.Writer)) {
	defer func() { _ = raw.Close() }()
	var conn net.Conn = overheard{raw, l}
	if config != nil {
		conn = overheard{tls.Server(conn, config), l}
	}
	// All that comes: of a request its last bytes, without TLS the greeting.
	buffer, last := make([]byte, 4096), ""
	for !strings.HasSuffix(last, `{"container":"app"}`) && (config != nil || last == "") {
		n, err := conn.Read(buffer)
		if err != nil {
			break
		}
		last += string(buffer[:n])
	}
	say(conn)
	_, _ = io.Copy(io.Discard, conn) // whatever else it lets slip
}

const liarsToken = "the-pods-own-token"

// meets starts a container before a server and returns what became of it.
func meets(t *testing.T, a authority, address string, more ...string) (int, world) {
	t.Helper()
	w := newWorld(t, admitted(address, a.pem()), append(more,
		brokerapi.EnvRetries+"=0", brokerapi.EnvLogLevel+"=debug", "A=x@azurekeyvault")...)
	write(t, w.TokenFile, liarsToken)
	return envexec.Run(w.World), w
}

// refused checks that the program did not start, that a sentence says why, and that
// nothing of what the server said or showed is repeated.
func refused(t *testing.T, status int, w world, says string) {
	t.Helper()
	message, log := w.message(t), w.stderr.String()
	if status != envexec.ExitFailed || w.record.path != "" {
		t.Errorf("Run() = %d, started %q", status, w.record.path)
	}
	if !strings.Contains(message, says) || strings.Contains(message, "\n") || !strings.Contains(log, says) {
		t.Errorf("message %q\nlog %s", message, log)
	}
	for _, word := range []string{"hunter2", "aHVudGVyMg", "x509", "<html", "remote error", liarsToken} {
		if strings.Contains(message+log, word) {
			t.Errorf("%q in %q or %s", word, message, log)
		}
	}
}

const (
	certificateDoesNotFit = "the broker's certificate does not fit"
	didNotAnswer          = "the broker did not answer at any of its addresses"
	couldNotBeRead        = "the broker's answer could not be read"
	goodAnswer            = "HTTP/1.1 200 OK\r\nContent-Length: 41\r\n\r\n" + `{"values":{"x@azurekeyvault":"aHVudGVy"}}`
)

func says(text string) func(io.Writer) {
	return func(to io.Writer) { _, _ = io.WriteString(to, text) }
}

// Whoever cannot show the broker's certificate never hears the token, whatever they
// would say to it.
func TestTokenIsForTheBrokerAlone(t *testing.T) {
	t.Parallel()
	ours, theirs := newAuthority(t), newAuthority(t)
	self := theirs.issue(t)
	self.Certificates[0].Certificate = self.Certificates[0].Certificate[:1]
	old := ours.issue(t)
	old.MaxVersion = tls.VersionTLS12
	for name, tc := range map[string]struct {
		config *tls.Config
		says   string
	}{
		"OtherAuthority": {theirs.issue(t), certificateDoesNotFit},
		"NobodySigned":   {self, certificateDoesNotFit},
		"OtherName":      {ours.issue(t, func(c *x509.Certificate) { c.DNSNames = []string{"hunter2.example.com"} }), certificateDoesNotFit},
		"AddressOnly":    {ours.issue(t, func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, []net.IP{net.IPv4(127, 0, 0, 1)} }), certificateDoesNotFit},
		"CommonNameOnly": {ours.issue(t, func(c *x509.Certificate) { c.DNSNames, c.Subject.CommonName = nil, "example.com" }), certificateDoesNotFit},
		"Expired":        {ours.issue(t, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), certificateDoesNotFit},
		"NotYetValid":    {ours.issue(t, func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), certificateDoesNotFit},
		"ForClients": {ours.issue(t, func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
		}), certificateDoesNotFit},
		"OldTLS":       {old, didNotAnswer},
		"NoTLS":        {nil, didNotAnswer},
		"NoConnection": {&tls.Config{MinVersion: tls.VersionTLS13}, didNotAnswer}, // has no certificate at all
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, liar := lie(t, tc.config, says(goodAnswer))
			status, w := meets(t, ours, address)
			refused(t, status, w, tc.says)
			calls, heard := liar.all()
			if strings.Contains(heard, liarsToken) || strings.Contains(heard, "Authorization") || calls == 0 || heard == "" {
				t.Errorf("in %d connections it heard %q", calls, heard)
			}
		})
	}
	t.Run("TheBroker", func(t *testing.T) { // hears it, and is heard
		t.Parallel()
		address, liar := lie(t, ours.issue(t), says(goodAnswer))
		_, w := meets(t, ours, address)
		if _, heard := liar.all(); !strings.Contains(heard, "Bearer "+liarsToken) || !slices.Equal(w.record.environ, []string{"A=hunter"}) {
			t.Errorf("it heard %q, and the program got %q: %s", heard, w.record.environ, w.stderr)
		}
	})
	t.Run("TheBrokerBehindALiar", func(t *testing.T) { // who is asked first and keeps nobody from starting
		t.Parallel()
		first, liar := lie(t, theirs.issue(t), says(goodAnswer))
		second, _ := lie(t, ours.issue(t), says(goodAnswer))
		_, w := meets(t, ours, first+","+second)
		if _, heard := liar.all(); strings.Contains(heard, liarsToken) || !slices.Equal(w.record.environ, []string{"A=hunter"}) {
			t.Errorf("it heard %q, and the program got %q: %s", heard, w.record.environ, w.stderr)
		}
	})
}

// endless says a text, and another one until nobody listens any more.
func endless(first, again string) func(io.Writer) {
	return func(to io.Writer) {
		_, err := io.WriteString(to, first)
		for much := strings.Repeat(again, 1000); err == nil; {
			_, err = io.WriteString(to, much)
		}
	}
}

// A broker that has gone mad starts nothing, and its words are repeated to nobody.
func TestAnswersThatMakeNoSense(t *testing.T) {
	t.Parallel()
	ours := newAuthority(t)
	config := ours.issue(t)
	elsewhere, other := lie(t, config, says(goodAnswer))
	const ok = "HTTP/1.1 200 OK\r\n"
	length := func(text string) string { return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", ok, len(text), text) }
	for name, tc := range map[string]struct {
		say  func(io.Writer)
		says string
	}{
		"HTML":           {says(length("<html>hunter2</html>")), couldNotBeRead},
		"OtherJSON":      {says(length(`["hunter2"]`)), couldNotBeRead},
		"TwoDocuments":   {says(length(`{"values":{"x@azurekeyvault":"aHVudGVyMg=="}}{}`)), couldNotBeRead},
		"NoBase64":       {says(length(`{"values":{"x@azurekeyvault":"hunter2"}}`)), couldNotBeRead},
		"Compressed":     {says(strings.Replace(length("\x1f\x8b\x08hunter2"), "\r\n", "\r\nContent-Encoding: gzip\r\n", 1)), couldNotBeRead},
		"Empty":          {says(length("")), couldNotBeRead},
		"NoContent":      {says("HTTP/1.1 204 hunter2\r\n\r\n"), couldNotBeRead},
		"Redirect":       {says("HTTP/1.1 307 hunter2\r\nLocation: https://" + elsewhere + "/v1/values\r\nContent-Length: 0\r\n\r\n"), couldNotBeRead},
		"Moved":          {says("HTTP/1.1 302 hunter2\r\nLocation: https://" + elsewhere + "/\r\nContent-Length: 0\r\n\r\n"), couldNotBeRead},
		"ProxyWanted":    {says("HTTP/1.1 407 hunter2\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n"), couldNotBeRead},
		"Endless":        {endless(ok+"\r\n", "hunter2 "), couldNotBeRead},
		"EndlessChunks":  {endless(ok+"Transfer-Encoding: chunked\r\n\r\n", "8\r\nhunter2 \r\n"), couldNotBeRead},
		"EndlessSpaces":  {endless(ok+"\r\n", strings.Repeat(" ", 64)), couldNotBeRead},
		"HugeLength":     {endless(ok+"Content-Length: 1099511627776\r\n\r\n", "hunter2 "), couldNotBeRead},
		"CutOff":         {says(ok + "Content-Length: 100\r\n\r\nhunter2"), didNotAnswer},
		"EndlessHeaders": {endless(ok, "X: hunter2\r\n"), didNotAnswer},
		"EndlessHeader":  {endless(ok+"X: ", "hunter2"), didNotAnswer},
		"EndlessStatus":  {endless("HTTP/1.1 200 ", "hunter2"), didNotAnswer},
		"NoHTTP":         {says("hunter2 hunter2 hunter2\r\n\r\n"), didNotAnswer},
		"OtherValues":    {says(length(`{"values":{"A":"aHVudGVyMg==","y@azurekeyvault":"aHVudGVyMg=="}}`)), "A: the placeholder there is not among those"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hangUp := func(to io.Writer) { // when everything is said
				tc.say(to)
				_ = to.(overheard).Close()
			}
			address, liar := lie(t, config, hangUp)
			status, w := meets(t, ours, address)
			refused(t, status, w, tc.says)
			if _, heard := liar.all(); !strings.Contains(heard, liarsToken) {
				t.Error("it was not even asked")
			}
			if calls, _ := other.all(); calls > 0 {
				t.Error("another was asked")
			}
		})
	}
}

// What the container did not ask for reaches nobody.
func TestValuesThatNobodyAskedFor(t *testing.T) {
	t.Parallel()
	ours := newAuthority(t)
	body := `{"values":{"x@azurekeyvault":"aHVudGVy","LD_PRELOAD":"aHVudGVyMg==","PATH":"aHVudGVyMg==","A":"aHVudGVyMg==","B=x@azurekeyvault":"aHVudGVyMg=="},` +
		`"absent":["plain"],"environ":["LD_PRELOAD=hunter2"]}`
	address, _ := lie(t, ours.issue(t), says(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)))
	_, w := meets(t, ours, address, "PATH=/usr/bin:/bin", "PLAIN=plain")
	if want := []string{"PATH=/usr/bin:/bin", "PLAIN=plain", "A=hunter"}; !slices.Equal(w.record.environ, want) || strings.Contains(w.stderr.String(), "hunter") {
		t.Errorf("the program got %q, want %q: %s", w.record.environ, want, w.stderr)
	}
}
