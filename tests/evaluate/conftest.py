"""What the eval tests share: an engine that answers by rote, files of questions, and an adapter of nano."""

import json
from pathlib import Path

import pytest

from swiftlite.infer.sampling import Answer
from tests.infer.conftest import adapter  # noqa: F401


class RoteEngine:
    """Stands in for a loaded model: knows the answer to each question; anything else it answers `no`.

    A question of N characters has N tokens, an answer of N words N + 1.
    """

    header = ("rote",)

    def __init__(self, answers: dict[str, str], cut: tuple[str, ...] = ()):
        self.answers = answers
        self.cut = cut
        self.batches: list[list[str]] = []

    def encode(self, messages, tools=None) -> list[int]:
        return list(range(len(messages[-1]["content"])))

    def generate(self, conversations, sampling, tools=None) -> list[Answer]:
        asked = [messages[-1]["content"] for messages in conversations]
        self.batches.append(asked)
        return [self._answer(question) for question in asked]

    def _answer(self, question: str) -> Answer:
        text = self.answers.get(question, "no")
        return Answer(text, len(text.split()) + 1, "length" if question in self.cut else "stop")


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes rows as a jsonl file of that name in the working folder."""
    monkeypatch.chdir(tmp_path)

    def write_rows(name: str, rows: list[dict]) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        return path

    return write_rows


def pairs(questions: dict[str, str]) -> list[dict[str, str]]:
    """Rows of a question and its answer."""
    return [{"query": question, "response": answer} for question, answer in questions.items()]
