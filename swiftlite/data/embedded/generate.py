"""Writes demo.jsonl and demo-eval.jsonl; `python -m swiftlite.data.embedded.generate` makes them again.

The language is small and regular on purpose: a model of five million random weights learns it in minutes on
a CPU. Questions of demo-eval.jsonl never stand in demo.jsonl, but each asks for a fact that demo.jsonl
teaches in other words, and has one right answer: the assistant's turn.
"""

import json
import random
from pathlib import Path
from typing import Any

from swiftlite.data.embedded.facts import CLOSINGS, GREETINGS, Fact, all_facts

SEED = 42
# Held-out questions of each kind, 60 together.
HELD_OUT = {
    "persona": 8,
    "addition": 13,
    "subtraction": 8,
    "comparison": 5,
    "capital": 6,
    "opposite": 6,
    "colour": 3,
    "sound": 3,
    "day": 3,
    "spelling": 5,
}

Turn = tuple[str, str]


def generate(seed: int = SEED) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(demo rows, held-out rows) in the messages format; the same for the same seed."""
    rng = random.Random(seed)
    held_out, turns = _split(all_facts(), rng)
    rng.shuffle(turns)
    demo = _conversations(turns, rng)
    rng.shuffle(demo)
    return [_row(conversation) for conversation in demo], [_row([turn]) for turn in held_out]


def to_jsonl(rows: list[dict[str, Any]]) -> str:
    """One row a line, ending in a newline."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def main() -> None:
    """Rewrites both files beside this one."""
    demo, held_out = generate()
    folder = Path(__file__).parent
    for name, rows in (("demo.jsonl", demo), ("demo-eval.jsonl", held_out)):
        (folder / name).write_text(to_jsonl(rows), encoding="utf-8", newline="\n")
        print(f"{name}: {len(rows)} rows")


def _split(facts: list[Fact], rng: random.Random) -> tuple[list[Turn], list[Turn]]:
    """One question of some facts is held out; the demo rows ask all the others."""
    by_kind: dict[str, list[Fact]] = {}
    for fact in facts:
        by_kind.setdefault(fact.kind, []).append(fact)
    held_out: list[Turn] = []
    turns: list[Turn] = []
    for kind, members in by_kind.items():
        tested = set(rng.sample(range(len(members)), HELD_OUT.get(kind, 0)))
        for index, fact in enumerate(members):
            questions = list(fact.questions)
            if index in tested:
                held_out.append((questions.pop(rng.randrange(len(questions))), fact.answer))
            turns += [(question, fact.answer) for question in questions]
    return held_out, turns


def _conversations(turns: list[Turn], rng: random.Random) -> list[list[Turn]]:
    """Cuts the turns into conversations of 1 to 3, some of which open or close politely."""
    found = []
    rest = list(turns)
    while rest:
        length = rng.choices((1, 2, 3), weights=(6, 3, 1))[0]
        conversation, rest = rest[:length], rest[length:]
        polite = rng.random()
        if len(conversation) < 3 and polite < 0.2:
            conversation = [rng.choice(GREETINGS), *conversation]
        elif len(conversation) < 3 and polite < 0.4:
            conversation = [*conversation, rng.choice(CLOSINGS)]
        found.append(conversation)
    return found + [[turn] for turn in (*GREETINGS, *CLOSINGS)]


def _row(conversation: list[Turn]) -> dict[str, Any]:
    messages = []
    for question, answer in conversation:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages}


if __name__ == "__main__":
    main()
