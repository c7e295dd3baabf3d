"""Trackers never ask for a login, and their failure never stops a run."""

import sys
import types

import pytest

from swiftlite.config.errors import UserError
from swiftlite.train.trackers import GuardedTracker

RECORD = {"step": 5, "loss": 1.5, "learning_rate": 0.1}


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in package that records what it is asked for."""
    module = types.ModuleType("wandb")
    module.calls, module.logged = [], []

    class Run:
        def log(self, numbers, step):
            if module.fails:
                raise ConnectionError("no route")
            module.logged.append((numbers, step))

        def finish(self):
            pass

    def init(**settings):
        module.calls.append(settings)
        return Run()

    module.init, module.fails = init, False
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    return module


def test_without_a_key_wandb_records_offline(wandb, tmp_path):
    GuardedTracker("wandb", tmp_path, 0, print).log(RECORD)
    assert wandb.calls[0]["mode"] == "offline"
    assert wandb.logged == [({"train/loss": 1.5, "train/learning_rate": 0.1}, 5)]


def test_with_a_key_wandb_goes_online(wandb, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "x")
    GuardedTracker("wandb", tmp_path, 0, print)
    assert wandb.calls[0]["mode"] == "online"


def test_a_failing_tracker_is_said_once_and_left_out(wandb, tmp_path):
    said: list[str] = []
    tracker = GuardedTracker("wandb", tmp_path, 0, said.append)
    wandb.fails = True
    tracker.log(RECORD)
    tracker.log(RECORD)
    tracker.close()
    assert len(said) == 1 and "no route" in said[0]


def test_a_tracker_that_is_not_installed_is_refused_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "swanlab", None)
    with pytest.raises(UserError, match="pip install swanlab"):
        GuardedTracker("swanlab", tmp_path, 0, print)
