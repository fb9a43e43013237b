# Everything here needs Go, make and git; `make build` needs podman or docker as well.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Each module is built with the versions in its own go.mod, not with those of the workspace, which is for
# editors. What `$(shell)` runs does not see this.
export GOWORK := off
MODULES := . proto examples test/e2e test/importer tools
# These have no code: they only say which programs are used. `make verify` leaves out the last, which needs most
# of the modules there are; `make e2e-monitoring` holds that it is tidy.
PINS := test/e2e/kube test/e2e/envtest tools/kube-score tools/delve tools/supply test/e2e/prometheus

VERSION := $(shell cat VERSION)
NAME    := oxide-cloud-controller-manager
IMAGE   ?= $(NAME):$(VERSION)
ARCH    ?= $(shell go env GOARCH)
DIST    ?= dist
# Where a release's images are: the registry's host, and the name there.
REGISTRY   ?=
REPOSITORY ?= $(NAME)
REVISION = $(shell git rev-parse HEAD)

TOOL    := go tool -modfile=tools/go.mod
SUPPLY  := go tool -modfile=tools/supply/go.mod
# The Kubernetes release of the framework that ccm-shim is made of, for example 1.37.2. It decides which
# feature gates are on and which metrics are shown, so it must not be our own version, which stands behind it.
KUBERNETES = $(shell GOWORK=off go list -m -f '{{.Version}}' k8s.io/component-base | sed 's/^v0/1/')
BASE    := k8s.io/component-base/version
CLIENT  := k8s.io/client-go/pkg/version
# The user agent is "ccm-shim/<our version> (<platform>) kubernetes/<theirs>": client-go calls the last a commit.
LDFLAGS = -s -w \
	-X $(BASE).gitVersion=v$(KUBERNETES)+oxide-$(VERSION) -X $(BASE).gitCommit= \
	-X $(BASE).gitMajor=$(word 1,$(subst ., ,$(KUBERNETES))) \
	-X $(BASE).gitMinor=$(word 2,$(subst ., ,$(KUBERNETES))) \
	-X $(CLIENT).gitVersion=$(VERSION) -X $(CLIENT).gitCommit=$(KUBERNETES)
# What gRPC would keep for golang.org/x/net/trace, which nobody here reads, comes with text/template, and with that
# the linker keeps every exported method of every type: the programs would be half as large again.
TAGS    = grpcnotrace
BUILD   = CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags "$(TAGS)" -ldflags "$(LDFLAGS)"

##@ Try it

.PHONY: demo
demo: ## Show the whole path on loopback: a simulated rack, a real kube-apiserver, both programs (KEEP=1 leaves it running; FETCH=0 builds all of it)
	@mkdir -p bin
	@echo "demo: building the demo"
	@cd test/e2e && go build -o ../../bin/demo ./cmd/demo
	@KEEP="$(KEEP)" FETCH="$(FETCH)" exec bin/demo

.PHONY: control-plane
control-plane: ## Run a real kube-apiserver with Nodes, and print how to run or debug the programs beside it by hand
	@mkdir -p bin
	@cd test/e2e && go build -o ../../bin/control-plane ./cmd/control-plane
	@exec bin/control-plane

##@ Build

.PHONY: binaries
binaries: ## Build ccm-shim, oxide-backend, oxide-sim and oxide-backend-sanity into bin/
	$(BUILD) -o bin/ ./cmd/ccm-shim ./cmd/oxide-backend ./cmd/oxide-sim ./cmd/oxide-backend-sanity

.PHONY: ldflags
ldflags: # Print the linker flags of the programs, for those that build them by other means
	@echo "$(LDFLAGS)"

.PHONY: tags
tags: # Print the build tags of the programs, for the same
	@echo "$(TAGS)"

ENGINE := $(shell command -v podman || command -v docker)

.PHONY: build
build: ## Build the container image with podman or docker (IMAGE=name:tag)
	@test -n "$(ENGINE)" || { echo "build: needs podman or docker; 'make image' needs neither"; exit 1; }
	$(ENGINE) build --file Containerfile \
		--build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) --tag $(IMAGE) .

.PHONY: push
push: ## Push the image of `make build` to the registry in its name (IMAGE=registry/name:tag)
	@test -n "$(ENGINE)" || { echo "push: needs podman or docker, as 'make build' does"; exit 1; }
	$(ENGINE) push $(IMAGE)

