"""`swiftlite check` says what a run would do, refuses what the run would refuse, and makes nothing."""

import pytest

from swiftlite.cli import main
from swiftlite.config.errors import UserError
from swiftlite.train.check import run_check
from swiftlite.train.config import CheckConfig


def test_the_report_counts_parameters_of_a_7b_without_its_weights(tiny_data):
    config = CheckConfig(model_type="qwen1half-7b-chat", weights="dummy", dataset=str(tiny_data), lora_rank=8)
    text = "\n".join(run_check(config).lines)
    # 19,988,480 = 32 * 8 * (4 * 8192 + 3 * 15104); the total includes the adapter.
    assert "7741.3130M Params (19.9885M Trainable [0.2582%])" in text
    assert "40 rows read, 40 kept, 0 truncated" in text


def test_statistics_stand_in_the_seeds_wording(tiny_model, tiny_data):
    report = run_check(CheckConfig(model=str(tiny_model), dataset=str(tiny_data)))
    line = report.data["sources"][0]["line"]
    assert line in "\n".join(report.lines)
    mean, rest = line.split("±")
    std, low, high = rest.split(", ")
    assert float(mean) > 0 and float(std) >= 0 and low.startswith("min=") and high.startswith("max=")


def test_it_leaves_nothing_behind(tiny_model, tiny_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run_check(CheckConfig(model=str(tiny_model), dataset=str(tiny_data)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lora_target_modules": "q_porj"}, "did you mean q_proj"),
        ({"max_length": 3}, "max_length"),
        ({"global_batch_size": 7, "batch_size": 2}, "a multiple of 2"),
        ({"global_batch_size": 8, "gradient_accumulation_steps": 3}, "disagree"),
    ],
)
def test_what_would_stop_the_run_stops_the_check(tiny_model, tiny_data, settings, words):
    with pytest.raises(UserError, match=words):
        run_check(CheckConfig(model=str(tiny_model), dataset=str(tiny_data), **settings))


def test_the_command_prints_one_example_with_ids(tiny_model, tiny_data, capsys):
    assert main(["check", "--model", str(tiny_model), "--dataset", str(tiny_data)]) == 0
    out = capsys.readouterr().out
    assert "ids: " in out and "⟦" in out and "ready" in out
