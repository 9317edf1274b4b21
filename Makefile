# Front doors. Each does its own set-up; `make help` lists them.

# Not from the environment: `clean` removes what is there.
OUTPUT           = output
AUTHORIZED_KEYS ?=
SPEC            ?= mkinitramfs/stage2.toml
# Flavours of the image, such as `disk`.
FLAVOUR         ?=
# Anything but nothing: pack the flasher, too.
FLASHER         ?=
TARGET          := x86_64-unknown-linux-gnu
TARGET_DIR      := $(or $(CARGO_TARGET_DIR),target)
AGENT           := $(TARGET_DIR)/$(TARGET)/ramdisk/agent
# Cargo tells the two builds apart by their directories: it does not count flags that rename sources.
FLASHER_DIR     := $(TARGET_DIR)/flasher
FLASHER_PROGRAM := $(FLASHER_DIR)/$(TARGET)/ramdisk/flasher
# The same with flashrom's simulated chip, which no image carries.
FLASHER_DUMMY   := $(TARGET_DIR)/release/flasher
# Panics name source files: by the same names wherever cargo keeps them.
REMAP           := --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=/cargo
# Tests run in other directories.
ifdef STAGE2_CACHE
override export STAGE2_CACHE := $(abspath $(STAGE2_CACHE))
endif
# Tests of machines wait more than they compute.
TEST_THREADS    ?= $(shell expr $$(nproc) + 1)

.PHONY: help deps agent flasher image demo test bench lint clean
.DEFAULT_GOAL := help

help: ## list the front doors
	@sed -n 's/^\([a-z]*\):.*## /  make \1|/p' $(MAKEFILE_LIST) | \
	    while IFS='|' read -r command does; do printf '%-14s %s\n' "$$command" "$$does"; done

deps: ## install the Debian packages that are missing, saying which and why
	@set -e; missing=""; \
	while read -r package comment; do \
	    case "$$package" in ''|'#') continue;; esac; \
	    case "$(FOR_BENCH)$$comment" in '# bench: '*) continue;; esac; \
	    if ! dpkg-query -W -f '$${Status}' "$$package" 2>/dev/null | grep -q 'ok installed'; then \
	        echo "deps: $$package is missing ($${comment#\# })"; missing="$$missing $$package"; \
	    fi; \
	done < .debian-packages; \
	if [ -n "$$missing" ]; then \
	    as_root="env"; [ "$$(id -u)" = 0 ] || as_root="sudo env"; \
	    echo "deps: installing$$missing"; \
	    $$as_root apt-get update -q; \
	    $$as_root DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $$missing; \
	fi; \
	command -v cargo >/dev/null || { echo "deps: cargo is missing: install Rust 1.89 or later from https://rustup.rs"; exit 1; }

agent:
	RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static $(REMAP)" \
	    cargo build --locked --package agent --profile ramdisk --target $(TARGET)

# Not position-independent: a fifth smaller, and a machine runs it once.
flasher:
	RUSTFLAGS="-C relocation-model=static $(REMAP)" \
	    cargo build --locked --package flasher --profile ramdisk --target $(TARGET) --target-dir $(FLASHER_DIR)

image: deps agent $(if $(FLASHER),flasher) ## build the image: OUTPUT=DIR, AUTHORIZED_KEYS=FILE, SPEC=FILE, FLAVOUR=disk, FLASHER=1
	cargo run --locked --package mkinitramfs -- build $(SPEC) \
	    --agent $(AGENT) --output "$(OUTPUT)" \
	    $(if $(FLASHER),--flasher $(FLASHER_PROGRAM)) $(addprefix --flavour ,$(FLAVOUR)) \
	    $(if $(AUTHORIZED_KEYS),--authorized-keys $(AUTHORIZED_KEYS))

demo: deps agent ## watch a machine boot from its iPXE ROM into stage2 and on into Debian
	cargo run --locked --package vmtest --bin demo -- --agent $(AGENT)

test: deps agent flasher ## prove every part
	cargo run --locked --package vmtest --bin prepare
	STAGE2_AGENT=$(abspath $(AGENT)) STAGE2_FLASHER=$(abspath $(FLASHER_PROGRAM)) \
	RUST_TEST_THREADS=$(TEST_THREADS) \
	    cargo test --locked --workspace --features flasher/dummy --no-fail-fast

bench: deps agent flasher ## measure against a ramdisk made of Debian's own programs; writes $(OUTPUT)/bench.json
	@$(MAKE) --no-print-directory deps FOR_BENCH=and
	cargo build --locked --package flasher --features dummy --release
	cargo run --locked --package vmtest --bin bench -- --agent $(AGENT) \
	    --flasher $(FLASHER_PROGRAM) --simulating-flasher $(FLASHER_DUMMY) --output "$(OUTPUT)"

lint: deps ## formatting, clippy and documentation
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	cargo clippy --locked --package flasher --features dummy --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --locked --workspace --no-deps --document-private-items

clean: ## remove what was built: programs, and the results in OUTPUT (not the cache of kernels)
	cargo clean
	rm -f $(foreach name,stage2_vmlinuz stage2_initramfs.cpio* agent flasher,"$(OUTPUT)"/$(name) "$(OUTPUT)"/$(name).sha256)
	rm -f "$(OUTPUT)"/bench.json
	rmdir --ignore-fail-on-non-empty "$(OUTPUT)" 2>/dev/null || true
