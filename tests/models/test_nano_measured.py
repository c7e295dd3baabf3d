"""What docs/nano.md says the shipped weights know and read is measured again, on the CPU in fp32."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from swiftlite import PtConfig, run_pt
from swiftlite.evaluate.config import EvalConfig
from swiftlite.evaluate.run import run_eval
from swiftlite.models.families.nano import FOLDER
from tests.shared_data import SHARED, needs_shared

PAGE = Path(__file__).resolve().parents[2] / "docs" / "nano.md"
KINDS = ("addition", "subtraction", "multiplication", "comparison", "multiple choice")
BOOKS = {
    "Black Beauty": SHARED / "data/text/simple_english/black-beauty__anna-sewell.txt",
    "The Time Machine": SHARED / "data/text/simple_english/the-time-machine__h-g-wells.txt",
}
BLOCK = 512


def documented(first: str, *columns: str) -> dict[str, list[float]]:
    """The page's table with these columns, and perhaps others: name in the first column -> numbers of the others."""
    lines = iter(PAGE.read_text(encoding="utf-8").splitlines())
    for line in lines:
        heading = cells(line)
        if heading[0] == first and set(columns) <= set(heading):
            break
    else:
        raise AssertionError(f"{PAGE.name} has no table with the columns {first}, {', '.join(columns)}")
    next(lines)
    found = {}
    for line in lines:
        if not line.startswith("|"):
            break
        row = dict(zip(heading, cells(line), strict=True))
        found[row[first]] = [float(row[column].replace(",", "")) for column in columns]
    return found


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


@pytest.fixture(scope="module")
def scores(tmp_path_factory):
    """The scores on the two embedded examinations."""
    result = tmp_path_factory.mktemp("eval") / "eval.json"
    settings = {"device": "cpu", "dtype": "fp32", "result_path": str(result)}
    return run_eval(EvalConfig(model="nano", eval_dataset=["nano-eval", "demo-eval"], **settings)).scores


def measure(text: Path, output: Path) -> dict[str, float]:
    """What `swiftlite pt --eval_only` says of a text."""
    settings = {"device": "cpu", "dtype": "fp32", "max_length": BLOCK, "output_dir": str(output)}
    (record,) = run_pt(PtConfig(model="nano", eval_only=True, val_dataset=[str(text)], **settings)).metrics.values()
    return record


@pytest.mark.parametrize("kind", KINDS)
def test_what_nano_knows(scores, kind):
    """Within 2 percentage points: no question of 40 more, none fewer."""
    tally = scores["nano-eval"].kinds[kind]
    (right,) = documented("kind", "right of 40")[kind]
    assert tally.rows == 40
    assert tally.accuracy == pytest.approx(right / 40, abs=0.02)


def test_the_table_names_every_kind(scores):
    assert set(documented("kind", "right of 40")) >= set(scores["nano-eval"].kinds) == set(KINDS)


def test_nano_does_not_know_what_the_demo_teaches(scores):
    assert scores["demo-eval"].rows >= 60
    assert scores["demo-eval"].accuracy < 0.1


@needs_shared
@pytest.mark.parametrize("book", BOOKS)
def test_how_well_nano_reads_a_book_it_has_never_seen(book, tmp_path):
    perplexity, bits_per_byte = documented("held-out book", "perplexity", "bits/byte")[book]
    measured = measure(BOOKS[book], tmp_path)
    assert measured["eval_perplexity"] == pytest.approx(perplexity, rel=0.01)
    assert measured["eval_bits_per_byte"] == pytest.approx(bits_per_byte, rel=0.01)


@needs_shared
def test_the_measure_of_a_book_is_plain_transformers(tmp_path):
    """The book's first 20,000 tokens, between two ends of text, each predicted within its block of 512."""
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()
    whole = tokenizer(BOOKS["Black Beauty"].read_text(encoding="utf-8"), verbose=False)["input_ids"]
    text = tokenizer.decode(whole[:20_000])
    (tmp_path / "part.txt").write_text(text, encoding="utf-8")
    ids = [tokenizer.eos_token_id, *tokenizer(text, verbose=False)["input_ids"], tokenizer.eos_token_id]
    nats = []
    for start in range(0, len(ids) - 1, BLOCK):
        block = torch.tensor([ids[start : start + BLOCK + 1]])
        with torch.inference_mode():
            nats.append(F.cross_entropy(model(block[:, :-1]).logits[0], block[0, 1:], reduction="none").double())
    total, count = float(torch.cat(nats).sum()), len(ids) - 1
    assert abs(count - 20_001) < 5
    measured = measure(tmp_path / "part.txt", tmp_path)
    assert measured["tokens"] == count
    assert measured["eval_loss"] == pytest.approx(total / count, abs=1e-4)
    assert measured["eval_perplexity"] == pytest.approx(math.exp(total / count), rel=1e-4)
    assert measured["eval_bits_per_byte"] == pytest.approx(total / math.log(2) / len(text.encode()), rel=1e-4)
