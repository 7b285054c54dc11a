// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/akv2k8s/akv2k8s/internal/brokerapi"
	"github.com/akv2k8s/akv2k8s/internal/envexec"
)

// The stories' command is main but for three paths, which are fixed in a container.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"azure-keyvault-env": func() {
		token, message, files := os.Getenv("TOKEN_FILE"), os.Getenv("TERMINATION_LOG"), os.Getenv("FILES_DIR")
		w := envexec.System() // takes the environment away
		w.TokenFile, w.TerminationLog, w.FilesDir = token, message, files
		os.Exit(envexec.Run(w))
	}})
}

// The stories add two words to testscript's own:
//
//	broker FILE...   start a broker that answers each request with the next of
//	                 these files, the last one again and again, and set what
//	                 admission would; a file holds a status, optionally a delay,
//	                 and the body on the next line
//	asked N          it was asked N times
func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata",
		Setup: setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"broker": startBroker,
			"asked":  asked,
		},
	})
}

func setup(e *testscript.Env) error {
	e.Setenv("TOKEN_FILE", e.WorkDir+"/token")
	e.Setenv("TERMINATION_LOG", e.WorkDir+"/termination-log")
	e.Setenv(brokerapi.EnvRetryWait, "0")
	e.Values["asked"] = new(atomic.Int64)
	files, err := os.MkdirTemp("/dev/shm", "azure-keyvault-env-") // in memory, as in a container
	if err != nil {
		return err
	}
	e.Defer(func() { _ = os.RemoveAll(files) })
	e.Setenv("FILES_DIR", files)
	if err := os.WriteFile(e.WorkDir+"/termination-log", nil, 0o600); err != nil {
		return err
	}
	return os.WriteFile(e.WorkDir+"/token", []byte("pod-token"), 0o600)
}

type reply struct {
	status int
	delay  time.Duration
	body   string
}

func startBroker(ts *testscript.TestScript, neg bool, files []string) {
	if neg || len(files) == 0 {
		ts.Fatalf("usage: broker FILE...")
	}
	var replies []reply
	for _, f := range files {
		replies = append(replies, parseReply(ts, ts.ReadFile(f)))
	}
	count := ts.Value("asked").(*atomic.Int64)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(count.Add(1))
		if r.Header.Get("Authorization") != "Bearer pod-token" || r.URL.Path != brokerapi.ValuesPath {
			http.Error(w, "not as admitted", http.StatusTeapot)
			return
		}
		say := replies[min(n, len(replies))-1]
		<-time.After(say.delay)
		w.WriteHeader(say.status)
		_, _ = io.WriteString(w, say.body)
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // a wrapper that hangs up is part of the stories
	s.StartTLS()
	ts.Defer(s.Close)
	ts.Setenv(brokerapi.EnvContainer, "app")
	ts.Setenv(brokerapi.EnvBroker, s.Listener.Addr().String())
	ts.Setenv(brokerapi.EnvServerName, "example.com") // a name in httptest's certificate
	ts.Setenv(brokerapi.EnvCABundle, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
}

func parseReply(ts *testscript.TestScript, text string) reply {
	head, body, _ := strings.Cut(text, "\n")
	words := strings.Fields(head)
	status, err := strconv.Atoi(words[0])
	ts.Check(err)
	r := reply{status: status, body: body}
	if len(words) > 1 {
		r.delay, err = time.ParseDuration(words[1])
		ts.Check(err)
	}
	return r
}

func asked(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: asked N")
	}
	if got := strconv.FormatInt(ts.Value("asked").(*atomic.Int64).Load(), 10); got != args[0] {
		ts.Fatalf("the broker was asked %s times, not %s", got, args[0])
	}
}
