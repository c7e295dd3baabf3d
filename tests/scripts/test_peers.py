"""The comparison with other tools counts what it should, and says what failed and what is not there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from transformers import AutoConfig, AutoTokenizer

PEERS = Path(__file__).resolve().parents[2] / "scripts" / "benchmark" / "peers"
sys.path.insert(0, str(PEERS))

import timing  # noqa: E402
from make_inputs import SHAPES, make_inputs  # noqa: E402
from table import comparison  # noqa: E402


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return make_inputs(tmp_path_factory.mktemp("peers") / "inputs", "tiny", "cpu")


def lengths(inputs, case):
    tokenizer = AutoTokenizer.from_pretrained(inputs)
    rows = [json.loads(line)["messages"] for line in (inputs / f"{case}.jsonl").read_text().splitlines()]
    return [len(tokenizer.apply_chat_template(row, tokenize=True, return_dict=False)) for row in rows]


@pytest.mark.parametrize("case", ["fixed", "long"])
def test_rows_have_the_tokens_they_are_said_to_have(inputs, case):
    assert set(lengths(inputs, case)) == {getattr(SHAPES["tiny"], case)}


def test_rows_of_many_lengths_follow_their_distribution(inputs):
    found = sorted(lengths(inputs, "varlen"))
    # The median of exp(N(3.6, 0.5)) is e^3.6 = 36.6.
    assert found[len(found) // 2] == pytest.approx(36.6, rel=0.1)
    assert found[-1] == SHAPES["tiny"].fixed


def test_the_checkpoint_has_the_shape(inputs):
    config, shape = AutoConfig.from_pretrained(inputs), SHAPES["tiny"]
    assert (config.model_type, config.hidden_size, config.vocab_size) == ("qwen2", shape.hidden_size, shape.vocabulary)


def test_warm_up_steps_are_not_timed(monkeypatch):
    clock = iter([*(100.0 * n for n in range(1, timing.WARM_UP + 1)), 602.0, 603.0, 609.0])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    timer = timing.Timer("cpu")
    for step in range(timing.WARM_UP + 3):
        for _ in range(2):
            timer.batch(real=3 if step >= timing.WARM_UP else 999, padded=5)
        timer.end_of_step()
    result = timer.result()
    # Steps of 2, 1 and 6 seconds, each with 2 x 3 real tokens among 2 x 5.
    assert (result["tokens_per_s"], result["computed_tokens_per_s"]) == (18 / 9, 30 / 9)
    assert (result["steps"], result["median_step_ms"]) == (3, 2000)


def result(tool, rate, **more):
    about = {"tool": tool, "case": "fixed", "setting": "s", "device": "H200", "versions": {"torch": "2.11"}}
    return about | {"tokens_per_s": rate, "computed_tokens_per_s": rate * 2, "median_step_ms": 1, "steps": 9} | more


def test_ratios_are_to_the_best_peer():
    rows = [result(tool, rate, peak_reserved_gib=1.0) for tool, rate in (("trl", 100), ("swift", 200), ("ours", 500))]
    failed = {"tool": "unsloth", "case": "fixed", "setting": "s", "error": "No | GPU"}
    lines = comparison([*rows, failed], {"fixed": 2040, "long": 9}, ["llamafactory"]).splitlines()
    assert [line for line in lines if "| s |" in line] == [
        "| ours | s | 500 | 2.50x | 50.0% | 1.0 | 1.0 |",
        "| swift | s | 200 | 1.00x | 50.0% | 1.0 | 1.0 |",
        "| trl | s | 100 | 0.50x | 50.0% | 1.0 | 1.0 |",
        "| unsloth | s | No / GPU |  |  |  |  |",
    ]
    assert "Not installed: llamafactory." in lines and "- trl: H200; torch 2.11" in lines


def test_settings_name_the_same_tools_and_cases_for_each_shape():
    settings = yaml.safe_load((PEERS / "settings.yaml").read_text())
    tools = {"ours", "trl", "swift", "unsloth", "llamafactory"}
    for shape in SHAPES:
        assert set(settings[shape]) == {"batch_size", *tools}
        assert all(set(cases) == {"fixed", "varlen", "long"} for cases in settings[shape].values())


@pytest.mark.slow
def test_one_command_runs_ours_and_lists_what_is_not_installed(tmp_path):
    command = [sys.executable, str(PEERS / "run.py"), "--out", str(tmp_path), "--shape", "tiny", "--device", "cpu"]
    command += ["--only", "ours,unsloth", "--cases", "fixed", "--steps", "8"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert ended.returncode == 0, ended.stderr
    (row,) = json.loads((tmp_path / "results.json").read_text())
    # Rows of 120 tokens are a multiple of 8: nothing is padded.
    assert row["steps"] == 2 and row["tokens_per_s"] == row["computed_tokens_per_s"] > 0
    assert "Not installed: unsloth." in (tmp_path / "table.md").read_text()


def test_our_settings_are_flags_that_exist():
    from swiftlite.config.aliases import NOT_YET
    from swiftlite.train.config import SftConfig

    settings = yaml.safe_load((PEERS / "settings.yaml").read_text())
    named = {flag for shape in SHAPES for rows in settings[shape]["ours"].values() for o in rows.values() for flag in o}
    assert named <= {*SftConfig.options(), *NOT_YET}
