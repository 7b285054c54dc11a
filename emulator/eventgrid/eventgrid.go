// SPDX-License-Identifier: Apache-2.0

// Package eventgrid emulates what Azure Event Grid does with the events of vaults: it puts them into a Storage queue,
// in either schema, at least once and in no order, some time after what they tell of.
//
// It delivers in the background and gives up after a while; a vault never notices. Start at New.
package eventgrid

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/akv2k8s/akv2k8s/emulator/keyvault"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

// The events of an object, as they end the type's name.
const (
	NewVersionCreated = "NewVersionCreated"
	NearExpiry        = "NearExpiry"
	Expired           = "Expired"
)

// ErrNoTarget is an event of a vault whose events go nowhere.
var ErrNoTarget = errors.New("the vault's events go nowhere; eventGrid of the seed or of the admin endpoint says where")

// Counts is what became of events.
type Counts struct {
	Delivered int `json:"delivered"`
	Failed    int `json:"failed"` // given up
	Waiting   int `json:"waiting"`
}

// Config is what New needs.
type Config struct {
	// Token makes a token for Azure Storage.
	Token func() (string, error)
	// HTTP reaches the queues.
	HTTP *http.Client
	// Attempts and Pause are how often a delivery is tried and what is waited before the second attempt; it doubles
	// then, up to 5 s. The defaults are 20 and 100 ms.
	Attempts int
	Pause    time.Duration
	Log      *slog.Logger // nil is silence
}

// Publisher delivers events. It is safe for concurrent use.
type Publisher struct {
	cfg   Config
	ctx   context.Context //nolint:containedctx // ends with the publisher, not with who published
	stop  context.CancelFunc
	slots chan struct{}
	under sync.WaitGroup

	mu      sync.Mutex
	common  *seed.EventGrid
	vaults  map[string]*seed.EventGrid
	counts  Counts
	stopped bool
}

// parallel is how many deliveries are under way at once.
const parallel = 8

const maxPause = 5 * time.Second

// New makes a publisher that sends nothing anywhere until it is told where.
func New(cfg Config) *Publisher {
	if cfg.Attempts <= 0 {
		cfg.Attempts = 20
	}
	if cfg.Pause <= 0 {
		cfg.Pause = 100 * time.Millisecond
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	return &Publisher{cfg: cfg, ctx: ctx, stop: stop, slots: make(chan struct{}, parallel), vaults: map[string]*seed.EventGrid{}}
}

// Subscribe says where the events of a vault go, or with an empty name those of all vaults that have no place of their
// own. Nil is nowhere, for a vault: where those of all go.
func (p *Publisher) Subscribe(vault string, to *seed.EventGrid) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case vault == "":
		p.common = to
	case to == nil:
		delete(p.vaults, strings.ToLower(vault))
	default:
		p.vaults[strings.ToLower(vault)] = to
	}
}

// Route is the address at which a host is to be found, if an eventGrid says so.
func (p *Publisher) Route(host string) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if address, ok := route(p.common, host); ok {
		return address, true
	}
	for _, each := range p.vaults {
		if address, ok := route(each, host); ok {
			return address, true
		}
	}
	return "", false
}

func route(to *seed.EventGrid, host string) (string, bool) {
	if to == nil || to.Address == "" {
		return "", false
	}
	named, _, _ := strings.Cut(strings.TrimPrefix(to.Queue, "https://"), "/")
	return to.Address, strings.EqualFold(strings.TrimSuffix(named, ":443"), host)
}

// Created publishes that a version was created, if anybody listens.
func (p *Publisher) Created(v keyvault.Version) { _ = p.Publish(NewVersionCreated, v) }

// Publish takes an event for delivery and returns at once. It fails with ErrNoTarget.
func (p *Publisher) Publish(event string, v keyvault.Version) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	to := p.vaults[strings.ToLower(v.Vault)]
	if to == nil {
		to = p.common
	}
	if to == nil || p.stopped {
		return ErrNoTarget
	}
	p.counts.Waiting++
	message := base64.StdEncoding.EncodeToString(Encode(to.Schema, uuid.NewString(), event, v))
	p.under.Go(func() { p.deliver(to.Queue, message) })
	return nil
}

