"""Trains nano's tokenizer: 4096 byte-level BPE entries, digits one by one, ChatML.

    python scripts/nano/train_tokenizer.py @scripts/nano/texts.txt --root FOLDER_OF_TEXTS

makes the files in swiftlite/models/nano again: the same texts in the same order give the same files. texts.txt
names what they were trained on, all openly licensed: twelve books of Standard Ebooks (public domain, CC0),
GSM8K's training questions (MIT), and the glaive, identity and self-instruct rows of LLaMA-Factory and
self-instruct (Apache-2.0). The package's own demo rows come last.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

DEMO = Path(__file__).parents[2] / "swiftlite/data/embedded/demo.jsonl"
VOCABULARY = 4096
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CONTEXT = 2048
# Qwen2's, digits one by one. Not ours to choose: for a model of type qwen2, transformers' AutoTokenizer takes
# only vocabulary and merges from tokenizer.json and brings this pattern and NFC itself.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# `generation` marks what is trained on: the assistant's words and the token that ends its turn.
CHAT_TEMPLATE = """\
{%- if tools %}{{ raise_exception("nano's chat template has no tools") }}{% endif %}
{%- for message in messages %}
    {%- if message.tool_calls %}{{ raise_exception("nano's chat template has no tool calls") }}{% endif %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' %}
        {%- generation %}{{- message.content + '<|im_end|>' }}{%- endgeneration %}
    {%- else %}
        {{- message.content + '<|im_end|>' }}
    {%- endif %}
    {{- '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], fromfile_prefix_chars="@")
    parser.add_argument("texts", nargs="+", type=Path, help=".txt, or .json/.jsonl whose strings are read")
    parser.add_argument("--root", type=Path, default=Path(), help="the folder the texts are named from")
    parser.add_argument("--output", type=Path, default=Path("swiftlite/models/nano"))
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    train([*(args.root / text for text in args.texts), DEMO]).save(str(args.output / "tokenizer.json"))
    config = json.dumps(tokenizer_config(), indent=2, ensure_ascii=False) + "\n"
    (args.output / "tokenizer_config.json").write_text(config, encoding="utf-8", newline="\n")
    print(f"{args.output}: {VOCABULARY} entries from {len(args.texts) + 1} files")


def train(texts: list[Path]) -> Tokenizer:
    """Without an unknown token: every NFC text comes back unchanged."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for path in texts for text in read(path)), trainer)
    if tokenizer.get_vocab_size() != VOCABULARY:
        raise SystemExit(f"the texts give only {tokenizer.get_vocab_size()} entries; add more text")
    return tokenizer


def read(path: Path) -> Iterator[str]:
    """The file's text, or every string value of its JSON."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        yield from strings(json.loads(text))
    elif path.suffix == ".jsonl":
        for line in text.splitlines():
            yield from strings(json.loads(line))
    else:
        yield from text.splitlines(keepends=True)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def tokenizer_config() -> dict[str, Any]:
    end_of_text, _, end_of_turn = SPECIAL_TOKENS
    return {
        "tokenizer_class": "Qwen2Tokenizer",
        "model_max_length": CONTEXT,
        "bos_token": None,
        "eos_token": end_of_turn,
        "pad_token": end_of_text,
        "unk_token": None,
        "additional_special_tokens": [SPECIAL_TOKENS[1]],
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }


if __name__ == "__main__":
    main()
