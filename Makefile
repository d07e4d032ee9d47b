# Three commands matter: `make test` runs everything, `make demo` explains images natively with the shipped model,
# `make web` serves the page. They install what a fresh Debian machine lacks (see trainer/scripts/setup.sh) and say what
# they do.

CARGO ?= cargo
PORT ?= 8080
export CARGO_TERM_COLOR ?= auto

# Every call of cargo selects the whole workspace and then what to build of it: features are united over what is
# selected, and a single package, or the root alone, would have most dependencies compiled a second time.
BUILD = $(CARGO) build --release --workspace --bin duet

.PHONY: test demo pictures web study card packs experiments-tiny train setup lint web-build web-fixtures web-test browser-test web-docs bench peers shortcuts gpu-hour gpu-hour-tiny slow-test second-driver fuzz cases clean

setup:
	@sh trainer/scripts/setup.sh vulkan data

# Tests wait for the device, not for the host: our own crates are optimised little for them, which takes a third of the time to
# compile, and others' crates, which decode pictures and read shaders, as ever.
LIGHTLY = $(foreach crate,duet duet-trainer,$(foreach setting,opt-level=1 codegen-units=16,--config profile.release.package.$(crate).$(setting)))

# What is tested speaks MPI; what users build by default must not need one.
MPI = --features duet-trainer/mpi

test: setup lint
	@sh trainer/scripts/setup.sh shaders
	$(CARGO) test --release --workspace $(MPI) $(LIGHTLY)
	$(MAKE) --no-print-directory browser-test

# Every test, those included that take minutes on a software device and are ignored otherwise: the paper's 128-channel
# network, 500 random networks, dispatches beyond every limit; and all browser tests, whole, in both browsers.
slow-test: setup target/tensorboard/bin/tensorboard target/pytorch/bin/python target/onnx/bin/python target/onnx/node_modules \
		target/jupyter/bin/python
	@sh trainer/scripts/setup.sh mpi
	DUET_TENSORBOARD=$(CURDIR)/target/tensorboard/bin/python DUET_PYTORCH=$(CURDIR)/target/pytorch/bin/python \
		DUET_ONNX=$(CURDIR)/target/onnx/bin/python DUET_ONNX_WEB=$(CURDIR)/target/onnx \
		$(CARGO) test --release --workspace $(MPI) -- --include-ignored
	$(MAKE) --no-print-directory web-build second-driver
	sh web/scripts/install.sh examples
	cd web && DUET_JUPYTER=$(CURDIR)/target/jupyter/bin/python node tests/run.mjs --browser chromium
	cd web && node tests/run.mjs --browser firefox

# The suite on a second Vulkan driver: SwiftShader's, which Chromium brings. Its subgroups are of four, so that it runs what a GPU runs.
SWIFTSHADER ?= /usr/lib/chromium/vk_swiftshader_icd.json
second-driver: setup
	@sh trainer/scripts/setup.sh browser
	@[ -e $(SWIFTSHADER) ] || { echo "no $(SWIFTSHADER): SWIFTSHADER= names the file of another browser" >&2; exit 1; }
	VK_ICD_FILENAMES=$(SWIFTSHADER) VK_DRIVER_FILES=$(SWIFTSHADER) $(CARGO) test --release --workspace --test suite

# TensorBoard's own reader of event files, for the test that gives it ours.
target/tensorboard/bin/tensorboard:
	python3 -m venv target/tensorboard
	target/tensorboard/bin/pip install --quiet tensorboard==2.21.0 setuptools==80.9.0

# PyTorch and diffusers, for the tests that give them our files and take theirs.
target/pytorch/bin/python:
	python3 -m venv target/pytorch
	target/pytorch/bin/pip install --quiet torch==2.15.0 diffusers==0.42.1 safetensors numpy || { rm -rf target/pytorch; exit 1; }

# ONNX's checker and ONNX Runtime in Python and in JavaScript, for the tests that give them our files.
target/onnx/bin/python:
	python3 -m venv target/onnx
	target/onnx/bin/pip install --quiet onnx==1.23.2 onnxruntime==1.32.0 pillow==13.0.0

# JupyterLab and anywidget, for the test of the example for notebooks.
target/jupyter/bin/python:
	python3 -m venv target/jupyter
	target/jupyter/bin/pip install --quiet jupyterlab==4.6.6 anywidget==0.11.0 numpy==2.4.6 || { rm -rf target/jupyter; exit 1; }

target/onnx/node_modules:
	@sh trainer/scripts/setup.sh web
	npm install --silent --no-save --prefix target/onnx onnxruntime-web@1.30.0

