"""`swiftlite eval` as a user meets it: scores of real models, eval.json, the table, refusals."""

import io
import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from swiftlite import __version__
from swiftlite.cli import main
from swiftlite.config.errors import UserError
from swiftlite.evaluate import reporting, run
from swiftlite.evaluate.config import EvalConfig
from swiftlite.evaluate.run import run_eval
from swiftlite.infer.config import InferConfig
from swiftlite.infer.engine import Engine
from tests.evaluate.conftest import RoteEngine, pairs
from tests.infer.conftest import SYSTEM

QUESTIONS = ["Why?", "Name three rivers that flow north, please.", "1 + 1 = ?", "Who are you, and who made you?"]
NEW_TOKENS = 6


def generated(model, tokenizer, messages: list[dict]) -> str:
    """The greedy answer to one conversation by transformers alone, without batch or padding."""
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    output = model.generate(**prompt, max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=stop, pad_token_id=stop)
    return tokenizer.decode(output[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)


def nano():
    """A copy of its own, which a test may wrap."""
    engine = Engine.load(InferConfig(model="nano", device="cpu"))
    return engine.model, engine.tokenizer


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def rote(monkeypatch) -> RoteEngine:
    """The command loads this in place of a model."""
    engine = RoteEngine({"Why?": "because", "Who?": "Nobody"}, cut=("Who?",))
    monkeypatch.setattr(Engine, "load", lambda config: engine)
    return engine


def config(**settings) -> EvalConfig:
    return EvalConfig(**{"model": "nano", "eval_dataset": "q.jsonl"} | settings)


def test_the_command_counts_what_transformers_answers(write, capsys):
    model, tokenizer = nano()
    answers = [generated(model, tokenizer, [{"role": "user", "content": q}]) for q in QUESTIONS]
    known = [answer if at % 2 else f"not {answer}" for at, answer in enumerate(answers)]
    write("q.jsonl", pairs(dict(zip(QUESTIONS, known))))
    right = [a.strip().rstrip(".").lower() == k.strip().rstrip(".").lower() for a, k in zip(answers, known)]
    assert right == [False, True, False, True]
    argv = ["eval", "--model", "nano", "--device", "cpu", "--eval_dataset", "q.jsonl"]
    assert main([*argv, "--max_new_tokens", str(NEW_TOKENS), "--eval_batch_size", "3"]) == 0
    record = read(Path("eval.json"))
    assert [sample["answer"] for sample in record["samples"]["q.jsonl"]] == answers
    assert [sample["right"] for sample in record["samples"]["q.jsonl"]] == right
    assert record["results"]["q.jsonl"]["accuracy"] == 0.5
    captured = capsys.readouterr()
    heading, row = [line.split() for line in captured.out.splitlines()]
    assert heading == ["data", "set", "right", "rows", "accuracy", "+/-", "tokens", "tokens/s", "cut"]
    assert row[:5] == ["q.jsonl", "2", "4", "50.0%", "25.0%"]
    assert ": fp32 on CPU" in captured.err and "greedy, at most 6 tokens" in captured.err


def test_a_lora_checkpoint_is_asked_with_its_adapter_and_system_prompt(write, adapter, tmp_path):
    shutil.copytree(adapter.parent, tmp_path / "v0")
    model, tokenizer = nano()
    tuned = PeftModel.from_pretrained(model, adapter).eval()
    system = {"role": "system", "content": SYSTEM}
    answers = {q: generated(tuned, tokenizer, [system, {"role": "user", "content": q}]) for q in QUESTIONS}
    write("q.jsonl", pairs(answers))
    settings = {"device": "cpu", "max_new_tokens": NEW_TOKENS}
    for checkpoint, name in (("v0", "eval.json"), ("v0/checkpoint-3", "eval-2.json")):
        result = run_eval(EvalConfig(ckpt_dir=checkpoint, eval_dataset="q.jsonl", **settings))
        assert result.scores["q.jsonl"].accuracy == 1.0
        assert result.result_path == Path("v0", name)
        assert read(result.result_path)["model"]["weights"] == str(Path("v0", "checkpoint-3"))
    assert run_eval(config(**settings)).scores["q.jsonl"].right < len(QUESTIONS)


def test_the_result_says_what_was_asked_of_what(write, rote):
    write("q.jsonl", [{"query": "Why?", "response": "Because.", "kind": "reason"}, {"query": "Who?", "response": "Me"}])
    result = run_eval(config(eval_batch_size=5))
    record = read(result.result_path)
    found = record["results"]["q.jsonl"]
    counts = {"rows": 2, "right": 1, "accuracy": 0.5, "stderr": (0.25 / 2) ** 0.5}
    assert {key: found[key] for key in counts} == counts
    assert found["kinds"] == {"reason": {"rows": 1, "right": 1, "accuracy": 1.0, "stderr": 0.0}}
    assert (found["generated_tokens"], found["cut"], found["metric"]) == (4, 1, "exact_match")
    assert record["model"]["description"] == "rote"
    assert record["settings"]["eval_batch_size"] == 5
    packages = record["environment"]["packages"]
    assert record["environment"]["swiftlite"] == __version__ and packages["torch"] == torch.__version__
    assert record["samples"]["q.jsonl"] == [
        {
            "origin": "q.jsonl, line 1",
            "kind": "reason",
            "prompt": [{"role": "user", "content": "Why?"}],
            "answer": "because",
            "reference": "Because.",
            "right": True,
            "tokens": 2,
            "finish": "stop",
        },
        {
            "origin": "q.jsonl, line 2",
            "prompt": [{"role": "user", "content": "Who?"}],
            "answer": "Nobody",
            "reference": "Me",
            "right": False,
            "tokens": 2,
            "finish": "length",
        },
    ]


def test_the_fingerprint_is_in_the_result(write, rote):
    import hashlib

    path = write("q.jsonl", pairs({"Why?": "Because."}))
    found = read(run_eval(config()).result_path)["results"]["q.jsonl"]
    assert found["files"] == [{"file": "q.jsonl", "fingerprint": hashlib.sha256(path.read_bytes()).hexdigest()}]
    assert len(found["fingerprint"]) == 64


def test_samples_can_be_left_out(write, rote):
    write("q.jsonl", pairs({"Why?": "Because."}))
    assert "samples" not in read(run_eval(config(save_samples=False)).result_path)


def test_each_data_set_has_its_score_and_its_line(write, rote, capsys):
    write("q.jsonl", [{"query": "Why?", "response": "Because.", "kind": "reason"}])
    write("r.jsonl", pairs({"Who?": "Me"}))
    result = run_eval(config(eval_dataset=["q.jsonl", "r.jsonl"]))
    assert {name: score.accuracy for name, score in result.scores.items()} == {"q.jsonl": 1.0, "r.jsonl": 0.0}
    rows = [line.split()[:4] for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [["q.jsonl", "1", "1", "100.0%"], ["reason", "1", "1", "100.0%"], ["r.jsonl", "0", "1", "0.0%"]]


def test_a_long_name_is_printed_whole_in_a_pipe(write, rote, capsys):
    name = "long-" * 30 + ".jsonl"
    write(name, pairs({"Why?": "Because."}))
    run_eval(config(eval_dataset=[name]))
    assert capsys.readouterr().out.splitlines()[1].split()[0] == name


def test_a_terminal_gets_lines_and_a_bar(write, rote, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out, err = Terminal(), Terminal()
    monkeypatch.setattr(reporting.sys, "stdout", out)
    monkeypatch.setattr(reporting.sys, "stderr", err)
    write("q.jsonl", pairs({"Why?": "Because."}))
    run_eval(config())
    assert "──" in out.getvalue() and "q.jsonl 1/1" in err.getvalue()


def test_results_are_numbered_and_never_overwritten(write, rote, tmp_path):
    write("q.jsonl", pairs({"Why?": "Because."}))
    paths = [run_eval(config()).result_path for _ in range(3)]
    assert paths == [Path("eval.json"), Path("eval-2.json"), Path("eval-3.json")]
    (tmp_path / "mine.json").write_text("mine")
    with pytest.raises(UserError, match=r"--result_path mine\.json exists and is not overwritten"):
        run_eval(config(result_path="mine.json"))
    assert (tmp_path / "mine.json").read_text() == "mine"


def test_an_adapter_of_a_run_takes_the_result_to_its_run(write, rote, adapter, tmp_path):
    shutil.copytree(adapter.parent, tmp_path / "v0")
    write("q.jsonl", pairs({"Why?": "Because."}))
    assert run_eval(config(adapters=["v0/checkpoint-3"])).result_path == Path("v0/eval.json")


def test_an_interrupted_eval_leaves_no_result(write, rote, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    rote.generate = interrupted
    write("q.jsonl", pairs({"Why?": "Because."}))
    with pytest.raises(KeyboardInterrupt):
        run_eval(config())
    assert not (tmp_path / "eval.json").exists()


def test_a_full_disk_does_not_take_the_table(write, rote, monkeypatch, tmp_path, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run.json, "dump", full)
    write("q.jsonl", pairs({"Why?": "Because."}))
    with pytest.raises(OSError, match="No space left"):
        run_eval(config())
    assert "100.0%" in capsys.readouterr().out and not (tmp_path / "eval.json").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eval_dataset": []}, "no questions given: pass --eval_dataset"),
        ({"eval_dataset": [" "]}, "--eval_dataset: an empty name"),
        ({"eval_dataset": ["a", "b", "a"]}, "--eval_dataset: a is named twice"),
        ({"eval_limit": 0}, "--eval_limit: 0 must be 1 or more"),
        ({"eval_batch_size": 0}, "--eval_batch_size: 0"),
        ({"max_new_tokens": 0}, "--max_new_tokens: 0"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(UserError) as error:
        config(**settings)
    assert str(error.value).startswith(message)


def test_bad_input_is_one_line_on_the_command_line(write, capsys):
    write("q.jsonl", [{"query": "Why?"}])
    assert main(["eval", "--model", "nano", "--eval_dataset", "q.jsonl"]) == 1
    captured = capsys.readouterr()
    assert not captured.out and captured.err.count("\n") == 1 and not Path("eval.json").exists()
