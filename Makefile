# What a developer and a user call. `make help` lists it.
.DEFAULT_GOAL := help
SHELL := /bin/bash
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
BOOTSTRAP := target/release/bootstrap
# A panic ends the process, so nothing unwinds, and tables that say how would be a tenth of the zip.
SHIPPED := -C force-unwind-tables=no
export TEST_BOOTSTRAP := $(CURDIR)/$(BOOTSTRAP)

.PHONY: help demo build test bench ci zip tools fmt lint doc clean

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

build: $(BOOTSTRAP) ## Build the function and the command line
	cargo build --bin proxymanager

.PHONY: $(BOOTSTRAP)
$(BOOTSTRAP): export RUSTFLAGS := $(SHIPPED)
$(BOOTSTRAP):
	cargo build --release --no-default-features --features lambda --bin bootstrap

tools: ## Install what the tests need (a .venv; Debian packages when root)
	@scripts/install-test-tools

test: tools $(BOOTSTRAP) ## All tests, against the shipped function
	@scripts/run-tests
	cargo test --doc
	cargo test --lib --no-default-features

bench: tools zip ## Measure the function side by side with others; writes bench/RESULTS.md
	cargo build --release --manifest-path bench/hello/Cargo.toml
	cargo bench --profile dev --bench results

fmt:
	cargo fmt --check

lint:
	cargo clippy --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

ci: ## What must pass before a change is merged; prints the time of each stage
	@scripts/stages fmt lint doc tools $(BOOTSTRAP) test

zip: $(BOOTSTRAP) ## dist/aws-proxymanager-<version>.zip
	@mkdir -p dist
	@cp $(BOOTSTRAP) dist/bootstrap && touch -d '2000-01-01T00:00:00Z' dist/bootstrap
	@cd dist && rm -f aws-proxymanager-$(VERSION).zip && zip -X -q aws-proxymanager-$(VERSION).zip bootstrap && rm bootstrap
	@ls -l dist/aws-proxymanager-$(VERSION).zip

clean:
	rm -rf target dist
