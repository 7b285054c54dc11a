# SPDX-License-Identifier: Apache-2.0
#
# Every verb of the project. `make help` lists them. What a verb needs it builds
# or installs itself; see README.md for what the machine must have.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The tools' versions live in a module of their own, so that none of them ever
# enters the product's.
TOOL := go tool -modfile=go.tools.mod
CRD := charts/akv2k8s/files/azurekeyvaultsecrets.yaml

##@ The two that everyone needs

.PHONY: demo
demo: ## play the two examples on a real cluster, then remove it (KEEP=1 keeps it; CLUSTER=current uses your kubeconfig)
	@go run ./test/demo

.PHONY: test
test: unit conformance azurite apiserver cluster-test e2e demo ## everything: unit, conformance, API server, end to end

##@ Parts of the test

.PHONY: unit
unit: ## what needs no cluster, in seconds
	go test -short ./api/... ./cmd/... ./emulator/... ./internal/... ./test/bench/... ./test/chart/... ./test/deps/... ./test/e2e/run/... ./test/rules/...

.PHONY: conformance
conformance: ## Microsoft's own SDK test suites against the emulator
	@test/conformance/run.sh

.PHONY: azurite
azurite: ## events of vaults through Microsoft's own queue server
	go test ./test/azurite/...

.PHONY: apiserver
apiserver: ## what only a real API server knows
	@test/azurite/install.sh >/dev/null
	KUBEBUILDER_ASSETS="$$(test/cluster/build.sh envtest)" go test -parallel 8 ./test/apiserver/... ./test/chart/...

.PHONY: e2e
e2e: ## stories and refusals on the real node, with the chart and the emulator
	@go run ./test/e2e/run

.PHONY: deploy
deploy: ## chart and emulator into the running test cluster
	@go run ./test/demo -only deploy

.PHONY: bench
bench: ## the benchmarks: one line each, BENCH <name> <number> <unit>
	@go test -run '^$$' -bench . -benchtime 1s ./internal/... | internal/release/bench.sh

.PHONY: bench-sync
bench-sync: ## the Controller against a real API server and the emulator, and its goals, in 20 minutes (BENCH="-h" lists flags)
	@KUBEBUILDER_ASSETS="$$(test/cluster/build.sh envtest)" go run ./test/bench/sync $(BENCH)

.PHONY: bench-inject
bench-inject: ## the Env Injector on the real node with the emulator, and its goals, in 6 minutes (BENCH="-h" lists flags)
	@go run ./test/bench/inject $(BENCH)

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (default 1m)
	@internal/release/fuzz.sh "$${FUZZTIME:-1m}"

.PHONY: soak
soak: ## chaos for SOAK (default 10m): values change, the vault misbehaves, the Controller is killed
	KUBEBUILDER_ASSETS="$$(test/cluster/build.sh envtest)" SOAK="$${SOAK:-10m}" \
	go test ./test/apiserver -run '^TestSoak$$' -count=1 -v -timeout 60m

##@ Before a commit

.PHONY: generate
generate: ## deep copies, the CRD and its reference
	$(TOOL) controller-gen object paths=./api/v2beta1
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	$(TOOL) controller-gen crd paths=./api/v2beta1 output:crd:dir="$$dir" && \
	go run ./api/internal/crd "$$dir"/spv.no_azurekeyvaultsecrets.yaml $(CRD)
	$(TOOL) crd-ref-docs --log-level=ERROR --source-path=api/v2beta1 --renderer=markdown \
	  --config=docs/reference/api.yaml --templates-dir=docs/reference --output-path=docs/reference/api.md

.PHONY: lint
lint: ## every linter, the rings among them
	$(TOOL) golangci-lint run ./...

.PHONY: verify
verify: generate ## generate + tidy + format + lint, and no difference to what is committed
	go mod tidy
	$(TOOL) golangci-lint fmt ./...
	$(TOOL) golangci-lint run ./...
	@git diff --exit-code || { echo "verify: the files above differ from what is committed; commit what verify made of them" >&2; exit 1; }

##@ Images and the test cluster

include images.mk
include test/cluster.mk

.PHONY: help
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} \
	  /^##@ / {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
