"""Tokenizers and conversations for the chat tests: a tiny tokenizer trained here, real ones from disk."""

from functools import cache
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>"]
CORPUS = [
    "system\nYou are a helpful assistant.\n\nuser\nWhat is one and two?\n\nassistant\nThree, of course.",
    "user\n\nHello there, hello world. How are you today?\n\nassistant\n\nI am fine, thanks. 你好，世界。",
] * 4
# The pre-tokeniser of Qwen2 and (nearly) Llama-3: line breaks run together, so they can straddle a border.
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


@cache
def trained_backend():
    """A small BPE tokenizer without special tokens, as JSON."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors, trainers
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    # As Llama-3's: moves the start of " word" behind its space.
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    backend.decoder = ByteLevelDecoder()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    )
    return backend.to_str()


def train_tokenizer(specials=SPECIALS, special_flag=True, **settings):
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_str(trained_backend())
    backend.add_tokens([AddedToken(name, special=special_flag, normalized=False) for name in specials])
    settings = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"} | settings
    return PreTrainedTokenizerFast(tokenizer_object=backend, **settings)


def spaced_tokenizer():
    """A tiny tokenizer that, as sentencepiece ones do, puts a space before the first word of a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    letters = sorted(set("".join(CORPUS)) | set("[]INST/"))
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=letters, show_progress=False)
    backend.train_from_iterator(CORPUS, trainer)
    backend.add_special_tokens(["<s>", "</s>"])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")


@cache
def load_shared(name):
    """A real tokenizer, the same object each time: a test that changes it changes it back."""
    from transformers import AutoTokenizer

    path = SHARED / "tokenizers" / name
    if not path.is_dir():
        pytest.skip(f"{path} is not here")
    return AutoTokenizer.from_pretrained(path)


def talk(*contents, system=None):
    """Messages from contents by turns: user, assistant, user, ..."""
    head = [] if system is None else [{"role": "system", "content": system}]
    turns = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]
    return head + turns
