"""`--profile` looks at the steps it should, leaves the run as it is, and says what it cannot do."""

import pytest

from swiftlite.config.errors import UserError
from swiftlite.train.config import SftConfig
from swiftlite.train.profiling import steps_before_profile
from swiftlite.train.reporting import read_log
from swiftlite.train.sft import run_sft
from swiftlite.train.state import TrainState


@pytest.fixture
def run(tiny_model, tiny_data, tmp_path):
    def start(**more):
        given = {
            "model": str(tiny_model),
            "dataset": str(tiny_data),
            "output_dir": str(tmp_path),
            "sft_type": "full",
            "max_length": 64,
            "batch_size": 4,
            "gradient_accumulation_steps": 1,
            "split_dataset_ratio": 0,
            "logging_steps": 1,
            "max_steps": 9,
            "save_strategy": "no",
            "gradient_checkpointing": False,
        }
        return run_sft(SftConfig(**(given | more)))

    return start


def test_a_profiled_run_learns_the_same_and_leaves_those_steps_out_of_its_rates(run, capsys):
    plain = read_log(run().run / "log.jsonl")
    result = run(profile=2)
    profiled = read_log(result.run / "log.jsonl")
    assert [r["loss"] for r in profiled] == [r["loss"] for r in plain]
    # The window is steps 6 and 7; the profiler starts a step before it.
    assert [r["step"] for r in profiled if "tokens_per_s" not in r] == [5, 6, 7]
    assert (result.run / "profile" / "trace.json.gz").is_file()
    assert "profile: CPU busy" in capsys.readouterr().out
    summary = (result.run / "profile" / "summary.txt").read_text()
    assert "over 2 steps" in summary and "aten::" in summary


@pytest.mark.parametrize(("wanted", "total", "before"), [(10, 100, 5), (4, 9, 5), (4, 8, 3), (4, 7, 3)])
def test_the_steps_before_are_five_or_in_a_short_run_three(wanted, total, before):
    assert steps_before_profile(wanted, TrainState(), total) == before


def test_a_run_that_is_too_short_is_told_how_long_it_would_have_to_be():
    with pytest.raises(UserError, match=r"--profile 10: 3 steps .* 12 in all; .* give it 13"):
        steps_before_profile(10, TrainState(), 12)


def test_a_resumed_run_near_its_end_goes_on_without():
    assert steps_before_profile(10, TrainState(step=90), 100) is None
