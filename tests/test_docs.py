"""README and docs are true: their commands run, their links lead somewhere, generated pages are fresh."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from swiftlite.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)( norun)?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """`swiftlite` command lines of the page that are meant to be run as they stand."""
    text = page.read_text(encoding="utf-8")
    blocks = [body for language, norun, body in _BLOCK.findall(text) if language == "bash" and not norun]
    return [line for body in blocks for line in body.splitlines() if line.startswith("swiftlite ")]


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda p: p.name)
def test_the_commands_of_a_page_run_in_order(page, tmp_path, monkeypatch, capsys):
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    # The pages' word for a text of the reader's own.
    (tmp_path / "my-texts.txt").write_text((ROOT / "README.md").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for line in commands(page):
        assert main(shlex.split(line)[1:]) == 0, f"{line}\n{capsys.readouterr().err}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_flags_named_on_a_page_exist(page):
    from swiftlite.config.aliases import NAMES, NOT_YET
    from swiftlite.evaluate.config import EvalConfig
    from swiftlite.export.config import ExportConfig
    from swiftlite.infer.config import InferConfig
    from swiftlite.train.config import PtConfig, SftConfig

    others = {"index-url", "nproc_per_node", "check", "help_all", "print_config", "help"}
    others |= {"books", "gsm8k", "output", "documents", "conversations", "out", "site", "target", "work"}
    commands = (SftConfig, PtConfig, InferConfig, EvalConfig, ExportConfig)
    known = {*(name for command in commands for name in command.options()), *NAMES, *NOT_YET, *others}
    assert set(re.findall(r"(?<![\w-])--([a-z][\w-]*)", page.read_text(encoding="utf-8"))) <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_on_a_page_runs(page):
    for language, norun, body in _BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "python" and not norun:
            exec(compile(body, str(page), "exec"), {})


def test_generated_pages_are_fresh():
    command = [sys.executable, str(ROOT / "scripts" / "make_docs.py"), "--check"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize("recipe", sorted((ROOT / "recipes").rglob("*.yaml")), ids=lambda p: p.name)
def test_every_recipe_reads(recipe, capsys):
    text = recipe.read_text(encoding="utf-8")
    command = "pt" if "from_scratch:" in text or "train_tokenizer:" in text else "sft"
    data = [] if "dataset:" in text else ["--dataset", "demo"]
    assert main([command, str(recipe), *data, "--print_config"]) == 0
