"""What the infer tests share: nano, an adapter for it as training saves one, and an engine on each."""

import copy
import json
from pathlib import Path

import pytest

from swiftlite.infer.config import InferConfig
from swiftlite.infer.engine import Engine
from swiftlite.models.families.nano import FOLDER
from swiftlite.models.load import load_tokenizer
from swiftlite.models.source import CARD, ModelSource

SYSTEM = "Be brief."


@pytest.fixture(scope="package", autouse=True)
def _one_thread():
    """Two threads on nano's small matrices wait for each other ten times as long as they compute."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def nano_engine() -> Engine:
    return Engine.load(InferConfig(model="nano", device="cpu"))


@pytest.fixture
def engine(nano_engine: Engine) -> Engine:
    """nano; attributes may be replaced, the model itself is shared."""
    return copy.copy(nano_engine)


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder's checkpoint: a LoRA adapter of nano that changes what it says, and its card."""
    import torch
    from peft import LoraConfig, get_peft_model

    folder = tmp_path_factory.mktemp("nano") / "v0" / "checkpoint-3"
    folder.parent.mkdir()
    (folder.parent / "run.yaml").write_text("model: nano\n")
    base = Engine.load(InferConfig(model="nano", device="cpu"))
    torch.manual_seed(1)
    # Random, and strong enough to be heard over what nano knows.
    settings = {"r": 4, "lora_alpha": 32, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": False}
    get_peft_model(base.model, LoraConfig(task_type="CAUSAL_LM", **settings)).save_pretrained(
        folder, save_embedding_layers=False
    )
    base.tokenizer.save_pretrained(folder)
    source = ModelSource("nano", path=FOLDER)
    card = {
        "format": 1,
        "base": source.to_card() | {"model_type": "nano"},
        "adapter": True,
        "sft_type": "lora",
        "template": "chatml",
        "system": SYSTEM,
        "dtype": "fp32",
    }
    (folder / CARD).write_text(json.dumps(card))
    return folder


@pytest.fixture(scope="session")
def tokenizer():
    return load_tokenizer(ModelSource("nano", path=FOLDER), 4096, [])


def ask(text: str) -> list[dict[str, str]]:
    """A conversation of one question."""
    return [{"role": "user", "content": text}]
