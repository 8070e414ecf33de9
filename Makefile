# Targets that people and CI use. Everything but `vuln` works without network once
# modules are downloaded.
GO    ?= go
TAGS  ?= pebblegozstd
GOTAG := -tags $(TAGS)
TOOL  := $(GO) tool -modfile=internal/tools/go.mod

# Packages with goroutines of their own.
RACE := ./engine/... ./operators/... ./connectors/... ./state/... ./weirtest/... ./internal/clock/... ./internal/crash/... ./internal/natsd/... ./internal/fakemodel/...

.PHONY: all build demo test race invariants lint vet fmt fmt-check tidy-check fuzz model crashmatrix torture mutants bench ci

all: build test

build:
	$(GO) build $(GOTAG) -o bin/ ./cmd/...

demo:
	$(GO) run $(GOTAG) ./cmd/weir demo

test:
	$(GO) test $(GOTAG) ./...

race:
	$(GO) test $(GOTAG) -race -short $(RACE)

invariants:
	$(GO) test -tags "$(TAGS) invariants" -short ./...

vet:
	$(GO) vet $(GOTAG) ./...

lint: vet
	$(TOOL) staticcheck $(GOTAG) ./...
	$(GO) test $(GOTAG) ./internal/lint

fmt:
	$(TOOL) gofumpt -w .

fmt-check:
	@test -z "$$($(TOOL) gofumpt -l . | tee /dev/stderr)"

tidy-check:
	$(GO) mod tidy -diff

# T is the time for each fuzz target.
T ?= 10s
fuzz:
	TAGS=$(TAGS) .ci/fuzz $(T)

model:
	$(GO) test -run Model -v ./internal/protocol

crashmatrix:
	$(GO) run $(GOTAG) ./internal/torture/cmd/crashmatrix

KILLS ?= 30
torture:
	$(GO) run $(GOTAG) ./internal/torture/cmd/torture -kills $(KILLS)

mutants:
	$(GO) run $(GOTAG) ./internal/torture/cmd/mutants

bench:
	$(GO) run $(GOTAG) ./benchmarks/micro

ci:
	bash .ci/run
