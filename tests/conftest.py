"""Fixtures every room shares: one thread, no network, a tiny model folder and a tiny data file."""

import json
import logging
import os
from pathlib import Path

import pytest
import torch

# Before any library reads them: tests never look anything up, and forked children get no thread pools.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Small graphs are compiled before a pool of compiling processes has started.
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
# pytest listens to loggers that do not propagate, and torch, once heard, describes every graph to this one.
logging.getLogger("torch.__trace").propagate = True

# Small models on shared cores are many times slower with two threads than with one.
torch.set_num_threads(1)


def pytest_configure(config: pytest.Config) -> None:
    """Only `pytest -m gpu` uses a GPU; elsewhere `auto` means the CPU, on every machine."""
    if config.getoption("-m") != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(autouse=True)
def _own_token_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The default cache lies under the home folder; tests get one of their own."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.getbasetemp()))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local checkpoint folder of a two-layer Llama with nano's tokenizer, as transformers writes it."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from swiftlite.models.families.nano import FOLDER

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(FOLDER).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 short conversations of unequal lengths."""
    file = tmp_path_factory.mktemp("data") / "tiny.jsonl"
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Count to {n % 7 + 1} please."},
                {"role": "assistant", "content": " ".join(str(i) for i in range(1, n % 7 + 2))},
            ]
        }
        for n in range(40)
    ]
    file.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return file
