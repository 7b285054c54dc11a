// SPDX-License-Identifier: Apache-2.0

package azure_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/akv2k8s/akv2k8s/internal/azure"
	"github.com/akv2k8s/akv2k8s/internal/eventgrid"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

const (
	queueURL  = "https://account1.queue.core.windows.net/vault-events"
	storage   = "https://storage.azure.com"
	signature = "sig=" + canary
)

func newQueue(t *testing.T, cred *azure.Credential, o azure.QueueOptions) *azure.Queue {
	t.Helper()
	queue, err := azure.NewQueue(cred, queueURL, o)
	if err != nil {
		t.Fatal(err)
	}
	return queue
}

// queueAnswer is a queue that gives the same answer to all who have a token for it.
func queueAnswer(w *azureWorld, status int, code, body string, header map[string]string) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		claims, err := w.authority.Verify(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
		if err != nil || claims.Audience != storage {
			rw.Header().Set("WWW-Authenticate", "Bearer authorization_uri=https://login.microsoftonline.com/"+w.app.TenantID+"/oauth2/authorize resource_id=https://storage.azure.com")
			rw.Header().Set("X-Ms-Error-Code", "InvalidAuthenticationInfo")
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		for name, value := range header {
			rw.Header().Set(name, value)
		}
		if code != "" {
			rw.Header().Set("X-Ms-Error-Code", code)
			body = `<?xml version="1.0"?><Error><Code>` + code + `</Code><Message>` + canary + `</Message></Error>`
		}
		rw.Header().Set("Content-Type", "application/xml")
		rw.WriteHeader(status)
		_, _ = io.WriteString(rw, body)
	})
}

const twoMessages = `<?xml version="1.0" encoding="utf-8"?><QueueMessagesList>
<QueueMessage><MessageId>5974b586-0df3-4e2d-ad0c-18e3892bfca2</MessageId><InsertionTime>Fri, 09 Oct 2026 21:04:30 GMT</InsertionTime>
<ExpirationTime>Fri, 16 Oct 2026 21:04:30 GMT</ExpirationTime><PopReceipt>YzQ4Yzg1/+MDItMGFl</PopReceipt>
<TimeNextVisible>Fri, 09 Oct 2026 23:29:20 GMT</TimeNextVisible><DequeueCount>3</DequeueCount><MessageText>W10=</MessageText></QueueMessage>
<QueueMessage><MessageId>no-receipt</MessageId><MessageText>W10=</MessageText></QueueMessage>
</QueueMessagesList>`

