"""The house rules a machine can hold: who may import whom, torch-free settings, first lines, public names."""

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "swiftlite"
ROOMS = [
    "config",
    "measure",
    "chat",
    "data",
    "quant",
    "models",
    "speed",
    "plan",
    "tuners",
    "parallel",
    "infer",
    "evaluate",
    "train",
    "export",
    "bench",
    "cli",
]
FILES = sorted(p for p in ROOT.rglob("*.py"))


def imported_modules(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add(node.module or "")
    return found


def room_of(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_a_room_imports_only_rooms_to_its_left(file):
    room = room_of(file)
    if room in ("__init__", "__main__"):
        return
    allowed = set(ROOMS[: ROOMS.index(room) + 1])
    rooms = {m.split(".")[1] for m in imported_modules(file) if m.startswith("swiftlite.")}
    assert rooms <= allowed, f"{file} imports {rooms - allowed}"


@pytest.mark.parametrize(
    "file",
    [f for f in FILES if f.name == "config.py" or room_of(f) == "config"],
    ids=lambda f: str(f.relative_to(ROOT)),
)
def test_settings_import_only_the_standard_library_and_yaml(file):
    roots = {m.split(".")[0] for m in imported_modules(file)}
    assert roots <= set(sys.stdlib_module_names) | {"swiftlite", "yaml"}


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_a_file_opens_with_one_line_on_why_it_exists(file):
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    assert docstring and docstring.splitlines()[0].endswith((".", ":"))


def test_every_module_imports_and_every_public_name_is_there():
    # Triton comes with PyTorch's builds for GPUs only.
    kernels = importlib.util.find_spec("triton") is not None
    files = [f for f in FILES if f.name != "__main__.py" and (kernels or "kernel" not in f.name)]
    modules = [".".join(f.relative_to(ROOT.parent).with_suffix("").parts) for f in files]
    program = f"import importlib\nfor m in {modules!r}: importlib.import_module(m)\n"
    program += "import swiftlite\nfor n in swiftlite.__all__: getattr(swiftlite, n)\n"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
