"""What is found out before the first step."""

import collections
import shutil

import pytest
import torch
from torch import nn

from swiftlite.config.errors import UserError
from swiftlite.train.rehearsal import check_disk, checkpoint_bytes, rehearse_save


def test_a_checkpoint_holds_weights_and_two_moments_of_what_is_trained():
    model = nn.Sequential(nn.Linear(10, 20, bias=False), nn.Linear(20, 5, bias=False)).to(torch.bfloat16)
    model[0].requires_grad_(False)
    assert checkpoint_bytes(model, adapter=False, optimizer_bytes=0) == 2 * (200 + 100)
    assert checkpoint_bytes(model, adapter=False, optimizer_bytes=400) == 2 * (200 + 100) + 400
    assert checkpoint_bytes(model, adapter=True, optimizer_bytes=400) == 2 * 100 + 400


def test_the_disk_must_hold_the_kept_checkpoints_and_one_more(tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(0, 0, 300))
    check_disk(tmp_path, 100, 2)
    with pytest.raises(UserError, match="--save_total_limit 3"):
        check_disk(tmp_path, 100, 3)


def test_a_save_that_fails_stops_before_training_and_leaves_nothing(tmp_path):
    def broken(folder):
        (folder / "half").write_text("x")
        raise OSError("read-only")

    with pytest.raises(UserError, match="before any training"):
        rehearse_save(tmp_path, broken)
    assert list(tmp_path.iterdir()) == []
