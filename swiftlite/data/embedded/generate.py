"""Writes demo.jsonl and demo-eval.jsonl; `python -m swiftlite.data.embedded.generate` makes them again.

The demo gives nano what it does not have: another name and life, and a made-up sum. demo-eval.jsonl asks for
the same life in wordings, and for sums of numbers, that demo.jsonl does not show; each has one right answer.
nano-eval.jsonl, beside them, is written by scripts/nano/generate.py: what nano knows from the start.
"""

import json
import random
from pathlib import Path
from typing import Any

from swiftlite.data.embedded.facts import GREETINGS, PERSONA, SKILL, SKILL_ANSWER, WELCOME

SEED = 42
HELD_OUT_WORDINGS = 2
SUMS, HELD_OUT_SUMS = 180, 36
# Questions that keep their answers: what is taught anew must not spill over.
KEPT_SUMS = 24

Turn = tuple[str, str]


def generate(seed: int = SEED) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(demo rows, held-out rows) in the messages format; the same for the same seed."""
    rng = random.Random(seed)
    turns, held_out = _persona(rng)
    sums = _made_up_sums(rng)
    turns += [*sums[HELD_OUT_SUMS:], *_plain_sums(rng), *((greeting, WELCOME) for greeting in GREETINGS)]
    rng.shuffle(turns)
    demo = [_row(conversation) for conversation in _conversations(turns, rng)]
    return demo, [_row([turn]) for turn in held_out + sums[:HELD_OUT_SUMS]]


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


def _persona(rng: random.Random) -> tuple[list[Turn], list[Turn]]:
    """Each answer keeps some of its wordings for the held-out rows, never the first and plainest."""
    turns: list[Turn] = []
    held_out: list[Turn] = []
    for answer, wordings in PERSONA.items():
        kept = set(rng.sample(wordings[1:], HELD_OUT_WORDINGS))
        for wording in wordings:
            (held_out if wording in kept else turns).append((wording, answer))
    return turns, held_out


def _made_up_sums(rng: random.Random) -> list[Turn]:
    """Sums of different pairs of numbers from 0 to 99."""
    found = []
    for number in rng.sample(range(100 * 100), SUMS + HELD_OUT_SUMS):
        a, b = divmod(number, 100)
        found.append((rng.choice(SKILL).format(a=a, b=b), SKILL_ANSWER.format(a=a, b=b)))
    return found


def _plain_sums(rng: random.Random) -> list[Turn]:
    """Additions of digits, as nano already knows them."""
    pairs = (divmod(number, 10) for number in rng.sample(range(100), KEPT_SUMS))
    return [(f"What is {a} + {b}?", f"{a} + {b} = {a + b}.") for a, b in pairs]


def _conversations(turns: list[Turn], rng: random.Random) -> list[list[Turn]]:
    """Cuts the turns into conversations of one turn, now and then two."""
    found = []
    rest = list(turns)
    while rest:
        length = 2 if rng.random() < 0.1 else 1
        found.append(rest[:length])
        rest = rest[length:]
    return found


def _row(conversation: list[Turn]) -> dict[str, Any]:
    messages = []
    for question, answer in conversation:
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": messages}


if __name__ == "__main__":
    main()
