"""What the data tests share: a template one can read with the eye, and files written in one line."""

import json
from pathlib import Path
from typing import Any

import pytest

from swiftlite.chat.encoded import Encoded
from swiftlite.config.errors import UserError
from swiftlite.data.config import DataConfig

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
STOP = 2


class FakeTemplate:
    """One token a character (its code point), a 1 before each turn and a trained 2 after each answer."""

    name = "fake"
    fingerprint = "fake-1"
    stop_token_ids = (STOP,)

    def __init__(self) -> None:
        self.rows_encoded = 0

    def jinja(self) -> str:
        """The text of its chat template; this one has no place for reasoning."""
        return "{{ messages }}"

    def encode(self, messages: list[dict[str, Any]], tools: Any = None) -> Encoded:
        if any("REFUSE" in message["content"] for message in messages):
            raise UserError("the fake template does not like this text")
        ids, weights = [], []
        for message in messages:
            said = [ord(c) for c in message["content"]]
            answer = message["role"] == "assistant"
            trained = float(answer and message.get("loss", True))
            ids += [1, *said] + [STOP] * answer
            weights += [0.0] + [trained] * (len(said) + answer)
        return Encoded(ids, weights)

    def encode_batch(self, conversations: list[dict[str, Any]]) -> list[Encoded]:
        self.rows_encoded += len(conversations)
        return [self.encode(c["messages"], c.get("tools")) for c in conversations]


class FakeTokenizer:
    """One token a character, an end token 2, no BOS."""

    eos_token_id = STOP
    bos_token_id = None

    def __call__(self, texts: str | list[str], **_: Any) -> dict[str, Any]:
        if isinstance(texts, str):
            return {"input_ids": [ord(c) for c in texts]}
        return {"input_ids": [[ord(c) for c in text] for text in texts]}


@pytest.fixture
def template() -> FakeTemplate:
    return FakeTemplate()


@pytest.fixture
def tokenizer() -> FakeTokenizer:
    return FakeTokenizer()


@pytest.fixture
def write(tmp_path):
    """write(name, rows) puts rows (JSON lines), text or bytes in a file and returns its path."""

    def put(name: str, content: Any) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, list):
            content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in content)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return put


@pytest.fixture
def config(tmp_path):
    """config(*datasets, **fields) is a DataConfig with a cache of its own and no validation set."""

    def make(*datasets: str, **fields: Any) -> DataConfig:
        defaults = {"cache_dir": str(tmp_path / "cache"), "split_dataset_ratio": 0.0}
        return DataConfig(dataset=list(datasets), **{**defaults, **fields})

    return make


@pytest.fixture
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"the shared research data is not at {SHARED}")
    return SHARED


@pytest.fixture
def qa():
    """qa(n) is n query/response rows whose answers differ."""

    def rows(count: int) -> list[dict[str, str]]:
        return [{"query": f"q{i}", "response": f"answer {i}"} for i in range(count)]

    return rows
