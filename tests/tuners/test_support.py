"""The support matrix is true: what it says works trains as without it, what it refuses is refused in one sentence."""

import importlib.util

import pytest
from safetensors.torch import load_file

from swiftlite.config.errors import UserError
from swiftlite.parallel.launch import World
from swiftlite.train.config import SftConfig
from swiftlite.train.decide import decide
from swiftlite.tuners.registry import refusal_of, tuner_entries
from swiftlite.tuners.support import FEATURES
from tests.children import run_sft_in_ranks
from tests.tuners.table import ROWS, Row, settings, train


def refusal(row: Row, feature: str):
    config = SftConfig(**settings(row))
    return refusal_of(config.tuner.sft_type, feature, config.to_dict())


CELLS = [(row, feature) for row in ROWS for feature in FEATURES]
REFUSED = [cell for cell in CELLS if refusal(*cell)]
WORKING = [cell for cell in CELLS if not refusal(*cell)]


def named(cell) -> str:
    return f"{cell[0].name}-{cell[1]}"


def test_every_tuner_has_a_row():
    assert {SftConfig(**settings(row)).tuner.sft_type for row in ROWS} == {entry.name for entry in tuner_entries()}


@pytest.mark.parametrize("cell", REFUSED, ids=named)
def test_what_is_refused_is_said_before_anything_is_loaded(cell):
    row, feature = cell
    flags = FEATURES[feature][1]
    with pytest.raises(UserError) as caught:
        decide(SftConfig(**(settings(row) | flags)), World(size=2 if feature == "ddp" else 1))
    assert str(caught.value) == refusal(row, feature).sentence()
    assert all(f"--{flag}" in str(caught.value) for flag in flags)


# fp8 rounds the base: losses of another model, near it. The other features compute the same.
TOLERANCE = {"fp8": 0.2, "bnb": 0.2}


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """Losses of a row's first steps without any feature; each trained once."""
    losses: dict[str, list[float]] = {}

    def of(row: Row) -> list[float]:
        if row.name not in losses:
            losses[row.name] = train(row, tmp_path_factory.mktemp("plain"), **SHORT).losses
        return losses[row.name]

    return of


# With packing all 16 rows fill one bin, whose loss a token is that of the rows.
SHORT = {"max_steps": 3, "max_length": 640}


# The first row of each tuner; others are variants of it.
FIRST = {SftConfig(**settings(row)).tuner.sft_type: row.name for row in reversed(ROWS)}.values()


def marked(cell):
    """Compiling takes most of a minute on a CPU, and all variants together take minutes."""
    slow = cell[1] == "compile" or cell[0].name not in FIRST
    return pytest.param(cell, marks=pytest.mark.slow if slow else (), id=named(cell))


@pytest.mark.parametrize("cell", [marked(c) for c in WORKING if c[1] != "ddp"])
def test_what_works_computes_what_it_does_without(cell, plain, tmp_path):
    row, feature = cell
    if feature == "bnb" and importlib.util.find_spec("bitsandbytes") is None:
        pytest.skip("bitsandbytes is not installed (swiftlite[quant])")
    more = {"batch_size": 1} if feature == "packing" else {}
    losses = train(row, tmp_path, **SHORT, **FEATURES[feature][1], **more).losses
    assert losses == pytest.approx(plain(row), rel=TOLERANCE.get(feature, 1e-4))


@pytest.mark.parametrize("cell", [marked(c) for c in WORKING if c[1] == "ddp"])
def test_two_processes_end_with_the_weights_of_one(cell, tmp_path):
    row = cell[0]
    one = train(row, tmp_path / "1", **SHORT).run / "final"
    flags = settings(row) | SHORT | {"output_dir": str(tmp_path / "2"), "batch_size": 8}
    ended = run_sft_in_ranks(flags, ranks=2)
    assert [e.code for e in ended] == [0, 0], ended
    two = tmp_path / "2" / "nano" / "r" / "final"
    expected, found = (load_file(next(folder.glob("*.safetensors"))) for folder in (one, two))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        # Adam's first steps hang on the sign of gradients that are next to nothing, Q-GaLore's on 8-bit codes too.
        allowed = 1e-2 if row.name == "q-galore" else 1e-3
        assert (found[name] - value).norm() <= allowed * value.norm(), name