func TestReceive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set(func(w *azureWorld) { w.vault = queueAnswer(w, http.StatusOK, "", twoMessages, nil) })
	got, err := newQueue(t, w.credential(t, nil), azure.QueueOptions{}).Receive(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := []eventgrid.Message{{
		ID: "5974b586-0df3-4e2d-ad0c-18e3892bfca2", Receipt: "YzQ4Yzg1/+MDItMGFl", Body: []byte("W10="), Deliveries: 3,
		Inserted: time.Date(2026, 10, 9, 21, 4, 30, 0, time.UTC),
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n := w.count(".queue."); n != 1 {
		t.Errorf("%d requests were made, want one", n)
	}
}

func TestQueueErrors(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		status int
		code   string
		header map[string]string
		want   error
		text   string
	}{
		"NoRole":         {403, "AuthorizationPermissionMismatch", nil, vault.ErrForbidden, "the identity may not receive from this queue"},
		"UnknownRefusal": {403, "", nil, vault.ErrForbidden, "the identity may not receive from this queue"},
		"Firewall":       {403, "AuthorizationFailure", nil, vault.ErrFirewall, "the storage account's firewall refuses this network"},
		"BadToken":       {403, "AuthenticationFailed", nil, vault.ErrSignIn, "signing in to Azure was refused"},
		"NoQueue":        {404, "QueueNotFound", nil, vault.ErrNoQueue, "there is no such queue"},
		"SomebodysPage":  {404, "", nil, vault.ErrUnavailable, "the queue did not answer"},
		"Busy":           {503, "ServerBusy", nil, vault.Throttled{}, "the queue asked us to slow down"},
		"BusyFor":        {503, "ServerBusy", map[string]string{"Retry-After": "7"}, vault.Throttled{RetryAfter: 7 * time.Second}, "the queue asked us to slow down"},
		"TooMany":        {429, "", nil, vault.Throttled{}, "the queue asked us to slow down"},
		"Down":           {503, "", nil, vault.ErrUnavailable, "the queue did not answer"},
		"Broken":         {500, "InternalError", nil, vault.ErrUnavailable, "the queue did not answer"},
		"Redirect":       {302, "", map[string]string{"Location": "https://account2.queue.core.windows.net/x"}, vault.ErrUnavailable, "the queue did not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.set(func(w *azureWorld) { w.vault = queueAnswer(w, tc.status, tc.code, canary, tc.header) })
			log, out := newLog()
			queue := newQueue(t, w.credential(t, log), azure.QueueOptions{Log: log})
			_, err := queue.Receive(t.Context())
			if !errors.Is(err, tc.want) || err.Error() != tc.text {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if err := queue.Delete(t.Context(), eventgrid.Message{ID: "a", Receipt: "b"}); !errors.Is(err, tc.want) {
				t.Errorf("deleting: got %v, want %v", err, tc.want)
			}
			if strings.Contains(out.String(), canary) {
				t.Errorf("a remote text was logged: %s", out)
			}
			if n := w.count(".queue."); n != 2 {
				t.Errorf("%d requests were made, want two: retries are for others to make", n)
			}
		})
	}
}

// Messages that are too many bytes together are received one by one.
func TestLargeMessages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var left atomic.Int32
	left.Store(20)
	w.set(func(w *azureWorld) {
		w.vault = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			count, err := strconv.Atoi(r.URL.Query().Get("numofmessages"))
			if err != nil {
				t.Error(err)
			}
			one := "<QueueMessage><MessageId>a</MessageId><PopReceipt>b</PopReceipt><MessageText>" + strings.Repeat("&amp;", 64<<10) + "</MessageText></QueueMessage>"
			body := "<QueueMessagesList>" + strings.Repeat(one, min(count, int(left.Load()))) + "</QueueMessagesList>"
			queueAnswer(w, http.StatusOK, "", body, nil).ServeHTTP(rw, r)
		})
	})
	queue := newQueue(t, w.credential(t, nil), azure.QueueOptions{})
	if _, err := queue.Receive(t.Context()); !errors.Is(err, vault.ErrUnavailable) {
		t.Fatalf("got %v, want ErrUnavailable", err)
	}
	got, err := queue.Receive(t.Context())
	if err != nil || len(got) != 1 || len(got[0].Body) != 64<<10 {
		t.Fatalf("got %d messages, %v, want one whole", len(got), err)
	}
	left.Store(0)
	if got, err := queue.Receive(t.Context()); err != nil || len(got) != 0 {
		t.Fatalf("got %d messages, %v, want none", len(got), err)
	}
	left.Store(3)
	if got, err := queue.Receive(t.Context()); err != nil || len(got) != 3 {
		t.Errorf("got %d messages, %v, want three", len(got), err)
	}
}

// A message that somebody else has by now, or that is gone, needs no deleting.
func TestDeleteTwice(t *testing.T) {
	t.Parallel()
	for status, code := range map[int]string{http.StatusNotFound: "MessageNotFound", http.StatusBadRequest: "PopReceiptMismatch"} {
		w := newWorld(t)
		w.set(func(w *azureWorld) { w.vault = queueAnswer(w, status, code, "", nil) })
		if err := newQueue(t, w.credential(t, nil), azure.QueueOptions{}).Delete(t.Context(), eventgrid.Message{ID: "a", Receipt: "b"}); err != nil {
			t.Errorf("%s: %v", code, err)
		}
	}
}

func TestNoSuchAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set(func(w *azureWorld) { w.noAccount = true })
	if _, err := newQueue(t, w.credential(t, nil), azure.QueueOptions{}).Receive(t.Context()); !errors.Is(err, vault.ErrNoQueue) {
		t.Errorf("got %v, want ErrNoQueue", err)
	}
}

