"""Log lines that are written a step later, as on a GPU, say what those written at once say."""

import pytest

from swiftlite.config.errors import UserError
from swiftlite.speed.loss import LossModule
from swiftlite.train import job
from swiftlite.train.config import SftConfig
from swiftlite.train.loop import Loop
from swiftlite.train.reporting import read_log
from swiftlite.train.sft import run_sft


class LateLoop(Loop):
    def __init__(self, job):
        super().__init__(job)
        self.logs_late = True


@pytest.fixture
def run(tiny_model, tiny_data, tmp_path, monkeypatch):
    def start(loop, **more):
        monkeypatch.setattr(job, "Loop", loop)
        given = {
            "model": str(tiny_model),
            "dataset": str(tiny_data),
            "output_dir": str(tmp_path),
            "sft_type": "full",
            "max_length": 64,
            "batch_size": 4,
            "gradient_accumulation_steps": 1,
            "split_dataset_ratio": 0.1,
            "logging_steps": 2,
            "max_steps": 11,
            "eval_steps": 6,
            "save_steps": 3,
            "save_total_limit": 9,
            "gradient_checkpointing": False,
        }
        return run_sft(SftConfig(**(given | more))).run

    return start


def numbers(run):
    measured = ("seconds", "per_s", "padding_share", "gib", "eval_seconds")
    return [{k: v for k, v in r.items() if not any(m in k for m in measured)} for r in read_log(run / "log.jsonl")]


def test_the_lines_and_their_order_are_the_same(run):
    late = run(LateLoop)
    assert numbers(late) == numbers(run(Loop))
    assert [r["step"] for r in numbers(late)] == [1, 2, 4, 6, 6, 8, 10, 11, 11]


# 3 lies between two log lines; 6 is one, with an evaluation.
@pytest.mark.parametrize("checkpoint", [3, 6])
def test_a_run_resumes_with_the_same_lines(run, checkpoint):
    straight = run(LateLoop)
    before = numbers(straight)
    run(LateLoop, resume=str(straight / f"checkpoint-{checkpoint}"))
    assert numbers(straight) == before


def test_bad_steps_stop_the_run_at_the_next_line(run, monkeypatch):
    monkeypatch.setattr(LossModule, "forward", lambda self, *a, **k: self.model.lm_head.weight.sum() * float("nan"))
    with pytest.raises(UserError, match="3 steps in a row"):
        run(LateLoop, eval_strategy="no", save_strategy="no", max_bad_steps=3)
