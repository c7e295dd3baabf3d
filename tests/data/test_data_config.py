"""DataConfig refuses impossible values and names the flag."""

import subprocess
import sys
from pathlib import Path

import pytest

from swiftlite.config.errors import UsageError
from swiftlite.config.options import options_of
from swiftlite.data.config import DataConfig


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dataset", ["demo", " "]),
        ("val_dataset", [""]),
        ("split_dataset_ratio", 1.0),
        ("split_dataset_ratio", -0.1),
        ("split_dataset_ratio", float("nan")),
        ("max_length", 1),
        ("train_dataset_sample", 0),
        ("val_dataset_sample", -2),
        ("data_seed", -1),
        ("cache_size_gb", 0),
        ("pad_to_multiple_of", 0),
        ("columns", {"question": 3}),
        ("train_dataset_mix_ratio", -1.0),
        ("train_dataset_mix_ratio", float("inf")),
        ("train_dataset_mix_ds", [" "]),
        ("shuffle_buffer", -1),
        ("columns", {"question": ""}),
    ],
)
def test_impossible_value_names_its_flag(field, value):
    with pytest.raises(UsageError, match=f"--{field}"):
        DataConfig(**{field: value}).check()


def test_mixing_needs_something_to_mix():
    with pytest.raises(UsageError, match="--train_dataset_mix_ds is empty"):
        DataConfig(train_dataset_mix_ratio=1.0, train_dataset_mix_ds=[]).check()


def test_defaults_are_possible():
    DataConfig().check()


def test_every_field_is_an_option_with_help():
    assert all(option.help for option in options_of("data", DataConfig))


def test_columns_are_read_from_json():
    columns = next(option for option in options_of("data", DataConfig) if option.name == "columns")
    assert columns.read('{"question": "query"}') == {"question": "query"}


def test_only_collating_needs_torch():
    """The command line reads these for its flags and names, and must stay quick."""
    folder = Path(__file__).resolve().parents[2] / "swiftlite" / "data"
    modules = sorted(path.stem for path in folder.glob("*.py") if path.stem not in ("__init__", "collate"))
    code = f"""
import importlib, sys
for name in {modules}: importlib.import_module("swiftlite.data." + name)
print([m for m in ("torch", "transformers", "datasets", "pyarrow", "jinja2") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
