"""A streamed run takes the steps of a run in memory, and killed anywhere it goes on to the same bits."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from swiftlite.config.errors import UserError
from swiftlite.train.config import SftConfig
from swiftlite.train.reporting import read_log
from tests.children import Mishap, run_sft_in_child, run_sft_in_ranks

# 45 rows of which 5 are too long and one is blank: two passes and a half of 10 steps, the last of each one short.
COMMON = {
    "batch_size": 2,
    "gradient_accumulation_steps": 2,
    "streaming": True,
    "max_steps": 24,
    "sft_type": "full",
    "learning_rate": 1e-2,
    "max_length": 64,
    "on_bad_row": "drop",
    "save_steps": 5,
    "logging_steps": 1,
    "run_name": "r",
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("stream") / "rows.jsonl"
    lines = []
    for n in range(46):
        answer = " ".join(str(i) for i in range(1, n % 5 + 2)) + " x" * (60 if n % 9 == 4 else 0)
        lines.append(json.dumps({"query": f"Count {n} to {n % 5 + 1} please.", "response": "" if n == 20 else answer}))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def settings(tiny_model: Path, rows: Path, out: Path, **more) -> dict:
    return COMMON | {"model": str(tiny_model), "dataset": [str(rows)], "output_dir": str(out)} | more


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "final" / "model.safetensors")


def numbers(run: Path) -> list[tuple]:
    keys = ("step", "epoch", "loss", "learning_rate", "grad_norm", "samples", "trained_tokens")
    return [tuple(r.get(k) for k in keys) for r in read_log(run / "log.jsonl")]


@pytest.fixture(scope="module")
def straight(tiny_model, rows, tmp_path_factory) -> Path:
    """An uninterrupted, shuffled run."""
    out = tmp_path_factory.mktemp("straight")
    ended = run_sft_in_child(settings(tiny_model, rows, out, shuffle_buffer=7))
    assert ended.code == 0, ended.output
    return out / "tiny-llama" / "r"


def test_losses_are_those_of_a_run_in_memory(tiny_model, rows, tmp_path):
    """Unshuffled, over three passes: the same rows in the same steps."""
    runs = []
    for name, more in (("stream", {"shuffle_buffer": 0}), ("memory", {"streaming": False, "split_dataset_ratio": 0})):
        ended = run_sft_in_child(settings(tiny_model, rows, tmp_path, dataset_shuffle=False, run_name=name, **more))
        assert ended.code == 0, ended.output
        runs.append(tmp_path / "tiny-llama" / name)
    found = [
        [(r["step"], r["loss"], r["grad_norm"], r["samples"]) for r in read_log(run / "log.jsonl")] for run in runs
    ]
    assert found[0] == found[1]
    assert all(torch.equal(a, b) for a, b in zip(weights(runs[0]).values(), weights(runs[1]).values()))


# 7: within the first pass. 12: in the second, off a checkpoint. 21: after a pass ended on checkpoint 20.
@pytest.mark.parametrize("mishap", [Mishap(kill_at=7), Mishap(kill_at=12), Mishap(kill_at=21)], ids=["7", "12", "21"])
def test_a_killed_and_resumed_run_ends_bit_identical(straight, tiny_model, rows, tmp_path, mishap):
    given = settings(tiny_model, rows, tmp_path, shuffle_buffer=7)
    assert run_sft_in_child(given, mishap).code == -9
    run = tmp_path / "tiny-llama" / "r"
    ended = run_sft_in_child(given | {"resume": str(run)})
    assert ended.code == 0, ended.output
    assert numbers(run) == numbers(straight)
    resumed, expected = weights(run), weights(straight)
    assert all(torch.equal(resumed[k], expected[k]) for k in expected)


def test_passes_are_the_epochs(straight):
    """40 rows are kept: steps 1 to 10 are the first pass; its end is seen when it comes."""
    epochs = {step: epoch for step, epoch, *_ in numbers(straight)}
    assert [epochs[k] for k in (1, 9, 10, 19, 20, 24)] == [0, 0, 1, 1, 2, 2]


def test_rows_are_counted_at_the_end(straight):
    source = json.loads((straight / "data.json").read_text())["sources"][0]
    counts = {kind: entry["count"] for kind, entry in source["dropped"].items()}
    assert counts.keys() == {"longer than max_length", "empty content"}
    assert source["rows"] == source["kept"] + sum(counts.values())
    assert source["rows"] > 2 * 46  # the third pass is under way


def test_two_processes_take_the_steps_of_one(straight, tiny_model, rows, tmp_path):
    given = settings(tiny_model, rows, tmp_path, shuffle_buffer=7, gradient_accumulation_steps=1)
    for ended in run_sft_in_ranks(given, 2):
        assert ended.code == 0, ended.output
    one, two = numbers(straight), numbers(tmp_path / "tiny-llama" / "r")
    assert [(r[0], r[5], r[6]) for r in one] == [(r[0], r[5], r[6]) for r in two]
    assert [r[2] for r in two] == pytest.approx([r[2] for r in one], rel=1e-4)


def test_the_number_of_steps_must_be_given(tiny_data):
    with pytest.raises(UserError, match="--streaming true needs --max_steps"):
        SftConfig(model="nano", dataset=str(tiny_data), streaming=True)
