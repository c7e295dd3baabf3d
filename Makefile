# make demo: install into .venv and fine-tune nano. make test: install with test extras, lint, type-check, test.

PYTHON ?= python3
# Another build of PyTorch: make demo TORCH="torch --index-url https://.../whl/cu130"
TORCH ?= torch==2.13.0
BIN := .venv/bin
# What commands say beside their results, shown only when they fail.
QUIETLY = 2>output/demo.err || { cat output/demo.err >&2; exit 1; }
DEMO := demo-$(shell date +%Y%m%d-%H%M%S)

.PHONY: demo ask test install lint clean

demo: .venv/.installed
	@mkdir -p output/nano
	@echo "== nano before: it answers questions, but knows nothing of the demo =="
	@$(BIN)/swiftlite eval --model nano --eval_dataset demo-eval --result_path output/nano/$(DEMO)-before.json $(QUIETLY)
	@$(MAKE) -s ask MODEL="--model nano"
	@echo "== fine-tuning it by LoRA on 328 conversations =="
	$(BIN)/swiftlite sft recipes/demo.yaml --run_name $(DEMO)
	@echo "== nano after, on questions it was not trained on =="
	@$(BIN)/swiftlite eval --ckpt_dir output/nano/$(DEMO) --eval_dataset demo-eval $(QUIETLY)
	@$(MAKE) -s ask MODEL="--ckpt_dir output/nano/$(DEMO)"
	@echo "Chat with it: $(BIN)/swiftlite infer --ckpt_dir output/nano/$(DEMO)"
	@echo "Your own data: $(BIN)/swiftlite sft --model nano --dataset FILE.jsonl"

ask:
	@for question in "What is your name?" "What is 47 zib 12?"; do \
		echo "> $$question"; $(BIN)/swiftlite infer $(MODEL) --query "$$question" $(QUIETLY); \
	done

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
