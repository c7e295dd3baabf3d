"""Makes what every tool trains: a checkpoint of random weights, a small ChatML tokenizer, rows of known lengths.

    python scripts/benchmark/peers/make_inputs.py FOLDER [--shape qwen-7b|tiny] [--device cuda|cpu]

All of it comes from one seed: nothing is downloaded, and every machine gets the same tokens.
"""

import argparse
import dataclasses
import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM
from transformers.initialization import no_init_weights

SEED = 0
# Special tokens, the 256 bytes, and merges enough for every word below to be one token.
TOKENS = 6000
WORDS = 1500
ROWS = {"fixed": 120, "varlen": 900, "long": 16}
CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclasses.dataclass(frozen=True)
class Shape:
    """A model of Qwen2's class and the tokens of its rows.

    Attributes:
        fixed, long: of each row. varlen: (log-normal's mu, sigma); at most `fixed`, and never less than a question.
    """

    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    vocabulary: int
    fixed: int
    long: int
    varlen: tuple[float, float]

    def max_length(self, case: str) -> int:
        """What a tool is told is the longest row; bins of packed rows have this length too."""
        return self.long + 68 if case == "long" else self.fixed + 8


SHAPES = {
    "qwen-7b": Shape(4096, 32, 32, 11008, 151936, fixed=2040, long=32700, varlen=(5.8, 0.8)),
    "tiny": Shape(64, 2, 4, 128, 8192, fixed=120, long=500, varlen=(3.6, 0.5)),
}


def make_inputs(folder: Path, name: str, device: str, *, weights: bool = True) -> Path:
    """The folder with the inputs of this shape; made only where it is not there yet, whole.

    Without `weights` the checkpoint is a config alone, which is enough for swiftlite's `--weights dummy`.
    """
    done = folder / "inputs.json"
    about = {"shape": name, "seed": SEED, "weights": weights} | dataclasses.asdict(SHAPES[name])
    if done.is_file() and json.loads(done.read_text()) == json.loads(json.dumps(about)):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    words = _words(random.Random(SEED))
    tokenizer = _tokenizer(words)
    tokenizer.save_pretrained(folder)
    for case, rows in _cases(SHAPES[name], words, tokenizer).items():
        (folder / f"{case}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = _config(SHAPES[name], tokenizer)
    config.save_pretrained(folder)
    if weights:
        _save_model(folder, config, device)
    done.write_text(json.dumps(about))
    return folder


def _words(chance: random.Random) -> list[str]:
    """Pronounceable words of three syllables, in no particular order."""
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    found: dict[str, None] = {}
    while len(found) < WORDS:
        found["".join(chance.choices(syllables, k=3))] = None
    return list(found)


def _tokenizer(words: list[str]) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=TOKENS,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([f" {word}" for word in words for _ in range(2)] + ["system user assistant\n"] * 9, trainer)
    split = [word for word in words if len(bpe.encode(f" {word}").ids) != 1]
    assert not split, f"{len(split)} words are not one token, such as {split[:3]}"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def _cases(shape: Shape, words: list[str], tokenizer: PreTrainedTokenizerFast) -> dict[str, Iterator[dict[str, Any]]]:
    chance = random.Random(SEED)
    asked = min(16, shape.fixed // 8)
    word = [f" {words[0]}"]
    around = len(tokenizer.apply_chat_template(_row(word, word), tokenize=True, return_dict=False)) - 2

    def row(tokens: int) -> dict[str, Any]:
        answer = max(tokens - around - asked, 1)
        return {"messages": _row(*(chance.choices([f" {w}" for w in words], k=k) for k in (asked, answer)))}

    mu, sigma = shape.varlen
    return {
        "fixed": (row(shape.fixed) for _ in range(ROWS["fixed"])),
        "varlen": (row(min(shape.fixed, int(math.exp(chance.gauss(mu, sigma))))) for _ in range(ROWS["varlen"])),
        "long": (row(shape.long) for _ in range(ROWS["long"])),
    }


def _row(question: list[str], answer: list[str]) -> list[dict[str, str]]:
    return [{"role": "user", "content": "".join(question)}, {"role": "assistant", "content": "".join(answer)}]


def _config(shape: Shape, tokenizer: PreTrainedTokenizerFast) -> Qwen2Config:
    return Qwen2Config(
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        intermediate_size=shape.intermediate_size,
        vocab_size=shape.vocabulary,
        max_position_embeddings=32768,
        tie_word_embeddings=False,
        use_sliding_window=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        architectures=["Qwen2ForCausalLM"],
        dtype="bfloat16",
    )


def _save_model(folder: Path, config: Qwen2Config, device: str) -> None:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    torch.manual_seed(SEED)
    # Drawn on the device: transformers' own initialization of 7.7 billion weights would take minutes on a CPU.
    with torch.device(device), no_init_weights():
        model = Qwen2ForCausalLM(config)
    torch.set_default_dtype(before)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.02)
            else:
                weight.fill_(1 if "norm" in name else 0)
    model.save_pretrained(folder, max_shard_size="4GB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="qwen-7b")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    args = parser.parse_args()
    print(make_inputs(args.folder, args.shape, args.device))
