# The commands for people who change or try offgridd. Each sets up what it needs; a second call starts in seconds.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup check test test-systemd soak-kills soak-daemon bench bench-serving bench-llama bench-perplexity bench-guess bench-adapters bench-warm bench-embed bench-transfer bench-fit bench-catalog bench-regress test-mirror soak run demo-hub schema

setup:
	@$(PYTHON) scripts/setup.py

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/python scripts/test.py

bench: setup
	PYTHONPATH=tests $(BIN)/python benchmarks/daemon.py

bench-serving: setup
	PYTHONPATH=tests:benchmarks $(BIN)/python -m serving $(ARGS)

bench-llama: setup
	PYTHONPATH=tests:benchmarks $(BIN)/python benchmarks/bench.py $(ARGS)

bench-perplexity: setup
	PYTHONPATH=tests:benchmarks $(BIN)/python benchmarks/perplexity.py $(ARGS)

bench-guess: setup
	PYTHONPATH=tests:benchmarks $(BIN)/python benchmarks/guess.py $(ARGS)

bench-adapters: setup
	PYTHONPATH=tests:benchmarks $(BIN)/python benchmarks/adapters.py $(ARGS)

bench-warm: setup
	PYTHONPATH=tests:benchmarks $(BIN)/python benchmarks/warm.py $(ARGS)

bench-embed: setup
	PYTHONPATH=tests:benchmarks $(BIN)/python benchmarks/embed.py $(ARGS)

bench-fit: setup
	PYTHONPATH=tests $(BIN)/python benchmarks/fit.py $(ARGS)

bench-transfer: setup
	PYTHONPATH=tests:benchmarks $(BIN)/python -m transfer $(ARGS)

bench-regress: setup
	PYTHONPATH=tests $(BIN)/python benchmarks/regress.py $(ARGS)

bench-catalog: setup
	PYTHONPATH=tests $(BIN)/python benchmarks/catalog.py $(ARGS)

test-systemd: setup
	$(BIN)/python -m pytest -m systemd tests/systemd

test-mirror: setup
	@$(BIN)/python scripts/test_mirror.py

soak: setup
	PYTHONPATH=tests:benchmarks $(BIN)/python -m serving --scenes soak $(ARGS)

soak-kills: setup
	PYTHONPATH=tests $(BIN)/python benchmarks/kills.py $(ARGS)

soak-daemon: setup
	PYTHONPATH=tests $(BIN)/python benchmarks/endure.py $(ARGS)

run: setup
	@$(BIN)/python scripts/run.py

demo-hub: setup
	@$(BIN)/python scripts/demo_hub.py

schema: setup
	$(BIN)/python -m offgridd.manifest
	$(BIN)/python -m offgridd.effects.benchformat > docs/benchmark.schema.json