# Gives every reader of files damaged ones for MINUTES minutes each, guided by coverage (tests/fuzz/run.sh); TARGETS="idx
# recipe" tries some of them. What it finds lies in target/fuzz/found.
fuzz:
	MINUTES=$(or $(MINUTES),10) sh tests/fuzz/run.sh $(TARGETS)

# Runs the command on inputs that people sent (CASES: a folder of them) and compares with what it must do.
cases: setup
	$(BUILD)
	trainer/tests/cases.sh $(CASES)

lint:
	@sh trainer/scripts/setup.sh mpi
	$(CARGO) fmt --all --check
	@if $(CARGO) tree --workspace --edges normal,build --prefix none | grep -q '^mpi '; then echo "the default build needs MPI" >&2; exit 1; fi
	$(CARGO) clippy --release --workspace $(MPI) --all-targets -- -D warnings

# The npm package (web/dist) and the page (web/demo/dist).
web-build:
	@sh trainer/scripts/setup.sh web
	sh web/scripts/build.sh
	cd web && npx --no-install tsc -p demo --noEmit && npx --no-install vite build demo --logLevel warn

# Browser tests: most in Chromium, and in Firefox what an engine can get wrong (web/tests/driver/engines.mjs has the lists). What they
# compare with is written by native tests: `make test` has run those already.
web-test: web-fixtures
	$(MAKE) --no-print-directory browser-test

web-fixtures: setup
	$(CARGO) test --release --workspace --lib --test suite web_fixtures

browser-test: web-build
	@sh trainer/scripts/setup.sh browser
	sh web/scripts/install.sh examples
	cd web && npm pack --dry-run --silent >/dev/null && npx --no-install typedoc --emit none && node tests/run.mjs

web: web-build
	node web/scripts/serve.mjs web/demo/dist --port $(PORT)

# API documentation of the package, into web/docs.
web-docs: web-build
	cd web && npx --no-install typedoc

bench: setup
	$(BUILD)
	target/release/duet bench

# Compares with PyTorch, burn and ONNX Runtime Web: an hour, 10 GB of downloads and builds (benches/peers/README.md).
peers:
	sh benches/peers/run.sh

# Checks, measures and trains on this machine's GPU for MINUTES minutes (benches/gpu/README.md). The second tries the
# script itself, at sizes for a software device.
gpu-hour: setup
	sh benches/gpu/run.sh --minutes $(or $(MINUTES),60)

gpu-hour-tiny: setup
	sh benches/gpu/run.sh --tiny --minutes 6 --out target/gpu-hour/tiny

demo: setup
	$(BUILD)
	sh trainer/scripts/demo.sh

# Renews the README's picture of counterfactuals.
pictures: setup
	$(BUILD)
	sh trainer/scripts/pictures.sh web/demo/pictures

# Measures what the step size of guidance does, then what solvers do in few steps, into the folder study, and renews the README's pictures
# of it: step sizes take about seven minutes on a software device with two cores, solvers have 2.4 times as many steps of images to make.
# MODEL=… takes another model.
MODEL ?= web/demo/public/model.safetensors
study: setup
	$(BUILD)
	sh trainer/scripts/study.sh $(MODEL)

# Measures what MODEL's card and the README say of it; with JUDGE=… also what that model says of its counterfactuals.
card: setup
	$(BUILD) --example unlike_pictures
	sh trainer/scripts/card.sh $(MODEL) $(JUDGE)

# Trains the recipes of usps, cifar10, malaria and blood-cells on what the folder DATA holds of them, TIME each, and prints a table.
packs: setup
	$(BUILD)
	sh trainer/scripts/packs.sh $(DATA) $(or $(TIME),8m)

# Every experiment at the scale for two processor cores, on the data sets in the folder DATA (fashion-mnist, mnist, usps, malaria,
# bccd-tiles), and their tables into trainer/experiments/tables with today's date: under an hour. What is done is not done again.
experiments-tiny: setup
	$(BUILD)
	sh trainer/scripts/experiments.sh $(DATA)

# Plants a mark into shares of one class's images, trains a small model on each and audits it (trainer/scripts/shortcuts.sh).
# CLASS=, CORNER= and SHARES= choose others.
shortcuts: setup
	$(BUILD) --example plant_shortcut
	sh trainer/scripts/shortcuts.sh $(or $(CLASS),Sandal) $(or $(CORNER),ne) "$(or $(SHARES),0 0.1 0.3 0.6 1)"

# Trains the default model, or goes on with it; Ctrl-C saves.
train: setup
	$(BUILD)
	sh trainer/scripts/train.sh

clean:
	$(CARGO) clean
	rm -rf runs demo study card web/dist web/docs web/demo/dist web/src/wasm web/tests/artifacts
