# Two commands decide whether it is real: `make run` and `make test`.
#
#   make run [ARGS="--data DIR ..."]   build, fetch the embedded engine once, start everything with demo data
#   make build                         the same without starting anything
#   make test                          format, vet, staticcheck, unit, fuzz seeds, whole system, browser
#   make test-long                     the same tests with bigger numbers
#   make generate                      protobuf code and lists
#
# ENGINE=<path of libchdb.so> uses an engine that is already there; ENGINE=none builds without one.

ENGINE ?=
ARGS   ?=
GO     ?= go

.DELETE_ON_ERROR:
.PHONY: help run build engine binary test test-long generate clean

help:
	@sed -n 's/^#   //p' Makefile

run: build
	@exec bin/waymark up --demo --engine "$$(cat bin/engine)" $(ARGS)

build: engine binary

# The engine's path is kept beside the binary, so that a later start needs neither npm nor the network.
engine:
	@sh .ci/tools.sh go make
	@mkdir -p bin
	@ENGINE="$(ENGINE)" sh aggregator/warehouse/fetch.sh > bin/engine.tmp && mv bin/engine.tmp bin/engine

binary:
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/waymark ./cmd/waymark

test:
	@sh .ci/test.sh

test-long:
	@WAYMARK_TEST_LONG=1 sh .ci/test.sh

generate:
	$(GO) generate ./...

clean:
	rm -rf bin
