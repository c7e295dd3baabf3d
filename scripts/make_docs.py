"""Writes the generated pages of docs/: `python scripts/make_docs.py` (`--check` only says whether they are fresh)."""

import importlib
import json
import sys
from pathlib import Path

from swiftlite.cli import COMMANDS
from swiftlite.config.help import flags_markdown
from swiftlite.config.options import options_of
from swiftlite.models.registry import find_model, model_names
from swiftlite.tuners.registry import tuner_entries
from swiftlite.tuners.support import FEATURES, Refusal

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


def pages() -> dict[str, str]:
    """File name -> content of every generated page."""
    configs = {}
    for name, command in COMMANDS.items():
        module, cls = command.config.split(":")
        configs[name] = getattr(importlib.import_module(module), cls)
    models = (DOCS / "models.md").read_text(encoding="utf-8")
    models = between("models", between("templates", models, templates_table()), models_table())
    tuners = (DOCS / "tuners.md").read_text(encoding="utf-8")
    tuners = between("support", between("tuner-flags", tuners, tuner_flags_table()), support_table())
    return {"flags.md": flags_markdown(configs), "models.md": models, "tuners.md": tuners}


def between(name: str, page: str, content: str) -> str:
    """`page` with what stands between the comments `NAME:start` and `NAME:end` replaced by `content`."""
    start, end = f"<!-- {name}:start -->\n", f"<!-- {name}:end -->"
    before, rest = page.split(start)
    return before + start + content + end + rest.split(end)[1]


def models_table() -> str:
    """The registry: what each name is, the template it was trained with, and where its weights are."""
    lines = ["| name | architecture | template | Hugging Face | ModelScope |", "|---" * 5 + "|"]
    for entry in map(find_model, model_names()):
        template = f"`{entry.template}`" if entry.template else "its own Jinja"
        places = [entry.hf or "in the package", entry.ms or ""]
        lines.append("| " + " | ".join([f"`{entry.name}`", entry.architecture, template, *places]) + " |")
    return "\n".join(lines) + "\n"


def templates_table() -> str:
    """What the tests found of our chat templates beside the real ones (tests/chat/agreement.py)."""
    families = json.loads((ROOT / "tests" / "chat" / "agreement.json").read_text(encoding="utf-8"))
    cases = list(next(iter(families.values()))["cases"])
    lines = ["| family | template | real Jinja | real tokenizer | " + " | ".join(cases) + " |"]
    lines.append("|---" * (4 + len(cases)) + "|")
    for name, found in families.items():
        row = f"`{found['row']}`" if found["row"] else "the tokenizer's"
        here = ["yes" if found[key] else "-" for key in ("template", "tokenizer")]
        lines.append("| " + " | ".join([name, row, *here, *found["cases"].values()]) + " |")
    return "\n".join(lines) + "\n"


def support_table() -> str:
    """Each tuner beside each feature: works, or refused with the reason (tests/tuners/test_support.py)."""
    lines = ["| tuner | " + " | ".join(title for title, _ in FEATURES.values()) + " |"]
    lines.append("|---" * (1 + len(FEATURES)) + "|")
    for entry in tuner_entries():
        cells = []
        for feature in FEATURES:
            refusals = [r for r in entry.refuses if r.feature == feature]
            always = all(not r.when for r in refusals)
            cells.append("; ".join(["works"] * (not refusals or not always) + [_refused(r) for r in refusals]))
        lines.append("| " + " | ".join([f"`{entry.name}`", *cells]) + " |")
    return "\n".join(lines) + "\n"


def _refused(refusal: Refusal) -> str:
    when = " ".join(f"--{flag} {str(value).lower()}" for flag, value in refusal.when.items())
    return (f"with `{when}` " if when else "") + f"refused: it {refusal.why}"


def tuner_flags_table() -> str:
    """The settings of each tuner's own."""
    lines = ["| tuner | flag | default | meaning |", "|---" * 4 + "|"]
    for entry in tuner_entries():
        for option in options_of(entry.name, entry.options) if entry.options else ():
            default = " ".join(option.default) if isinstance(option.default, list) else str(option.default)
            default = default.lower() if isinstance(option.default, bool) else default
            meaning = option.help.removeprefix(f"{entry.name}: ")
            lines.append(f"| `{entry.name}` | `--{option.name}` | {default} | {meaning} |")
    return "\n".join(lines) + "\n"


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
