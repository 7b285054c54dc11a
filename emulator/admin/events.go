// SPDX-License-Identifier: Apache-2.0

package admin

import (
	"errors"
	"net/http"

	"github.com/akv2k8s/akv2k8s/emulator/eventgrid"
	"github.com/akv2k8s/akv2k8s/emulator/seed"
)

func decodeTarget(r *http.Request) (*seed.EventGrid, error) {
	var in seed.EventGrid
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	return &in, seed.CheckEventGrid(&in)
}

func subscribeAll(cfg Config, r *http.Request) (any, error) {
	to, err := decodeTarget(r)
	if err != nil {
		return nil, err
	}
	cfg.Events.Subscribe("", to)
	return nil, nil //nolint:nilnil // done, and nothing to say
}

func unsubscribeAll(cfg Config, _ *http.Request) (any, error) {
	cfg.Events.Subscribe("", nil)
	return nil, nil //nolint:nilnil // done, and nothing to say
}

func subscribe(cfg Config, r *http.Request) (any, error) {
	vault, err := cfg.Vaults.VaultName(r.PathValue("vault"))
	if err != nil {
		return nil, err
	}
	to, err := decodeTarget(r)
	if err != nil {
		return nil, err
	}
	cfg.Events.Subscribe(vault, to)
	return nil, nil //nolint:nilnil // done, and nothing to say
}

func unsubscribe(cfg Config, r *http.Request) (any, error) {
	vault, err := cfg.Vaults.VaultName(r.PathValue("vault"))
	if err != nil {
		return nil, err
	}
	cfg.Events.Subscribe(vault, nil)
	return nil, nil //nolint:nilnil // done, and nothing to say
}

func publish(cfg Config, r *http.Request) (any, error) {
	var in struct {
		Event string `json:"event"`
	}
	if err := decode(r, &in); err != nil {
		return nil, err
	}
	switch in.Event {
	case eventgrid.NewVersionCreated, eventgrid.NearExpiry, eventgrid.Expired:
	default:
		return nil, errors.New("the event must be NewVersionCreated, NearExpiry or Expired")
	}
	version, err := cfg.Vaults.Newest(r.PathValue("vault"), r.PathValue("kind"), r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return nil, cfg.Events.Publish(in.Event, version)
}