// Counts says what became of the events so far.
func (p *Publisher) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

// ResetCounts starts at zero again, but for what waits.
func (p *Publisher) ResetCounts() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.Delivered, p.counts.Failed = 0, 0
}

// Close gives up what waits.
func (p *Publisher) Close() {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.stop()
	p.under.Wait()
}

func (p *Publisher) deliver(queue, message string) {
	err := p.insist(queue, message)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts.Waiting--
	if err != nil {
		p.counts.Failed++
		p.cfg.Log.WarnContext(p.ctx, "event was not delivered", "queue", queue, "reason", err.Error())
		return
	}
	p.counts.Delivered++
}

// insist tries until the queue has the message. A queue whose answer is lost gets it twice, as from Event Grid.
func (p *Publisher) insist(queue, message string) error {
	pause := p.cfg.Pause
	for attempt := 1; ; attempt++ {
		err := p.attempt(queue, message)
		if err == nil || attempt == p.cfg.Attempts {
			return err
		}
		select {
		case <-p.ctx.Done():
			return err
		case <-time.After(pause):
			pause = min(2*pause, maxPause)
		}
	}
}

const attemptTimeout = 10 * time.Second

func (p *Publisher) attempt(queue, message string) error {
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-p.ctx.Done():
		return context.Canceled
	}
	token, err := p.cfg.Token()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(p.ctx, attemptTimeout)
	defer cancel()
	body := "<QueueMessage><MessageText>" + message + "</MessageText></QueueMessage>"
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, queue+"/messages", strings.NewReader(body))
	if err != nil {
		return fmt.Errorf("making the request: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/xml")
	req.Header.Set("X-Ms-Version", "2024-11-04")
	req.Header.Set("X-Ms-Date", time.Now().UTC().Format(http.TimeFormat))
	resp, err := p.cfg.HTTP.Do(req)
	if err != nil {
		return fmt.Errorf("putting a message: %w", err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16))
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("the queue answered %d %s", resp.StatusCode, resp.Header.Get("X-Ms-Error-Code"))
	}
	return nil
}

// data is the vault's part of an event; live events have these names, the documented sample others.
//
//nolint:tagliatelle // the service's names
type data struct {
	ID         string `json:"Id"`
	VaultName  string `json:"VaultName"`
	ObjectType string `json:"ObjectType"`
	ObjectName string `json:"ObjectName"`
	Version    string `json:"Version"`
	NotBefore  *int64 `json:"NBF"`
	Expires    *int64 `json:"EXP"`
}

type gridEvent struct {
	ID              string `json:"id"`
	Topic           string `json:"topic"`
	Subject         string `json:"subject"`
	EventType       string `json:"eventType"`
	Data            data   `json:"data"`
	DataVersion     string `json:"dataVersion"`
	MetadataVersion string `json:"metadataVersion"`
	EventTime       string `json:"eventTime"`
}

type cloudEvent struct {
	ID          string `json:"id"`
	Source      string `json:"source"`
	Subject     string `json:"subject"`
	Type        string `json:"type"`
	Time        string `json:"time"`
	Data        data   `json:"data"`
	SpecVersion string `json:"specversion"`
}

// Encode is one event as JSON. A queue gets one event a message, not an array.
func Encode(schema seed.Schema, id, event string, v keyvault.Version) []byte {
	kind, at := "Microsoft.KeyVault."+v.Kind+event, v.Time.Format("2006-01-02T15:04:05.0000000Z07:00")
	about := data{v.ID, v.Vault, v.Kind, v.Name, v.Version, v.NotBefore, v.Expires}
	var out any = gridEvent{id, v.Resource, v.Name, kind, about, "1", "1", at}
	if schema == seed.SchemaCloud {
		out = cloudEvent{id, v.Resource, v.Name, kind, at, about, "1.0"}
	}
	raw, _ := json.Marshal(out) // strings and numbers only
	return raw
}
