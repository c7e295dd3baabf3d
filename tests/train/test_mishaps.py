"""Bad input and bad luck: one clear sentence, a non-zero exit code, nothing earlier lost."""

import json
import signal

import pytest

from swiftlite.cli import main
from tests.children import Mishap, run_sft_in_child


def good_row(text: str = "fine") -> dict:
    return {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": text}]}


def lines(rows: list) -> str:
    return "".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows)


NO_ANSWER = {"messages": [{"role": "user", "content": "hi"}]}

# What is wrong -> (content of the file, words the sentence must have).
BAD_FILES = {
    "empty file": ("", ["data.jsonl", "empty"]),
    "wrong JSON on line 7": (lines([good_row()] * 6 + ["{oops"] + [good_row()]), ["data.jsonl", "line 7"]),
    "no assistant turn on line 3": (lines([good_row()] * 2 + [NO_ANSWER]), ["data.jsonl", "line 3", "assistant"]),
    "all rows over-long": (lines([good_row("long " * 300)] * 5), ["max_length", "64"]),
}


def sft(capsys, tiny_model, tmp_path, *argv: str) -> tuple[int, str]:
    common = ["sft", "--model", str(tiny_model), "--output_dir", str(tmp_path / "out"), "--max_length", "64"]
    code = main([*common, *argv])
    return code, capsys.readouterr().err


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_one_sentence_with_file_and_line(capsys, tiny_model, tmp_path, case):
    content, words = BAD_FILES[case]
    file = tmp_path / "data.jsonl"
    file.write_text(content)
    code, err = sft(capsys, tiny_model, tmp_path, "--dataset", str(file))
    assert code != 0
    assert err.count("\n") == 1 and all(w in err for w in words), err
    assert not (tmp_path / "out").exists(), "nothing is made before the input is known to be good"


def test_a_missing_file_names_the_closest(capsys, tiny_model, tmp_path):
    (tmp_path / "train.jsonl").write_text(lines([good_row()]))
    code, err = sft(capsys, tiny_model, tmp_path, "--dataset", str(tmp_path / "trian.jsonl"))
    assert code != 0 and "trian.jsonl" in err and "train.jsonl" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("qwen-7b-caht", ["qwen-7b-caht", "did you mean qwen-7b-chat"]),
        ("./nowhere/model", ["./nowhere/model"]),
        ("nobody/nothing", ["nobody/nothing", "--weights dummy", "--model FOLDER"]),
    ],
)
def test_an_unknown_model_says_what_was_looked_for(capsys, tmp_path, model, words):
    code = main(["sft", "--model", model, "--dataset", "demo", "--output_dir", str(tmp_path / "out")])
    err = capsys.readouterr().err
    assert code != 0 and err.count("\n") == 1 and all(w in err for w in words), err


def test_a_bad_row_can_be_dropped_and_is_listed(capsys, tiny_model, tmp_path):
    file = tmp_path / "data.jsonl"
    file.write_text(lines([good_row()] * 6 + ["{oops"] + [good_row("ok")] * 2))
    argv = ["--dataset", str(file), "--on_bad_row", "drop", "--max_steps", "1", "--run_name", "r", "--sft_type", "full"]
    code, err = sft(capsys, tiny_model, tmp_path, *argv)
    assert code == 0, err
    source = json.loads((tmp_path / "out" / "tiny-llama" / "r" / "data.json").read_text())["sources"][0]
    assert (source["rows"], source["kept"]) == (9, 8)
    examples = [e for d in source["dropped"].values() for e in d["examples"]]
    assert [e["line"] for e in examples] == [7]


@pytest.fixture
def settings(tiny_model, tiny_data, tmp_path) -> dict:
    return {
        "model": str(tiny_model),
        "dataset": [str(tiny_data)],
        "output_dir": str(tmp_path),
        "run_name": "r",
        "sft_type": "full",
        "max_length": 64,
        "batch_size": 4,
        "gradient_accumulation_steps": 1,
        "num_train_epochs": 2,
        "save_steps": 4,
    }


def test_a_full_disk_on_save_keeps_the_earlier_checkpoint(settings, tmp_path):
    ended = run_sft_in_child(settings, Mishap(disk_full_at=6))
    run = tmp_path / "tiny-llama" / "r"
    assert ended.code == 1
    assert "could not save" in ended.output and "checkpoint-4 is untouched" in ended.output, ended.output
    assert "Traceback" not in ended.output
    assert not list(run.glob(".*partial"))
    resumed = run_sft_in_child(settings | {"resume": str(run)})
    assert resumed.code == 0 and "going on after step 4" in resumed.output, resumed.output


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_stops_at_the_next_step(settings, tmp_path, number, code):
    ended = run_sft_in_child(settings, Mishap(signal_at=6, signal_number=number))
    assert ended.code == code, ended.output
    assert (tmp_path / "tiny-llama" / "r" / "checkpoint-6" / "optimizer.pt").is_file()
    assert "--resume" in ended.output


def test_steps_without_finite_gradients_are_counted_and_stop_the_run(settings):
    ended = run_sft_in_child(settings | {"learning_rate": 1e30, "max_grad_norm": 0, "max_bad_steps": 3})
    assert ended.code == 1
    assert "3 steps in a row" in ended.output and "--learning_rate" in ended.output, ended.output


def test_a_taken_run_name_is_refused(capsys, tiny_model, tiny_data, tmp_path):
    (tmp_path / "out" / "tiny-llama" / "r").mkdir(parents=True)
    code, err = sft(capsys, tiny_model, tmp_path, "--dataset", str(tiny_data), "--run_name", "r")
    assert code == 1 and "exists" in err and "--resume" in err
