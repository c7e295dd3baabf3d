"""`swiftlite infer` as a user meets it: files in and out, refusals, what goes to which stream."""

import io
import json
from pathlib import Path

import pytest

from swiftlite.cli import main
from swiftlite.config.errors import UsageError, UserError
from swiftlite.infer import batch
from swiftlite.infer.batch import answer_file, choose_result_path
from swiftlite.infer.config import InferConfig
from swiftlite.infer.prompts import read_prompts
from swiftlite.infer.run import run_infer
from swiftlite.infer.sampling import Sampling
from tests.infer.conftest import ask

ROWS = [
    {"query": "Why?", "response": "Because."},
    {"messages": [{"role": "user", "content": "Name three rivers that flow north, please."}]},
    {"instruction": "Add", "input": "1 2", "output": "3"},
]


@pytest.fixture
def asked(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return tmp_path / "in.jsonl"


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_file_of_prompts_becomes_a_file_of_answers(asked, engine, capsys):
    config = InferConfig(model="nano", device="cpu", infer_dataset=str(asked), max_new_tokens=6, infer_batch_size=2)
    result = run_infer(config)
    assert result.result_path == Path("infer-result-1.jsonl") and result.exit_code == 0
    found = lines(result.result_path)
    prompts = [ask("Why?"), ROWS[1]["messages"], ask("Add\n1 2")]
    assert [row["messages"] for row in found] == prompts
    assert [row["reference"] for row in found] == ["Because.", None, "3"]
    alone = [engine.generate([prompt], Sampling(max_new_tokens=6))[0] for prompt in prompts]
    assert [(row["response"], row["tokens"], row["finish"]) for row in found] == [
        (answer.text, answer.tokens, answer.stopped) for answer in alone
    ]
    assert result.answers == [answer.text for answer in alone]
    captured = capsys.readouterr()
    assert captured.out == "" and "3 of 3 rows answered in infer-result-1.jsonl: 18 tokens" in captured.err


def test_an_existing_result_is_not_overwritten(asked, tmp_path):
    taken = tmp_path / "out.jsonl"
    taken.write_text("mine\n")
    with pytest.raises(UserError, match=r"--result_path .*out\.jsonl exists and is not overwritten"):
        run_infer(InferConfig(model="nano", infer_dataset=str(asked), result_path=str(taken)))
    assert taken.read_text() == "mine\n"


def test_a_result_needs_its_folder(tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        choose_result_path(str(tmp_path / "no" / "out.jsonl"), "nano")


def test_results_lie_with_the_run_or_beside_a_lone_checkpoint(adapter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = adapter.parent
    assert choose_result_path(None, str(run)) == run / "infer-result-1.jsonl"
    assert choose_result_path(None, str(adapter)) == run / "infer-result-1.jsonl"
    lone = tmp_path / "moved"
    lone.mkdir()
    (lone / "swiftlite.json").write_text("{}")
    assert choose_result_path(None, str(lone)) == tmp_path / "infer-result-1.jsonl"
    (tmp_path / "infer-result-1.jsonl").touch()
    assert choose_result_path(None, "nano") == Path("infer-result-2.jsonl")
    assert choose_result_path(None, None) == Path("infer-result-2.jsonl")


def test_a_prompt_that_cannot_be_answered_stops_before_the_first_answer(asked, engine, tmp_path):
    prompts, _ = read_prompts([str(asked)], 0)
    engine.context = len(engine.encode(ask("Why?"))) + 4
    with pytest.raises(UserError, match=r"in\.jsonl, line 2: the prompt has \d+ tokens"):
        answer_file(engine, prompts, Sampling(), 8, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


def test_complete_rows_survive_an_interruption(asked, engine, tmp_path, capsys):
    generate, calls = engine.generate, []

    def once(*args):
        calls.append(args)
        if len(calls) > 1:
            raise KeyboardInterrupt
        return generate(*args)

    engine.generate = once
    prompts, _ = read_prompts([str(asked)], 0)
    with pytest.raises(KeyboardInterrupt):
        answer_file(engine, prompts, Sampling(max_new_tokens=2), 2, tmp_path / "out.jsonl")
    assert len(lines(tmp_path / "out.jsonl")) == 2
    assert "2 of 3 rows answered" in capsys.readouterr().err


def test_a_terminal_gets_a_progress_bar(asked, engine, tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(batch.sys, "stderr", terminal)
    prompts, _ = read_prompts([str(asked)], 0)
    answer_file(engine, prompts, Sampling(max_new_tokens=2), 2, tmp_path / "out.jsonl")
    assert "row 3/3" in terminal.getvalue()


@pytest.mark.parametrize("stream", ["true", "false"])
def test_a_query_prints_only_its_answer(engine, capsys, stream):
    argv = ["infer", "--model", "nano", "--device", "cpu", "--query", "Why?", "--max_new_tokens", "6"]
    assert main([*argv, "--stream", stream]) == 0
    captured = capsys.readouterr()
    assert captured.out == engine.generate([ask("Why?")], Sampling(max_new_tokens=6))[0].text + "\n"
    assert captured.err.startswith("nano: fp32 on CPU") and "greedy" in captured.err


def test_random_weights_are_named_in_the_header(capsys):
    argv = ["infer", "--model", "nano", "--weights", "dummy", "--device", "cpu", "--query", "Why?"]
    assert main([*argv, "--max_new_tokens", "2"]) == 0
    assert capsys.readouterr().err.startswith("nano with random weights: fp32 on CPU")


def test_a_chat_through_a_pipe(engine, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("Why?\n/clear\nWhy?\n/exit\n"))
    assert main(["infer", "--model", "nano", "--device", "cpu", "--max_new_tokens", "6"]) == 0
    answer = engine.generate([ask("Why?")], Sampling(max_new_tokens=6))[0].text
    assert capsys.readouterr().out == f"{answer}\n{answer}\n"


def test_the_seed_decides_what_is_drawn(asked):
    def drawn(seed: int, path: str) -> list[str] | None:
        settings = {"model": "nano", "device": "cpu", "temperature": 1.0, "max_new_tokens": 6, "seed": seed}
        return run_infer(InferConfig(**settings, infer_dataset=str(asked), result_path=path)).answers

    assert drawn(1, "a.jsonl") == drawn(1, "b.jsonl") != drawn(2, "c.jsonl")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"max_new_tokens": 0}, "--max_new_tokens: 0 must be 1 or more"),
        ({"infer_batch_size": 0}, "--infer_batch_size: 0"),
        ({"temperature": -1}, "--temperature: -1.0"),
        ({"top_p": 0}, "--top_p: 0.0"),
        ({"top_p": 1.1}, "--top_p: 1.1"),
        ({"top_k": -1}, "--top_k: -1"),
        ({"repetition_penalty": 0}, "--repetition_penalty: 0.0"),
        ({"stop": [""]}, "--stop has an empty text"),
        ({"query": "a", "infer_dataset": "b"}, "--query and --infer_dataset"),
        ({"query": " "}, "--query is empty"),
        ({"result_path": "out.jsonl"}, "--result_path is for the answers to a file"),
    ],
)
def test_impossible_settings_are_refused(flags, message):
    with pytest.raises(UserError) as error:
        InferConfig(model="nano", **flags)
    assert str(error.value).startswith(message)


def test_another_backend_is_unknown():
    with pytest.raises(UsageError, match="--infer_backend: 'vllm' is not one of transformers"):
        InferConfig(model="nano", infer_backend="vllm")


def test_old_spellings_mean_the_same():
    config = InferConfig(ckpt_dir="nano", infer_backend="pt", do_sample="false", preset="seed")
    assert (config.model.model, config.infer.infer_backend) == ("nano", "transformers")
    assert (config.infer.temperature, config.infer.top_k, config.infer.max_new_tokens) == (0.0, 20, 2048)


@pytest.mark.parametrize(
    ("sampling", "words"),
    [
        (Sampling(), "greedy, at most 512 tokens"),
        (Sampling(temperature=0.3, top_p=0.7, top_k=20), "temperature 0.3, top_p 0.7, top_k 20, at most 512 tokens"),
        (Sampling(top_k=20), "greedy (top_p and top_k have no effect at temperature 0), at most 512 tokens"),
    ],
)
def test_the_header_says_how_tokens_are_drawn(sampling, words):
    assert sampling.describe() == words