.PHONY: image
image: binaries-$(ARCH) ## Write the same image as an OCI archive into dist/, by Go alone (ARCH=amd64 or arm64)
	cd tools && go run ./image --version $(VERSION) --revision "$(REVISION)" \
		--binaries linux/$(ARCH)="$(abspath $(DIST))/linux-$(ARCH)" \
		--output "$(abspath $(DIST))/$(NAME)-$(VERSION)-linux-$(ARCH).tar"

.PHONY: image-all
image-all: binaries-amd64 binaries-arm64 ## Write one OCI archive for amd64 and arm64 into dist/
	cd tools && go run ./image --version $(VERSION) --revision "$(REVISION)" \
		--binaries linux/amd64="$(abspath $(DIST))/linux-amd64" \
		--binaries linux/arm64="$(abspath $(DIST))/linux-arm64" \
		--output "$(abspath $(DIST))/$(NAME)-$(VERSION).tar"

.PHONY: binaries-amd64 binaries-arm64
binaries-amd64 binaries-arm64: binaries-%:
	@mkdir -p $(DIST)/linux-$*
	GOOS=linux GOARCH=$* $(BUILD) -o $(DIST)/linux-$*/ ./cmd/ccm-shim ./cmd/oxide-backend

.PHONY: chart
chart: ## Package the helm chart into dist/ (REGISTRY=host REPOSITORY=name make that image its default)
	@rm -rf $(DIST)/chart && mkdir -p $(DIST)/chart && cp -R charts/$(NAME) $(DIST)/chart/
	@sed -i -e 's|^    registry: ""$$|    registry: "$(REGISTRY)"|' \
		-e 's|^    name: $(NAME)$$|    name: $(REPOSITORY)|' $(DIST)/chart/$(NAME)/values.yaml
	$(TOOL) helm package $(DIST)/chart/$(NAME) --version $(VERSION:v%=%) --app-version $(VERSION) \
		--destination $(DIST)

.PHONY: api
api: ## Write what other languages need of the API into dist/: a descriptor set, and the .proto files
	@mkdir -p $(DIST)
	$(TOOL) buf build --as-file-descriptor-set -o $(DIST)/api.built.binpb
	cd tools && go run ./api --set "$(abspath $(DIST))/api.built.binpb" --protos ../proto \
		--output "$(abspath $(DIST))/oxide-backend-api-$(VERSION)"
	@rm $(DIST)/api.built.binpb

.PHONY: sbom
sbom: binaries-amd64 binaries-arm64 ## Write what each program is made of into dist/, as a CycloneDX bill of materials
	@for arch in amd64 arm64; do for program in ccm-shim oxide-backend; do \
		echo "sbom: $$program for $$arch"; \
		$(SUPPLY) cyclonedx-gomod bin -json -noserial -notimestamp -version $(VERSION) \
			-output $(DIST)/$$program-$(VERSION)-linux-$$arch.cdx.json $(DIST)/linux-$$arch/$$program; \
	done; done

.PHONY: release
release: image-all chart api sbom ## Make all files of a release in dist/ (REGISTRY and REPOSITORY as for chart)
	@{ cat manifests/header.txt; $(TOOL) helm template $(NAME) $(DIST)/chart/$(NAME) \
		--namespace kube-system --skip-tests; } > $(DIST)/$(NAME)-$(VERSION).yaml
	cp plugins/kubectl-oxide $(DIST)/
	cd $(DIST) && sha256sum $(NAME)-$(VERSION).tar $(NAME)-$(VERSION:v%=%).tgz $(NAME)-$(VERSION).yaml kubectl-oxide \
		oxide-backend-api-$(VERSION).binpb oxide-backend-api-$(VERSION)-protos.tar.gz *-$(VERSION)-linux-*.cdx.json > SHA256SUMS

##@ Check

.PHONY: test
test: unit e2e ## Run the unit tests and the end-to-end tests; those of e2e-pod, e2e-datapath and e2e-monitoring are apart

.PHONY: unit
unit: ## Run the tests that start no cluster (PKG=folder of one package, RUN=regexp of its tests)
ifdef PKG
	@test -d "$(PKG)" || { echo "unit: there is no folder $(PKG): give that of one package, PKG=./internal/..."; exit 2; }
	@cd "$(PKG)" && go test -race -timeout 10m -run "$(RUN)" .
