"""A tokenizer from a user's own texts: byte-level BPE or single characters, in the files transformers reads."""

import tempfile
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PretrainedConfig, PreTrainedTokenizerFast
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from swiftlite.config.errors import UserError

END_OF_TEXT = "<|endoftext|>"
UNKNOWN = "<unk>"
# ChatML's marks come with every BPE, so that a base model can be tuned to chat later without new tokens.
SPECIAL_TOKENS = {"bpe": (END_OF_TEXT, "<|im_start|>", "<|im_end|>"), "char": (END_OF_TEXT,)}
# Qwen2's, digits one by one. Not ours to choose: for a model of type qwen2, transformers' AutoTokenizer takes only
# vocabulary and merges from tokenizer.json and brings this pattern and NFC itself. So all architectures get them.
_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# What readers of a tokenizer's files differ in: digits, spaces and line ends in every place, accents, other scripts.
_SAMPLE = (
    " Two  words, 90210 and 3.14: it's DON'T!\n\n\tfor i in range(10):\r\n        x_1 += i  \n"
    "caf\u00e9 cafe\u0301 \u4e2d\u6587\u3002 \u0440\u0443\u0441\u0441\u043a\u0438\u0439 \U0001f642<|endoftext|> end "
)


def train_tokenizer(
    texts: Iterable[str],
    kind: Literal["bpe", "char"] = "bpe",
    vocab_size: int | None = None,
    special_tokens: Sequence[str] = (),
) -> PreTrainedTokenizerFast:
    """A tokenizer of these texts; the same texts in the same order give the same one.

    `bpe` is byte-level BPE (Sennrich et al., arXiv 1508.07909; on bytes as GPT-2 has it): no unknown token, every
    NFC text comes back unchanged. `char` gives each character of the texts an id, in the order of code points,
    and `<unk>` to all others; those texts come back unchanged.

    Args:
        texts: read once; a text is never joined with the next one.
        vocab_size: entries of a BPE with the special tokens; None for characters, whose texts decide.
        special_tokens: the first ids; the first ends a text and pads. Empty: `SPECIAL_TOKENS[kind]`. No BOS.

    Raises:
        UserError: the texts do not give that many entries, or none at all.
    """
    specials = tuple(special_tokens) or SPECIAL_TOKENS[kind]
    if kind == "char":
        assert vocab_size is None
        tokenizer = _characters(texts, specials)
    else:
        assert vocab_size is not None
        tokenizer = _byte_pairs(texts, vocab_size, specials)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=specials[0],
        pad_token=specials[0],
        unk_token=UNKNOWN if kind == "char" else None,
        additional_special_tokens=list(specials[1:]),
        clean_up_tokenization_spaces=False,
    )


def check_reads_back(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig, sample: str = "") -> None:
    """Makes sure that what AutoTokenizer reads from a saved model of this config encodes as `tokenizer` does.

    For some architectures transformers builds the tokenizer class it knows for them, whatever the files say.

    Args:
        sample: text of the user's data, looked at beside a built-in one.

    Raises:
        UserError: it would encode otherwise, or not at all.
    """
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        try:
            read: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            texts = (_SAMPLE, _SAMPLE.lstrip(), sample)
            same = all(_round_trip(read, text) == _round_trip(tokenizer, text) for text in texts)
            how = f"as a {type(read).__name__}, which gives other ids or texts"
        except Exception as error:  # whatever a tokenizer class makes of files that are not its own
            same, how = False, f"with an error ({' '.join(str(error).split())[:200]})"
    if not same:
        raise UserError(
            f"a {config.model_type} model cannot keep this tokenizer: transformers would read it back {how}; "
            "use another architecture, such as --architecture llama or qwen3"
        )


def _round_trip(tokenizer: PreTrainedTokenizerBase, text: str) -> tuple[list[int], Any]:
    ids = [*tokenizer(text)["input_ids"], tokenizer.eos_token_id]  # pyrefly: ignore
    return ids, tokenizer.decode(ids)


def _byte_pairs(texts: Iterable[str], vocab_size: int, specials: Sequence[str]) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocab_size < len(alphabet) + len(specials):
        raise UserError(
            f"--vocab_size {vocab_size}: byte-level BPE starts from {len(alphabet)} bytes and {len(specials)} special "
            f"tokens; give at least {len(alphabet) + len(specials)}"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()  # pyrefly: ignore
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # pyrefly: ignore
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()  # pyrefly: ignore
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)  # pyrefly: ignore
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[_special(token) for token in specials],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() < vocab_size:
        raise UserError(
            f"--vocab_size {vocab_size}: these texts give only {tokenizer.get_vocab_size()} entries; "
            "give that number or more text"
        )
    return tokenizer


def _characters(texts: Iterable[str], specials: Sequence[str]) -> Tokenizer:
    characters: set[str] = set()
    for text in texts:
        characters.update(text)
    if not characters:
        raise UserError("--train_tokenizer: the data has no text to take characters from")
    entries = dict.fromkeys([*specials, UNKNOWN, *sorted(characters)])
    tokenizer = Tokenizer(models.WordLevel({entry: i for i, entry in enumerate(entries)}, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")  # pyrefly: ignore
    tokenizer.decoder = decoders.Fuse()  # pyrefly: ignore
    tokenizer.add_special_tokens([_special(token) for token in (*specials, UNKNOWN)])
    return tokenizer


def _special(token: str) -> AddedToken:
    # Not normalized: it is looked for in the text as it stands.
    return AddedToken(token, special=True, normalized=False)
