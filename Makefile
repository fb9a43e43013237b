# Everything here needs Go, make and git; `make build` needs podman or docker as well.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VERSION := $(shell cat VERSION)
NAME    := oxide-cloud-controller-manager
IMAGE   ?= $(NAME):$(VERSION)
ARCH    ?= $(shell go env GOARCH)

TOOL    := go tool -modfile=tools/go.mod
LDFLAGS := -s -w -X k8s.io/component-base/version.gitVersion=$(VERSION) \
	-X k8s.io/client-go/pkg/version.gitVersion=$(VERSION)
BUILD   := CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$(LDFLAGS)"

##@ Try it

.PHONY: demo
demo: ## Show the whole path on loopback: a simulated rack, a real kube-apiserver, both programs (KEEP=1 leaves it running)
	@mkdir -p bin
	@echo "demo: building the demo"
	@cd test/e2e && go build -o ../../bin/demo ./cmd/demo
	@KEEP="$(KEEP)" exec bin/demo

##@ Build

.PHONY: binaries
binaries: ## Build ccm-shim, oxide-backend and oxide-sim into bin/
	$(BUILD) -o bin/ ./cmd/ccm-shim ./cmd/oxide-backend ./cmd/oxide-sim

.PHONY: build
build: ## Build the container image with podman or docker (IMAGE=name:tag)
	$$(command -v podman || command -v docker) build --file Containerfile \
		--build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) --tag $(IMAGE) .

.PHONY: image
image: ## Write the same image as an OCI archive into dist/, by Go alone (ARCH=amd64 or arm64)
	@mkdir -p dist/linux-$(ARCH)
	GOOS=linux GOARCH=$(ARCH) $(BUILD) -o dist/linux-$(ARCH)/ ./cmd/ccm-shim ./cmd/oxide-backend
	cd tools && go run ./image --version $(VERSION) --revision "$$(git rev-parse HEAD)" \
		--binaries linux/$(ARCH)=../dist/linux-$(ARCH) \
		--output ../dist/$(NAME)-$(VERSION)-linux-$(ARCH).tar

.PHONY: chart
chart: ## Package the helm chart into dist/
	$(TOOL) helm package charts/$(NAME) --version $(VERSION:v%=%) --app-version $(VERSION) --destination dist

##@ Check

.PHONY: test
test: ## Run all tests that need no root, the end-to-end tests among them
	@$(TOOL) -n helm >/dev/null # built before, not within, the time limit of the chart's tests
	go test -race -timeout 10m ./...
	cd tools && go test -timeout 5m ./...
	$(MAKE) --no-print-directory e2e

.PHONY: e2e
e2e: ## Run the end-to-end tests: real processes on a real kube-apiserver
	cd test/e2e && go test -count=1 -timeout 15m ./...

.PHONY: e2e-pod
e2e-pod: image ## Test installations, as root: this machine becomes a node for a while (RUN=regexp selects)
	@mkdir -p bin
	cd test/e2e && go test -c -tags e2epod -o ../../bin/e2e-pod.test ./pod
	@cd test/e2e/pod && exec ../../../bin/e2e-pod.test -test.v -test.timeout 25m -test.run "$(RUN)"

.PHONY: lint
lint: ## Lint Go code, protos and the chart
	$(TOOL) golangci-lint run ./...
	cd test/e2e && go tool -modfile=../../tools/go.mod golangci-lint run --config ../../.golangci.yml ./...
	cd bench && go tool -modfile=../tools/go.mod golangci-lint run --config ../.golangci.yml ./...
	cd tools && go tool golangci-lint run --config ../.golangci.yml ./...
	$(TOOL) buf lint
	$(TOOL) buf format --diff --exit-code
	$(TOOL) helm lint --strict charts/$(NAME)

.PHONY: breaking
breaking: ## Check that the protos break no client of the last release
	@tag=$$(git describe --tags --abbrev=0 2>/dev/null || true); \
	if [ -n "$$tag" ]; then $(TOOL) buf breaking --against ".git#tag=$$tag"; \
	else echo "breaking: there is no release to compare with yet"; fi

.PHONY: verify
verify: breaking ## Check that everything generated is up to date, and the modules tidy
	go mod tidy -diff
	cd tools && go mod tidy -diff
	cd test/e2e && go mod tidy -diff
	cd bench && go mod tidy -diff
	cd test/e2e/kube && go mod tidy -diff
	$(MAKE) --no-print-directory generate manifest
	@test -z "$$(git status --porcelain)" || { git --no-pager diff; git status --short; \
		echo "verify: the files above are out of date; run 'make generate manifest' and commit them"; exit 1; }

.PHONY: bench
bench: ## Measure, print a table, and write bench/results.json (BENCH=part,part selects)
	@mkdir -p bin
	@cd bench && go build -o ../bin/bench .
	@BENCH="$(BENCH)" exec bin/bench

##@ Generate

.PHONY: generate
generate: ## Regenerate the Go code of the protos
	$(TOOL) buf generate

.PHONY: manifest
manifest: ## Render the manifest from the chart, for the version in VERSION
	@sed -i -e "s/^version: .*/version: $(VERSION:v%=%)/" -e "s/^appVersion: .*/appVersion: $(VERSION)/" \
		charts/$(NAME)/Chart.yaml
	@{ cat manifests/header.txt; $(TOOL) helm template $(NAME) charts/$(NAME) --namespace kube-system; } \
		> manifests/$(NAME).yaml.new
	@mv manifests/$(NAME).yaml.new manifests/$(NAME).yaml

##@ Help

.PHONY: help
help: ## Show this
	@awk 'BEGIN {FS = ":.*## "} \
		/^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z0-9-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