else ifdef RUN
	@echo "unit: RUN selects tests of one package: give its folder, PKG=./internal/..."; exit 2
else
	@$(TOOL) -n helm >/dev/null # built before, not within, the time limit of the chart's tests
	go test -race -timeout 20m ./...
	go test -run 'TestEachWrong|TestANewer' ./internal/conformance # with the race detector only some of these are run
	cd proto && go test -race -timeout 20m ./...
	cd tools && go test -timeout 10m ./...
	@$(MAKE) --no-print-directory coverage COVERAGE="./internal/oxide ./internal/backend/rpc $(addprefix ./,$(filter-out %.go,$(COVERED)))"
endif

# What the tests of its own package have to run all of: the mapping of errors, names and markers, sockets.
COVERED := internal/oxide/errors.go internal/backend/rpc/errors.go internal/backend/rpc/errors_session.go \
	internal/loadbalancers/ownership internal/uds
# The tests of plugins/ are of a script, and run themselves in its place.
COVERAGE ?= $$(go list ./... | grep -v '/plugins$$')

.PHONY: coverage
coverage: ## Report what the unit tests cover of each package, and hold all of errors, names, markers and sockets (COVERAGE=packages)
	@mkdir -p bin
	go test -timeout 20m -coverprofile bin/coverage.out $(COVERAGE)
	@cd tools && go run ./coverage --profile ../bin/coverage.out --module $$(cd .. && go list -m) $(COVERED)

.PHONY: e2e
e2e: ## Run the end-to-end tests: real processes on a real kube-apiserver (E2E_VERBOSE=1: with all that they can log)
	@cd test/e2e && go run ./cmd/control-plane build # before, not within, their time limit
	cd test/e2e && go test -count=1 -timeout 25m $$(go list ./... | grep -v -E '/e2e/(model|crash|faults|soak)$$')
	$(MAKE) --no-print-directory model MODEL_OPERATIONS=
	$(MAKE) --no-print-directory crash SAMPLE=1

MODEL_OPERATIONS ?= 10000

.PHONY: model
model: ## Hold the invariants over 10,000 random operations (MODEL_OPERATIONS=n; MODEL_SEED=n repeats a seed)
	cd test/e2e && MODEL_SEED="$(MODEL_SEED)" MODEL_OPERATIONS="$(MODEL_OPERATIONS)" \
		go test -count=1 -timeout 6h -v ./model | grep --line-buffered -v -e '^=== ' -e '^    --- PASS'

.PHONY: crash
crash: ## Kill the programs at each request of what they do (POINT=name, or its start, repeats; SAMPLE=1: a few points)
	cd test/e2e && CRASH_POINT="$(POINT)" CRASH_ALL="$(if $(SAMPLE),,1)" go test -count=1 -timeout 3h -v ./crash \
		| grep --line-buffered -v -e '^===' -e '^ *--- PASS' -e '^PASS' -e '^ok '

.PHONY: faults
faults: ## Let everything fail once that may, and print a table of what came of it (RUN=regexp selects; LENGTH=1m; SAMPLE=1)
	@cd test/e2e && FAULTS=$(if $(SAMPLE),sample,all) FAULTS_RUN="$(RUN)" FAULTS_LENGTH="$(LENGTH)" \
		go test -count=1 -timeout 1h -v ./faults | grep --line-buffered -v -e '^=== ' -e '^ *--- PASS'

.PHONY: soak
soak: ## Ten minutes without the rack, 100 kills of the backend, 10,000 calls: what is left (RUN=regexp; LENGTH=30s KILLS=n CALLS=n shorten)
	@cd test/e2e && SOAK_LENGTH="$(LENGTH)" SOAK_KILLS="$(KILLS)" SOAK_CALLS="$(CALLS)" \
		go test -count=1 -timeout 2h -v -run "$(RUN)" ./soak | grep --line-buffered -v -e '^=== ' -e '^ *--- PASS'

FUZZTIME ?= 1m

