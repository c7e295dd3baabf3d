"""Every row of the table: the loss of nano falls on real data, and exactly the parameters it names change."""

import pytest
import torch

from tests.tuners.table import ROWS, train


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_loss_falls_and_exactly_the_claimed_parameters_change(row, tmp_path):
    trained = train(row, tmp_path)
    assert trained.losses[-1] < row.falls * trained.losses[0], trained.losses
    claimed = {name for name in trained.before if row.changes(name)}
    changed = {name for name, value in trained.after.items() if not torch.equal(value, trained.before[name])}
    assert claimed and changed == claimed
