// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azqueue/v2/queueerror"

	"github.com/akv2k8s/akv2k8s/internal/eventgrid"
	"github.com/akv2k8s/akv2k8s/internal/vault"
)

// QueueOptions of a Queue. The zero value is good for production.
type QueueOptions struct {
	// AnyHost lifts the rule that a queue is below the suffix of the credential's
	// cloud, for an emulator or a name of one's own. It is the operator's to choose:
	// the host is sent a token for all of Azure Storage.
	AnyHost bool
	// Visibility is how long a message that was received stays hidden from the next
	// Receive, in whole seconds, at least one. The default is 30 seconds.
	Visibility time.Duration
	// Timeout bounds one call, sign-in included. The default is 20 seconds.
	Timeout time.Duration
	Log     *slog.Logger // nil is silence
}

const (
	defaultVisibility = 30 * time.Second
	maxVisibility     = 7 * 24 * time.Hour // Azure's
	// maxMessages is the most that Azure hands out at once.
	maxMessages = 32
	// storageScope is the same in all clouds.
	storageScope = "https://storage.azure.com/.default"
)

// Queue receives from one queue of Azure Storage. It is safe for concurrent use and
// implements eventgrid.Queue.
type Queue struct {
	cred       *Credential
	client     *azqueue.QueueClient
	host       string
	name       string
	visibility int32 // seconds
	timeout    time.Duration
	log        *slog.Logger
	batch      atomic.Int32 // how many to ask for
}

var _ eventgrid.Queue = (*Queue)(nil)

// NewQueue makes a Queue that signs in with cred and shares its HTTP client; nobody
// is called yet. The address is https://ACCOUNT.queue.core.windows.net/QUEUE, or the
// like in the credential's cloud. Errors are sentences without a word of the address:
// it may hold a key that does not belong there.
func NewQueue(cred *Credential, address string, o QueueOptions) (*Queue, error) {
	u, err := parseQueueURL(address, cred.Cloud().queueSuffix, o.AnyHost)
	if err != nil {
		return nil, err
	}
	if o.Visibility <= 0 {
		o.Visibility = defaultVisibility
	}
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	client, err := azqueue.NewQueueClient(u.String(), storageCredential{cred}, &azqueue.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: cred.http,
		// Whoever schedules the calls retries them: it asks again soon in any case.
		Retry:     policy.RetryOptions{MaxRetries: -1},
		Telemetry: policy.TelemetryOptions{Disabled: true},
	}})
	if err != nil {
		return nil, errors.New("the Azure SDK makes no client for the queue's URL")
	}
	q := &Queue{
		cred: cred, client: client, host: u.Hostname(), name: strings.TrimPrefix(u.Path, "/"),
		visibility: seconds(o.Visibility), timeout: o.Timeout, log: o.Log,
	}
	q.batch.Store(maxMessages)
	return q, nil
}

func seconds(visibility time.Duration) int32 {
	return int32(min(max(visibility, time.Second), maxVisibility) / time.Second)
}

var (
	accountPattern = regexp.MustCompile(`\A[a-z0-9]{3,24}\z`)
	// Letters, digits and single hyphens between them; the length is counted apart.
	queuePattern = regexp.MustCompile(`\A[a-z0-9]+(-[a-z0-9]+)*\z`)
)

func parseQueueURL(address, suffix string, anyHost bool) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, errors.New("the queue's URL is malformed")
	case u.Scheme != "https" || u.Host == "":
		return nil, fmt.Errorf("the queue's URL must begin with https://, as in https://account.%s/queue", suffix)
	case u.RawQuery != "" || u.ForceQuery:
		return nil, errors.New("the queue's URL must have no query: a shared access signature is not used, the process signs in with its own identity")
	case u.User != nil || u.Fragment != "":
		return nil, errors.New("the queue's URL must have neither user information nor a fragment")
	}
	u.Host = strings.TrimSuffix(strings.ToLower(u.Host), ":443")
	account, below := strings.CutSuffix(u.Host, "."+suffix)
	if !anyHost && (!below || !accountPattern.MatchString(account)) {
		return nil, fmt.Errorf("the host of the queue's URL must be a storage account below %s", suffix)
	}
	name := strings.TrimPrefix(u.EscapedPath(), "/")
	if len(name) < 3 || len(name) > 63 || !queuePattern.MatchString(name) {
		return nil, errors.New("the path of the queue's URL must be the name of one queue: 3 to 63 lower-case letters, digits and single hyphens")
	}
	return u, nil
}

// storageCredential hands out tokens for Azure Storage and for nothing else. The SDK
// would ask for whatever resource an answer names, and send that token there.
type storageCredential struct{ cred *Credential }

func (s storageCredential) GetToken(ctx context.Context, opts policy.TokenRequestOptions) (azcore.AccessToken, error) {
	opts.Scopes, opts.TenantID = []string{storageScope}, ""
	return s.cred.GetToken(ctx, opts)
}