.PHONY: fuzz
fuzz: ## Fuzz what reads foreign text, each target for FUZZTIME=1m (FUZZ=regexp selects; a failure is kept as a seed of `make unit`)
	@mkdir -p bin
	@grep -rnoE --include='*_test.go' '^func Fuzz[A-Za-z0-9]+' . | sed -E 's|/[^/:]+:[0-9]+:func | |' | sort \
		| grep -E -e "$(FUZZ)" > bin/fuzz-targets || { echo "fuzz: no target matches $(FUZZ)"; exit 2; }
	@while read -r folder target; do \
		echo "fuzz: $$folder $$target for $(FUZZTIME)"; \
		(cd "$$folder" && go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) . </dev/null); \
	done < bin/fuzz-targets
	@echo "fuzz: $$(wc -l < bin/fuzz-targets) targets, none failed"

.PHONY: e2e-pod
e2e-pod: image ## Test installations, as root: this machine becomes a node for a while (RUN=regexp selects)
	@mkdir -p bin
	cd test/e2e && go test -c -tags e2epod -o ../../bin/e2e-pod.test ./pod
	@cd test/e2e/pod && exec ../../../bin/e2e-pod.test -test.v -test.timeout 25m -test.run "$(RUN)"

.PHONY: e2e-datapath
e2e-datapath: ## Measure what clients lose, through real kube-proxies, as root, in network namespaces (RUN=regexp, PROXY=mode, SHORT=1)
	@mkdir -p bin
	cd test/e2e && go test -c -tags e2edatapath -o ../../bin/e2e-datapath.test ./datapath
	@cd test/e2e/datapath && DATAPATH_PROXY="$(PROXY)" exec ../../../bin/e2e-datapath.test -test.v -test.timeout 30m \
		$(if $(SHORT),-test.short) \
		-test.run "$(RUN)"

.PHONY: e2e-monitoring
e2e-monitoring: ## Test alerts and dashboard with a real Prometheus that scrapes the demo (PICTURE=file draws the panels)
	cd test/e2e/prometheus && go mod tidy -diff
	cd test/e2e && PICTURE="$(abspath $(PICTURE))" go test -count=1 -timeout 30m -tags e2emonitoring -v ./monitoring

.PHONY: lines
lines: ## Count the lines of code of the packages that ccm-shim links and oxide-backend does not
	@comm -23 <(go list -deps ./cmd/ccm-shim | sort) <(go list -deps ./cmd/oxide-backend | sort) \
		| sed -n 's|^github.com/oxidecomputer/$(NAME)/internal/|internal/|p' \
		| while read -r package; do \
			find "$$package" -maxdepth 1 -name '*.go' ! -name '*_test.go' -exec cat {} + \
				| awk -v package="$$package" '!/^[[:space:]]*(\/\/|$$)/ {n++} END {print n, package}'; \
		done | awk '{sum += $$1; printf "%6d %s\n", $$1, $$2} END {printf "%6d in all\n", sum}'

# kube-score needs a release of the Kubernetes API that the other tools are beyond. What is ignored: limits of CPU and of ephemeral
# storage, of which there is nothing to limit; a network policy, which does not hold in the host's network; probes of the
# shim, whose framework has one health check; the image's pull policy, for images that are loaded by hand; anti-affinity, for
# which there is a spread constraint.
SCORE := go tool -modfile=tools/kube-score/go.mod kube-score score --ignore-container-cpu-limit \
	--enable-optional-test container-seccomp-profile,container-ports-check,environment-variable-key-duplication \
	--ignore-test container-ephemeral-storage-request-and-limit,pod-networkpolicy,pod-probes-identical \
	--ignore-test container-image-pull-policy,deployment-has-host-podantiaffinity

