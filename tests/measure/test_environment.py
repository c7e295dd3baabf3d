"""The environment stamp is plain JSON, quick, true, and shows no secret."""

import importlib.metadata
import json
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest

from swiftlite.measure.environment import environment_stamp, hide_secrets


def test_stamp_is_json():
    stamp = environment_stamp()
    assert json.loads(json.dumps(stamp)) == stamp


def test_stamp_names_the_installed_versions():
    versions = environment_stamp()["packages"]
    assert versions["torch"] == importlib.metadata.version("torch")
    assert versions["transformers"] == importlib.metadata.version("transformers")


def test_stamp_is_quick():
    start = time.perf_counter()
    environment_stamp()
    assert time.perf_counter() - start < 2


def test_stamp_has_the_present_time_with_its_zone():
    written = datetime.fromisoformat(environment_stamp()["time"])
    assert abs((datetime.now(UTC) - written).total_seconds()) < 60


def test_stamp_does_not_import_torch():
    code = "import sys; from swiftlite.measure.environment import environment_stamp as stamp; stamp()"
    code += "; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("argv", "shown"),
    [
        (["sft", "--hub_token", "hf_abc", "--lr", "1"], ["sft", "--hub_token", "***", "--lr", "1"]),
        (["--hub-token=hf_abc"], ["--hub-token=***"]),
        (["--api_key", "--lr", "1"], ["--api_key", "--lr", "1"]),
        (["--stop_token", "<|im_end|>"], ["--stop_token", "<|im_end|>"]),
    ],
)
def test_secrets_are_hidden(argv, shown):
    assert hide_secrets(argv) == shown
