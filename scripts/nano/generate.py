"""Writes the texts nano is trained on, all of our own making: plain English in which every statement is true.

    python scripts/nano/generate.py --output FOLDER [--seed 42] [--documents 400000] [--conversations 60000]

    pretrain.jsonl      {"text"}: sums, word problems, facts, stories, multiple choice, copying, dialogues
    chat.jsonl          {"messages"}: the same knowledge in conversations of 1 to 4 turns, without system prompt
    skills-eval.jsonl   {"messages", "kind"}: 200 questions that stand in neither of the two, in any wording

`--embed` writes skills-eval.jsonl to swiftlite/data/embedded/nano-eval.jsonl as well. The same seed gives the
same files, whatever the number of processes and the version of Python. texts/ has one file a kind of text.
"""

import argparse
import json
import multiprocessing
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from texts import chat, documents, skills

# Rows of one chunk share a random stream, so that the result does not depend on who writes which chunk.
CHUNK = 1000
EMBEDDED = Path(__file__).parents[2] / "swiftlite/data/embedded/nano-eval.jsonl"
Counts = Counter[tuple[str, str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", required=True, type=Path, help="the folder to write to")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--documents", type=int, default=400_000, help="rows of pretrain.jsonl")
    parser.add_argument("--conversations", type=int, default=60_000, help="rows of chat.jsonl")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--embed", action="store_true", help="rewrite nano-eval.jsonl in the package too")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    with multiprocessing.Pool(args.processes) as pool:
        for name, make, count in (
            ("pretrain.jsonl", document_rows, args.documents),
            ("chat.jsonl", chat_rows, args.conversations),
        ):
            _report(name, _write(args.output / name, pool.imap(partial(make, args.seed), list(_chunks(count)))))
    lines = "".join(json.dumps(row) + "\n" for row in skill_rows(args.seed))
    for file in (args.output / "skills-eval.jsonl", *([EMBEDDED] if args.embed else [])):
        file.write_text(lines, encoding="utf-8", newline="\n")
        print(f"{file}: {skills.EACH} of each kind")


def document_rows(seed: int, chunk: tuple[int, int]) -> tuple[str, Counts]:
    """Lines of pretrain.jsonl for (chunk number, rows), and what was written."""
    return _rows(_stream(seed, 1, chunk[0]), chunk[1], _document)


def chat_rows(seed: int, chunk: tuple[int, int]) -> tuple[str, Counts]:
    """Lines of chat.jsonl for (chunk number, rows), and what was written."""
    return _rows(_stream(seed, 2, chunk[0]), chunk[1], _conversation)


def skill_rows(seed: int) -> Iterator[dict[str, Any]]:
    """The rows of skills-eval.jsonl."""
    for kind, turn in skills.questions(_stream(seed, 3, 0)):
        yield {**chat.row([turn]), "kind": kind}


def _stream(seed: int, part: int, chunk: int) -> random.Random:
    return random.Random((seed * 10 + part) * 1_000_000 + chunk)


def _document(rng: random.Random) -> tuple[str, dict[str, Any]]:
    kind, text = documents.document(rng)
    return kind, {"text": text}


def _conversation(rng: random.Random) -> tuple[str, dict[str, Any]]:
    turns = chat.conversation(rng)
    return f"{len(turns)} turns", chat.row(turns)


def _rows(
    rng: random.Random, count: int, draw: Callable[[random.Random], tuple[str, dict[str, Any]]]
) -> tuple[str, Counts]:
    lines, counts = [], Counter()
    for _ in range(count):
        kind, row = draw(rng)
        lines.append(json.dumps(row) + "\n")
        counts[kind, "rows"] += 1
        counts[kind, "bytes"] += len(lines[-1])
    return "".join(lines), counts


def _chunks(count: int) -> Iterator[tuple[int, int]]:
    for number in range(0, count, CHUNK):
        yield number // CHUNK, min(CHUNK, count - number)


def _write(file: Path, chunks: Iterator[tuple[str, Counts]]) -> Counts:
    total: Counts = Counter()
    with file.open("w", encoding="utf-8", newline="\n") as out:
        for lines, counts in chunks:
            out.write(lines)
            total += counts
    return total


def _report(name: str, counts: Counts) -> None:
    kinds = sorted({kind for kind, _ in counts})
    print(f"{name}: {sum(counts[kind, 'rows'] for kind in kinds)} rows")
    for kind in kinds:
        print(f"  {kind:16} {counts[kind, 'rows']:8} rows {counts[kind, 'bytes']:12} bytes")


if __name__ == "__main__":
    main()
