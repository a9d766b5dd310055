# What a developer and a user call. `make help` lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
# The function as it is shipped and tested. TARGET=aarch64-unknown-linux-gnu builds it for arm64, which is untested.
TARGET ?=
BUILT := target/$(if $(TARGET),$(TARGET)/)release/bootstrap
BOOTSTRAP := target/lambda/$(if $(TARGET),$(TARGET)/)bootstrap
ZIP := dist/aws-proxymanager-$(VERSION)$(if $(findstring aarch64,$(TARGET)),-arm64).zip
CARGO_HOME ?= $(HOME)/.cargo
# Of the target: aarch64-linux-gnu-objcopy for arm64.
OBJCOPY ?= objcopy
export TEST_BOOTSTRAP := $(CURDIR)/$(BOOTSTRAP)

.PHONY: help demo demo-proxy build test fuzz bench bench-function bench-proxy ci zip tools fmt lint doc tests templates permissions sam reproducible clean

help: ## This list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | column -t -s "$$(printf '\t')"

demo: build ## Build, run the local cloud, print the URL to open
	@echo
	@echo "Two sites are asleep: one plain, one that takes 20 s to become healthy. Open the URLs below: the page comes up at"
	@echo "once, and gives way to the site by itself. Each line that follows is a request and who answered it: first the"
	@echo "function (lambda), and after the flip the instance alone. Left alone for some minutes, a site falls asleep again:"
	@echo "eval \"\$$(target/debug/proxymanager local env)\"; target/debug/proxymanager list. Ctrl-C ends it all."
	@echo
	@target/debug/proxymanager local --bootstrap $(BOOTSTRAP)

demo-proxy: tools ## Run the proxy with Envoy before local programs, all asleep; prints what to try
	cargo build --bin proxymanager
	@scripts/demo-proxy

build: $(BOOTSTRAP) ## Build the function and the command line
	cargo build --bin proxymanager

# Where it was built stays out, so that the same source gives the same bytes. It aborts when it panics, so nothing reads
# its tables for unwinding: they are a fifteenth of the zip.
.PHONY: $(BOOTSTRAP)
$(BOOTSTRAP): export RUSTFLAGS := --remap-path-prefix=$(CARGO_HOME)/registry/src=crates --remap-path-prefix=$(CURDIR)=.
$(BOOTSTRAP):
	cargo build --release --no-default-features --features lambda --bin bootstrap $(addprefix --target ,$(TARGET))
	@mkdir -p $(@D)
	$(OBJCOPY) -R .eh_frame -R .eh_frame_hdr -R .gcc_except_table -R .comment $(BUILT) $@

PROXY_ARCHIVE := dist/aws-proxymanager-proxy-$(VERSION).tar.gz
.PHONY: proxy-archive
proxy-archive: ## dist/: the program and services of the proxy's machine
	cargo build --release --bin proxymanager
	scripts/glibc target/release/proxymanager
	@mkdir -p dist
	tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -c -C target/release proxymanager -C $(CURDIR) systemd LICENSE \
	    | gzip -n -9 >$(PROXY_ARCHIVE)
	cd dist && sha256sum $(notdir $(PROXY_ARCHIVE)) | tee $(notdir $(PROXY_ARCHIVE)).sha256

# What `sam build` calls.
.PHONY: build-Waker
build-Waker: $(BOOTSTRAP)
	cp $(BOOTSTRAP) "$(ARTIFACTS_DIR)/bootstrap"

tools: ## Install what the tests need (a .venv; Debian packages when root)
	@scripts/install-test-tools

tests:
	cargo test --no-run

test: tools $(BOOTSTRAP) ## All tests, against the shipped function
	@scripts/run-tests
	cargo test --doc
	cargo test --lib --no-default-features

SEED ?= $(shell od -An -N4 -tu4 /dev/urandom | tr -d ' ')

fuzz: ## A million hostile events; SEED=NUMBER begins with that story
	cargo test --test fuzz -- cases=1000000 seed=$(SEED)

bench: bench-function bench-proxy ## Measure what is shipped side by side with others; writes bench/RESULTS.md

bench-function: tools zip ## Its part about the function
	cargo build --release --manifest-path bench/function/hello/Cargo.toml
	cargo bench --profile dev --bench function

bench-proxy: tools ## Its part about the proxy
	@scripts/install-bench-tools
	cargo build --release --bin proxymanager
	TEST_PROXYMANAGER=$(CURDIR)/target/release/proxymanager cargo bench --profile dev --bench proxy

fmt:
	cargo fmt --check

lint:
	cargo clippy --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

templates: ## Lint template.yaml and the examples, and try the parameters that contradict each other
	@scripts/check-templates

permissions: ## The role against what the function called in the tests: nothing missing, nothing idle
	.venv/bin/python tests/template/permissions.py target/tmp/recorded-calls

sam: $(BOOTSTRAP) ## What `sam build` would deploy is what was tested, byte for byte
	.venv/bin/sam build --no-cached
	cmp .aws-sam/build/Waker/bootstrap $(BOOTSTRAP)

# Nothing is built twice there.
ci: export CARGO_INCREMENTAL := 0
ci: ## What must pass before a change is merged; prints the time of each stage
	@scripts/stages fmt tools '$(BOOTSTRAP)&' lint doc templates tests wait zip sam test permissions

zip: $(ZIP) ## dist/aws-proxymanager-<version>.zip and its SHA-256
.PHONY: $(ZIP)
$(ZIP): $(BOOTSTRAP)
	@scripts/pack $(BOOTSTRAP) $@ $(TARGET)

reproducible: ## Build the zip of the last commit in two folders and compare: twice a release build
	@scripts/reproducible

clean:
	rm -rf target dist .aws-sam
