"""Writes the generated pages of docs/: `python scripts/make_docs.py` (`--check` only says whether they are fresh)."""

import importlib
import sys
from pathlib import Path

from swiftlite.cli import COMMANDS
from swiftlite.config.help import flags_markdown

DOCS = Path(__file__).resolve().parents[1] / "docs"


def pages() -> dict[str, str]:
    """File name -> content of every generated page."""
    configs = {}
    for name, command in COMMANDS.items():
        module, cls = command.config.split(":")
        configs[name] = getattr(importlib.import_module(module), cls)
    return {"flags.md": flags_markdown(configs)}


def main() -> int:
    stale = []
    for name, content in pages().items():
        file = DOCS / name
        if not file.is_file() or file.read_text(encoding="utf-8") != content:
            stale.append(name)
            if "--check" not in sys.argv:
                file.write_text(content, encoding="utf-8")
    if stale and "--check" in sys.argv:
        print(f"stale: {', '.join(stale)}; run python scripts/make_docs.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