// A queue that names another resource in its challenge must not be sent a token for it.
func TestNoTokenForAnotherResource(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var audiences []string
	w.set(func(w *azureWorld) {
		w.vault = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			claims, err := w.authority.Verify(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
			if err != nil {
				t.Error(err)
			}
			audiences = append(audiences, claims.Audience)
			rw.Header().Set("WWW-Authenticate", "Bearer authorization_uri=https://login.microsoftonline.com/"+w.app.TenantID+"/oauth2/authorize resource_id=https://vault.azure.net")
			rw.WriteHeader(http.StatusUnauthorized)
		})
	})
	if _, err := newQueue(t, w.credential(t, nil), azure.QueueOptions{}).Receive(t.Context()); !errors.Is(err, vault.ErrSignIn) {
		t.Errorf("got %v, want ErrSignIn", err)
	}
	for _, audience := range audiences {
		if audience != storage {
			t.Errorf("a token for %s was sent", audience)
		}
	}
}

func TestRevokedTokenIsRenewed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set(func(w *azureWorld) { w.vault = queueAnswer(w, http.StatusOK, "", twoMessages, nil) })
	queue := newQueue(t, w.credential(t, nil), azure.QueueOptions{})
	if _, err := queue.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.authority.RevokeTokens()
	if _, err := queue.Receive(t.Context()); err != nil {
		t.Errorf("after the revocation: %v", err)
	}
}

func TestCanceledReceive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := newQueue(t, w.credential(t, nil), azure.QueueOptions{}).Receive(ctx)
	if !errors.Is(err, vault.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestQueueURLs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cred := w.credential(t, nil)
	for name, tc := range map[string]struct {
		url     string
		anyHost bool
		want    string // part of the error; empty is none
	}{
		"Plain":             {queueURL, false, ""},
		"UpperCaseHost":     {"https://Account1.Queue.Core.Windows.Net/q01", false, ""},
		"ExplicitPort":      {"https://account1.queue.core.windows.net:443/q01", false, ""},
		"OwnName":           {"https://127.0.0.1:10001/q01", true, ""},
		"OwnNameNotAllowed": {"https://127.0.0.1:10001/q01", false, "below queue.core.windows.net"},
		"AnotherPort":       {"https://account1.queue.core.windows.net:8443/q01", false, "below queue.core.windows.net"},
		"AnotherCloud":      {"https://account1.queue.core.chinacloudapi.cn/q01", false, "below queue.core.windows.net"},
		"LooksLikeIt":       {"https://account1.queue.core.windows.net.example.com/q01", false, "below queue.core.windows.net"},
		"TwoLabels":         {"https://a.account1.queue.core.windows.net/q01", false, "below queue.core.windows.net"},
		"HTTP":              {"http://account1.queue.core.windows.net/q01", true, "https://"},
		"NoScheme":          {"account1.queue.core.windows.net/q01", true, "https://"},
		"Empty":             {"", true, "https://"},
		"Malformed":         {"https://%zz/" + canary, true, "malformed"},
		"SAS":               {queueURL + "?sv=2026-04-06&" + signature, false, "shared access signature"},
		"EmptyQuery":        {queueURL + "?", false, "shared access signature"},
		"User":              {"https://" + canary + "@account1.queue.core.windows.net/q01", false, "user information"},
		"Fragment":          {queueURL + "#" + canary, false, "fragment"},
		"NoQueue":           {"https://account1.queue.core.windows.net/", false, "name of one queue"},
		"TwoParts":          {queueURL + "/messages", false, "name of one queue"},
		"SlashAtEnd":        {queueURL + "/", false, "name of one queue"},
		"Short":             {"https://account1.queue.core.windows.net/ab", false, "name of one queue"},
		"Long":              {"https://account1.queue.core.windows.net/" + strings.Repeat("a", 64), false, "name of one queue"},
		"UpperCase":         {"https://account1.queue.core.windows.net/Queue", false, "name of one queue"},
		"TwoHyphens":        {"https://account1.queue.core.windows.net/a--b", false, "name of one queue"},
		"HyphenAtEnd":       {"https://account1.queue.core.windows.net/ab-", false, "name of one queue"},
		"Escaped":           {"https://account1.queue.core.windows.net/a%2fb", false, "name of one queue"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := azure.NewQueue(cred, tc.url, azure.QueueOptions{AnyHost: tc.anyHost})
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want something about %q", err, tc.want)
			case err != nil && strings.Contains(err.Error(), canary):
				t.Errorf("the error quotes the URL: %v", err)
			}
		})
	}
}