// Receive takes up to 32 messages with one request, and hides them for the
// visibility timeout. After an answer larger than we read (whoever may write to the
// queue can make it so) it takes one at a time until the queue is empty.
func (q *Queue) Receive(ctx context.Context) ([]eventgrid.Message, error) {
	var messages []eventgrid.Message
	batch := q.batch.Load()
	err := q.call(ctx, "receiving from the queue failed", func(ctx context.Context) error {
		resp, err := q.client.DequeueMessages(ctx, &azqueue.DequeueMessagesOptions{
			NumberOfMessages: &batch, VisibilityTimeout: &q.visibility,
		})
		messages = received(resp.Messages)
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			q.batch.Store(1)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if len(messages) == 0 {
		q.batch.Store(maxMessages)
	}
	return messages, nil
}

// received leaves out what could not be deleted: no queue answers that.
func received(list []*azqueue.DequeuedMessage) []eventgrid.Message {
	var out []eventgrid.Message
	for _, m := range list {
		if m == nil || m.MessageID == nil || m.PopReceipt == nil {
			continue
		}
		one := eventgrid.Message{ID: *m.MessageID, Receipt: *m.PopReceipt, Deliveries: 1, Inserted: instant(m.InsertionTime)}
		if m.MessageText != nil {
			one.Body = []byte(*m.MessageText)
		}
		if m.DequeueCount != nil {
			one.Deliveries = int(*m.DequeueCount)
		}
		out = append(out, one)
	}
	return out
}

// messagePattern keeps what names a message from naming anything else in a URL.
var messagePattern = regexp.MustCompile(`\A[0-9A-Za-z-]{1,64}\z`)

// Delete ends a message with one request.
func (q *Queue) Delete(ctx context.Context, m eventgrid.Message) error {
	if !messagePattern.MatchString(m.ID) {
		return nil // no queue gave it that id
	}
	return q.call(ctx, "deleting from the queue failed", func(ctx context.Context) error {
		_, err := q.client.DeleteMessage(ctx, m.ID, m.Receipt, nil)
		if queueerror.HasCode(err, queueerror.MessageNotFound, queueerror.PopReceiptMismatch) {
			return nil
		}
		return err
	})
}

func (q *Queue) call(ctx context.Context, failed string, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	err := guarded(ctx, do)
	if refusedToken(err) && q.cred.renewToken(time.Now()) {
		err = guarded(ctx, do)
	}
	if err == nil {
		return nil
	}
	f := classifyQueue(err, q.host, time.Now())
	q.log.Log(ctx, f.level(), failed, append([]any{keyHost, q.host, keyQueue, q.name}, f.attributes()...)...) //nolint:sloglint // one of the two sentences above
	return queueError{f.err}
}

// guarded turns a panic of the SDK into an error.
func guarded(ctx context.Context, do func(context.Context) error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errPanic
		}
	}()
	return do(ctx)
}

// classifyQueue translates as classify does, with the codes of Azure Storage:
//
//	401, 403 of authentication                        ErrSignIn
//	403 AuthorizationFailure                          ErrFirewall
//	403 otherwise                                     ErrForbidden
//	404 with a code of Storage, or unknown to DNS     ErrNoQueue
//	429, 503 ServerBusy                               Throttled
func classifyQueue(err error, host string, now time.Time) failure {
	e, ok := errors.AsType[*azcore.ResponseError](err)
	if _, signIn := errors.AsType[*signInError](err); !ok || signIn {
		f := classify(err, host, now)
		if errors.Is(f.err, vault.ErrNoVault) {
			f.err = vault.ErrNoQueue
		}
		return f
	}
	f := failure{err: vault.ErrUnavailable, status: e.StatusCode, code: word(e.ErrorCode)}
	var header http.Header
	if e.RawResponse != nil {
		f.id, header = requestID(e.RawResponse), e.RawResponse.Header
	}
	switch e.StatusCode {
	case http.StatusUnauthorized:
		f.err = vault.ErrSignIn
	case http.StatusForbidden:
		f.err = queueForbidden(err)
	case http.StatusNotFound:
		if queueerror.HasCode(err, queueerror.QueueNotFound, queueerror.ResourceNotFound) {
			f.err = vault.ErrNoQueue
		}
	case http.StatusTooManyRequests:
		f.err = vault.Throttled{RetryAfter: retryAfter(header, now)}
	case http.StatusServiceUnavailable:
		if queueerror.HasCode(err, queueerror.ServerBusy) {
			f.err = vault.Throttled{RetryAfter: retryAfter(header, now)}
		}
	}
	return f
}

func queueForbidden(err error) error {
	switch {
	case queueerror.HasCode(err, queueerror.AuthenticationFailed, queueerror.InvalidAuthenticationInfo):
		return vault.ErrSignIn
	case queueerror.HasCode(err, queueerror.AuthorizationFailure):
		return vault.ErrFirewall
	}
	return vault.ErrForbidden
}

// queueError is an error of package vault in words that fit a queue.
type queueError struct{ err error }

func (e queueError) Unwrap() error { return e.err }

func (e queueError) Error() string {
	_, throttled := errors.AsType[vault.Throttled](e.err)
	switch {
	case throttled:
		return "the queue asked us to slow down"
	case errors.Is(e.err, vault.ErrForbidden):
		return "the identity may not receive from this queue"
	case errors.Is(e.err, vault.ErrFirewall):
		return "the storage account's firewall refuses this network"
	case errors.Is(e.err, vault.ErrUnavailable):
		return "the queue did not answer"
	}
	return e.err.Error()
}
