"""Where the real data sets lie when they are at hand; tests that read them skip with a reason when not."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"

needs_shared = pytest.mark.skipif(
    not (SHARED / "data").is_dir(), reason="the real data sets are not beside this checkout (../shared/data)"
)