.PHONY: lint
lint: ## Lint Go code, protos, the chart and what it renders
	$(TOOL) golangci-lint run ./...
	for module in proto examples test/e2e test/importer; do \
		(cd $$module && go tool -modfile="$(CURDIR)/tools/go.mod" golangci-lint run \
			--config "$(CURDIR)/.golangci.yml" ./...); \
	done
	cd tools && go tool golangci-lint run --config ../.golangci.yml ./...
	$(TOOL) buf lint
	$(TOOL) buf format --diff --exit-code
	$(TOOL) helm lint --strict charts/$(NAME)
	cd tools && go run ./schemas --kubernetes ../test/e2e/kube --output "$(abspath $(DIST))/schemas"
	@$(TOOL) kustomize build docs/examples/kustomize > $(DIST)/schemas/kustomize.yaml
	$(TOOL) kubeconform -strict -summary -schema-location '$(DIST)/schemas/{{.ResourceKind}}{{.KindSuffix}}.json' \
		manifests/$(NAME).yaml $(DIST)/schemas/kustomize.yaml docs/examples/k3s.yaml docs/examples/rke2.yaml \
		charts/tests/testdata/*.yaml
	$(SCORE) manifests/$(NAME).yaml charts/tests/testdata/one-replica.yaml charts/tests/testdata/on-trial.yaml

.PHONY: vulnerabilities
vulnerabilities: ## Look for known vulnerabilities that our code reaches; skipped where their database is not reached (SKIP=0: fails)
	@mkdir -p $(DIST)
	@$(SUPPLY) govulncheck ./cmd/... >$(DIST)/vulnerabilities.txt 2>&1 && result=0 || result=$$?; \
	cat $(DIST)/vulnerabilities.txt; \
	if [ "$$result" = 0 ]; then echo "vulnerabilities: none that our code reaches"; \
	elif [ "$(SKIP)" != 0 ] && grep -q "fetching vulnerabilities" $(DIST)/vulnerabilities.txt; then \
		echo "vulnerabilities: SKIPPED, nothing was looked for: their database cannot be reached from here"; \
	else exit "$$result"; fi

.PHONY: breaking
breaking: ## Check that the protos break no client of the last release
	@tag=$$(git describe --tags --abbrev=0 --match "v*" 2>/dev/null || true); \
	if [ -n "$$tag" ]; then $(TOOL) buf breaking --against ".git#tag=$$tag"; \
	else echo "breaking: there is no release to compare with yet"; fi

.PHONY: verify
verify: breaking ## Check that everything generated is up to date, and each module tidy and built by itself
	for module in $(MODULES); do \
		(cd $$module && go mod tidy -diff && go build -o /dev/null ./...); \
	done
	for module in $(filter-out test/e2e/prometheus,$(PINS)); do (cd $$module && go mod tidy -diff); done
	GOWORK="$(CURDIR)/go.work" go list -deps all >/dev/null
	$(MAKE) --no-print-directory generate manifest
	@test -z "$$(git status --porcelain)" || { git --no-pager diff; git status --short; \
		echo "verify: the files above are out of date; run 'make generate manifest' and commit them"; exit 1; }

.PHONY: bench
bench: ## Measure, print a table, and write bench/results.json (BENCH=part,part selects)
	@mkdir -p bin
	@cd test/e2e && go build -o ../../bin/bench ./bench
	@BENCH="$(BENCH)" exec bin/bench

##@ Generate

.PHONY: generate
generate: ## Regenerate the Go code of the protos, the reference pages in docs/reference and the pictures in docs/images
	$(TOOL) buf generate
	go run ./internal/reference docs/reference
	cd tools && go run ./pictures ../docs/images

.PHONY: cast
cast: ## Record a run of `make demo` in docs/images/demo.cast, and make its picture
	@mkdir -p bin
	cd tools && go build -o ../bin/pictures ./pictures
	@TMPDIR=/tmp KEEP= env -u MAKEFLAGS -u MAKELEVEL bin/pictures record docs/images/demo.cast make demo
	bin/pictures docs/images

.PHONY: manifest
manifest: ## Regenerate what the chart makes, for the version in VERSION: manifest, chart README, snapshots
	@sed -i -e "s/^version: .*/version: $(VERSION:v%=%)/" -e "s/^appVersion: .*/appVersion: $(VERSION)/" \
		charts/$(NAME)/Chart.yaml
	@{ cat manifests/header.txt; \
		$(TOOL) helm template $(NAME) charts/$(NAME) --namespace kube-system --skip-tests; } \
		> manifests/$(NAME).yaml.new
	@mv manifests/$(NAME).yaml.new manifests/$(NAME).yaml
	@sed -i -E 's/^( *(version|targetRevision|tag): )[0-9].*/\1$(VERSION:v%=%)/' docs/examples/*.yaml
	@sed -i -E 's/^( *newTag: ).*/\1$(VERSION)/' docs/examples/kustomize/kustomization.yaml
	$(TOOL) helm-docs --chart-search-root charts --sort-values-order file --log-level warning
	UPDATE_SNAPSHOTS=1 go test -count=1 -run '^TestRenderingsAreAsCommitted$$' ./charts/tests

##@ Help

.PHONY: help
help: ## Show this
	@awk 'BEGIN {FS = ":.*## "} \
		/^##@/ {printf "\n%s\n", substr($$0, 5)} \
		/^[a-z0-9-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
