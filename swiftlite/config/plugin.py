"""`--plugin FILE.py`: runs a user's own file, which registers models, templates, datasets or tuners."""

import importlib.util
from pathlib import Path

from swiftlite.config.errors import UserError

_loaded: set[Path] = set()


def load_plugins(paths: list[str]) -> None:
    """Imports each file once a process, in order.

    Raises:
        UserError: a file is missing or is no Python file. An error inside it is the user's to see whole.
    """
    for path in paths:
        file = Path(path).expanduser()
        if not file.is_file() or file.suffix != ".py":
            raise UserError(f"--plugin {path}: expected the path of a Python file that registers something")
        if file.resolve() in _loaded:
            continue
        _loaded.add(file.resolve())
        spec = importlib.util.spec_from_file_location(f"swiftlite_plugin_{file.stem}", file)
        assert spec is not None and spec.loader is not None
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
