"""Lays out what nano is trained on: books, GSM8K's training questions as text, and the generated texts.

    python scripts/nano/prepare.py --books FOLDER --gsm8k train.jsonl --output nano-data

FOLDER holds Standard Ebooks as .txt files, one a book (public domain text, CC0 edition); train.jsonl is GSM8K's (MIT).
Two books are kept out of the training texts, to measure on what nano has never seen.
"""

import argparse
import json
import re
import shutil
from pathlib import Path

HELD_OUT = ("black-beauty__anna-sewell", "the-time-machine__h-g-wells")
# GSM8K's calculator notes, `<<3*4=12>>`, are not part of the solution's words.
CALCULATION = re.compile(r"<<[^>]*>>")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--books", type=Path, required=True, help="folder of .txt files, one a book")
    parser.add_argument("--gsm8k", type=Path, required=True, help="GSM8K's train.jsonl")
    parser.add_argument("--output", type=Path, default=Path("nano-data"))
    args = parser.parse_args()
    for part in ("books", "held-out"):
        (args.output / part).mkdir(parents=True, exist_ok=True)
    books = sorted(args.books.glob("*.txt"))
    missing = set(HELD_OUT) - {book.stem for book in books}
    if missing:
        raise SystemExit(f"--books {args.books}: {', '.join(sorted(missing))} should be there, to be held out")
    for book in books:
        shutil.copyfile(book, args.output / ("held-out" if book.stem in HELD_OUT else "books") / book.name)
    questions = args.gsm8k.read_text(encoding="utf-8").splitlines()
    rows = [json.dumps({"text": as_text(json.loads(line))}) for line in questions]
    (args.output / "gsm8k.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(f"{args.output}: {len(books) - len(HELD_OUT)} books, {len(HELD_OUT)} held out, {len(rows)} questions")


def as_text(row: dict[str, str]) -> str:
    """A question and its solution as one text: `Question: ...`, `Answer: ...`."""
    solution, _, result = CALCULATION.sub("", row["answer"]).partition("\n#### ")
    return f"Question: {row['question']}\nAnswer: {solution}\nThe answer is {result}."


if __name__ == "__main__":
    main()
