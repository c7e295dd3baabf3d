"""Runs swiftlite and the tools that a user would pick instead on the same model and rows, and prints one table.

    python scripts/benchmark/peers/run.py --out DIR [--only ours,trl] [--cases fixed,varlen,long] [--shape qwen-7b|tiny]
        [--device cuda|cpu] [--site trl=FOLDER] [--row NAME]

Each setting runs in a process of its own. A tool is taken from the Python that runs this, or from a folder named by
--site (`pip install --target FOLDER trl`), since these tools want versions that do not go together. One that is not
installed is listed as such, one that fails is a row with its last line. DIR gets inputs/, a log and a JSON file for
each row, results.json and table.md.
"""

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from make_inputs import SHAPES, make_inputs
from table import comparison

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
CASES = ("fixed", "varlen", "long")
# Tool -> its script, and the module that shows whether it is installed.
TOOLS = {
    "ours": ("ours.py", "swiftlite"),
    "trl": ("peer_trl.py", "trl"),
    "swift": ("peer_swift.py", "swift"),
    "unsloth": ("peer_unsloth.py", "unsloth"),
    "llamafactory": ("peer_llamafactory.py", "llamafactory"),
}
_FIND = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"


def main() -> None:
    args = _arguments()
    out = args.out.resolve()
    inputs = make_inputs(out / "inputs", args.shape, args.device, weights=args.only != ["ours"])
    settings = yaml.safe_load((HERE / "settings.yaml").read_text(encoding="utf-8"))[args.shape]
    results, missing = [], []
    for tool in args.only:
        script, module = TOOLS[tool]
        environment = _environment(tool, args.site)
        found = subprocess.run([sys.executable, "-c", _FIND, module], env=environment, cwd=out)
        if found.returncode != 0:
            missing.append(tool)
            continue
        for case in args.cases:
            for setting, options in settings[tool][case].items():
                if args.rows and setting not in args.rows:
                    continue
                job = {
                    "model": str(inputs),
                    "data": str(inputs / f"{case}.jsonl"),
                    "max_length": SHAPES[args.shape].max_length(case),
                    "batch_size": settings["batch_size"][case],
                    "steps": args.steps,
                    "device": args.device,
                    "options": options,
                }
                row = {"tool": tool, "case": case, "setting": setting}
                print(f"{tool}, {case}: {setting} ...", flush=True)
                results.append(row | _run(HERE / script, job, out / "rows" / _name(row), environment, args.timeout))
                (out / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    table = comparison(results, dataclasses.asdict(SHAPES[args.shape]), missing)
    (out / "table.md").write_text(table, encoding="utf-8")
    print(f"\n{table}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of inputs, logs and results")
    parser.add_argument("--only", type=_names(tuple(TOOLS)), default=list(TOOLS), help="tools, separated by commas")
    parser.add_argument("--cases", type=_names(CASES), default=list(CASES), help="cases, separated by commas")
    parser.add_argument(
        "--row", action="append", default=[], dest="rows", metavar="NAME", help="only the rows of these names"
    )
    parser.add_argument("--shape", choices=SHAPES, default="qwen-7b")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--steps", type=int, default=16, help="optimizer steps of a row, the first 6 not timed")
    parser.add_argument("--timeout", type=int, default=900, help="seconds that a row may take")
    parser.add_argument(
        "--site", action="append", default=[], type=_site, metavar="TOOL=FOLDER", help="where a tool's packages are"
    )
    args = parser.parse_args()
    args.site = dict(args.site)
    return args


def _names(known: tuple[str, ...]) -> Any:
    def read(text: str) -> list[str]:
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"'{unknown[0]}' is none of {', '.join(known)}")
        return names

    return read


def _site(text: str) -> tuple[str, str]:
    tool, _, folder = text.partition("=")
    if tool not in TOOLS or not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"'{text}' is not TOOL=FOLDER with one of {', '.join(TOOLS)} and a folder")
    return tool, str(Path(folder).resolve())


def _environment(tool: str, sites: dict[str, str]) -> dict[str, str]:
    """This process's, without a network, with the tool's packages in front."""
    paths = [*([sites[tool]] if tool in sites else []), *([str(ROOT)] if tool == "ours" else [])]
    more = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return os.environ | more | {"PYTHONPATH": os.pathsep.join(paths), "UNSLOTH_DISABLE_STATISTICS": "1"}


def _name(row: dict[str, str]) -> str:
    return "-".join("".join(c if c.isalnum() else "_" for c in row[key]) for key in ("tool", "case", "setting"))


def _run(script: Path, job: dict[str, Any], place: Path, environment: dict[str, str], timeout: int) -> dict[str, Any]:
    """One row in its own process: what it measured, or the last line of what it said."""
    work = place.with_suffix(".work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    result, written, log = place.with_suffix(".json"), place.with_suffix(".job.json"), place.with_suffix(".log")
    result.unlink(missing_ok=True)
    written.write_text(json.dumps(job | {"work": str(work), "result": str(result)}, indent=2))
    with log.open("w") as said:
        try:
            command = [sys.executable, str(script), str(written)]
            subprocess.run(command, env=environment, cwd=work, stdout=said, stderr=said, timeout=timeout)
        except subprocess.TimeoutExpired:
            return {"error": f"not done after {timeout} s"}
    if result.is_file():
        return json.loads(result.read_text())
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return {"error": lines[-1][:200] if lines else "ended without a word"}


if __name__ == "__main__":
    main()
