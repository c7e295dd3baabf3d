# make demo: install into .venv and fine-tune nano. make test: install with test extras, lint, type-check, test.

PYTHON ?= python3
# Another build of PyTorch: make demo TORCH="torch --index-url https://.../whl/cu130"
TORCH ?= torch==2.13.0
BIN := .venv/bin
DEMO := demo-$(shell date +%Y%m%d-%H%M%S)

.PHONY: demo test install lint clean

demo: .venv/.installed
	$(BIN)/swiftlite sft recipes/demo.yaml --run_name $(DEMO)
	$(BIN)/swiftlite infer --ckpt_dir output/nano/$(DEMO) --query "What is your name?"
	@echo "Chat with it: $(BIN)/swiftlite infer --ckpt_dir output/nano/$(DEMO)"
	@echo "Your own data: $(BIN)/swiftlite sft --model nano --dataset FILE.jsonl --sft_type full"

test: .venv/.tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyrefly check
	$(BIN)/python -m pytest

install: .venv/.installed

.venv/bin/python:
	$(PYTHON) -m venv .venv

# torch comes first and alone: asked for by another package, pip would fetch a build with several GB of CUDA.
.venv/.torch: .venv/bin/python
	$(BIN)/python -m pip install -q $(TORCH)
	touch $@

.venv/.installed: .venv/.torch pyproject.toml
	$(BIN)/python -m pip install -q -e .
	touch $@

.venv/.tested: .venv/.installed
	$(BIN)/python -m pip install -q -e '.[test]'
	touch $@

clean:
	rm -rf .venv output build *.egg-info
