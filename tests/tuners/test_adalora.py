"""AdaLoRA's schedule: the budget of ranks falls as the paper says, and a resumed run goes on exactly."""

import pytest
import torch

from swiftlite.config.errors import UserError
from swiftlite.train.config import SftConfig
from swiftlite.train.reporting import read_log
from swiftlite.train.sft import run_sft
from swiftlite.tuners.registry import make_tuner
from tests.tuners.table import ROWS, settings, train

ROW = next(row for row in ROWS if row.name == "adalora")


def kept(weights: dict[str, torch.Tensor]) -> int:
    return sum(int((value != 0).sum()) for name, value in weights.items() if "lora_E" in name)


def test_at_the_end_the_ranks_are_the_target_on_average_and_ranknum_stays(tmp_path):
    trained = train(ROW, tmp_path, adalora_target_r=8)
    layers = sum("lora_E" in name for name in trained.after)
    assert layers == 42 and kept(trained.after) == layers * 8
    for name, value in trained.after.items():
        if "ranknum" in name:
            assert value.item() == 12


def test_the_penalty_has_the_formula_of_the_paper(tmp_path):
    trained = train(ROW, tmp_path, max_steps=2, adalora_orth_reg_weight=0.5)
    tuner = make_tuner("adalora", SftConfig(**settings(ROW)))
    norms = []
    for name, value in trained.after.items():
        if "lora_A" in name:
            norms.append((value @ value.T - torch.eye(12)).square().sum().sqrt())
        if "lora_B" in name:
            norms.append((value.T @ value - torch.eye(12)).square().sum().sqrt())
    assert tuner.penalty(trained.model).item() == pytest.approx(0.5 * sum(norms).item() / len(norms), rel=1e-5)


def test_a_resumed_run_ends_with_the_weights_of_one_that_was_not_stopped(tmp_path):
    more = {"save_strategy": "steps", "save_steps": 3, "save_total_limit": None, "adalora_tfinal": 2}
    whole = train(ROW, tmp_path / "a", **more)
    resumed = run_sft(SftConfig(resume=str(whole.run / "checkpoint-3"))).run
    assert read_log(resumed / "log.jsonl")[-1]["loss"] == whole.losses[-1]


def test_a_schedule_longer_than_the_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="--adalora_tinit 8 --adalora_tfinal 0: nothing of the run's 8 steps"):
        train(ROW, tmp_path, adalora_tinit=8)


def test_a_target_that_is_no_less_than_the_start_is_refused():
    with pytest.raises(UserError, match="expected 1 <= target_r < init_r"):
        SftConfig(**(settings(ROW) | {"adalora_target_r": 12}))
