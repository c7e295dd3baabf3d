"""The comparison of losses in bf16 and in fp8 counts what it should, and says which arm failed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "benchmark"))

from fp8_curve import table

PLAIN = {"steps": [1, 10], "losses": [2.0, 1.0], "eval": [1.5]}


def test_each_line_has_the_deviation_from_bf16_and_the_summary_counts_those_above_the_aim():
    lines = table({"bf16": PLAIN, "fp8": {"steps": [1, 10], "losses": [2.02, 0.998], "eval": [1.53]}}).splitlines()
    assert "| 1 | 2.0000 | 2.0200 | +1.00% |" in lines
    assert "| 10 | 1.0000 | 0.9980 | -0.20% |" in lines
    assert "| fp8 | 2 | +0.40% | 0.60% | 1.00% | 1 | 1.5300 (+2.00%) | - |" in lines


def test_an_arm_that_stopped_early_is_compared_as_far_as_it_came():
    lines = table({"bf16": PLAIN, "fp8": {"steps": [1], "losses": [2.0], "eval": []}}).splitlines()
    assert "| 10 | 1.0000 | | |" in lines
    assert "| fp8 | 1 | +0.00% | 0.00% | 0.00% | 0 | - | - |" in lines


def test_an_arm_without_losses_is_named_with_its_last_line():
    assert "| fp8 | no such device |" in table({"bf16": PLAIN, "fp8": {"error": "no such device"}})
