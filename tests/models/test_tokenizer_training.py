"""Trained tokenizers: nothing is lost, the merges are BPE's, and transformers reads them back as they are."""

import random
import unicodedata
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, normalizers, pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig, Qwen2Config

from swiftlite.config.errors import UserError
from swiftlite.models.config import ScratchOptions
from swiftlite.models.scratch import scratch_config
from swiftlite.models.tokenizer_training import check_reads_back, train_tokenizer

TEXTS = [
    "The quick brown fox jumps over the lazy dog; the dog sleeps.\n",
    "In 1969, 2 men walked on the moon. It's 384400 km away!\n\n",
    "    def add(a, b):\n        return a + b\n",
    "Café, naïve, Zürich: 中文 and русский 🙂\n",
] * 3
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


@pytest.fixture(scope="module")
def bpe():
    return train_tokenizer(TEXTS, "bpe", 320)


@pytest.fixture(scope="module")
def char():
    return train_tokenizer(TEXTS, "char")


def ids_of(tokenizer, text):
    return tokenizer(text)["input_ids"]


# Byte-level BPE


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_nfc_text_comes_back(bpe, text):
    text = unicodedata.normalize("NFC", text)
    assert bpe.decode(ids_of(bpe, text)) == text


def test_the_vocabulary_has_the_size_asked_for(bpe):
    assert len(bpe) == 320 and sorted(bpe.get_vocab().values()) == list(range(320))


def test_special_tokens_come_first_and_are_one_token_in_text(bpe):
    assert bpe.convert_tokens_to_ids(SPECIAL) == [0, 1, 2]
    assert ids_of(bpe, "".join(SPECIAL)) == [0, 1, 2]
    assert bpe.decode([0, *ids_of(bpe, "fox"), 2], skip_special_tokens=True) == "fox"


def test_the_end_of_text_ends_and_pads_and_nothing_begins(bpe):
    assert (bpe.eos_token_id, bpe.pad_token_id, bpe.bos_token_id, bpe.unk_token_id) == (0, 0, None, None)
    assert ids_of(bpe, "") == []


def test_special_tokens_of_ones_own():
    tokenizer = train_tokenizer(TEXTS, "bpe", 300, ["<end>", "<a>"])
    assert tokenizer.convert_tokens_to_ids(["<end>", "<a>"]) == [0, 1] and tokenizer.eos_token == "<end>"


def test_digits_are_single_tokens():
    tokenizer = train_tokenizer(["1969 " * 1000 + "2024" * 1000] * 3 + TEXTS, "bpe", 300)
    assert tokenizer.tokenize("19692024") == list("19692024")


def reference_bpe(words: Counter, count: int) -> list[str]:
    """Sennrich et al. 2016, algorithm 1: joins the most frequent pair, again and again; of equal ones the first ids."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ids = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    split = {word: list(word) for word in words}
    for _ in range(count):
        pairs = Counter()
        for word, parts in split.items():
            for pair in pairwise(parts):
                pairs[pair] += words[word]
        best = min(pairs, key=lambda pair: (-pairs[pair], ids[pair[0]], ids[pair[1]]))
        ids["".join(best)] = len(ids)
        for word, parts in split.items():
            joined = []
            for part in parts:
                if joined and (joined[-1], part) == best:
                    joined[-1] += part
                else:
                    joined.append(part)
            split[word] = joined
    return list(ids)


def test_the_vocabulary_is_that_of_the_algorithm():
    draw = random.Random(0)
    words = Counter("".join(draw.choices("abcde", k=draw.randint(2, 9))) for _ in range(400))
    # A line end is no part of a word in this pattern.
    text = "\n".join(word for word, n in words.items() for _ in range(n))
    tokenizer = train_tokenizer([text], "bpe", 320)
    assert tokenizer.convert_ids_to_tokens(range(320)) == reference_bpe(words, 320 - 259)


def test_words_are_never_joined_and_too_little_text_says_so():
    """Three words of 3, 4 and 7 bytes without a common pair: 2 + 3 + 6 merges and none after them."""
    texts = [" by the people" * 50]
    assert train_tokenizer(texts, "bpe", 270).tokenize(" the people by") == ["Ġthe", "Ġpeople", "Ġby"]
    with pytest.raises(UserError, match="--vocab_size 271: these texts give only 270 entries"):
        train_tokenizer(texts, "bpe", 271)


def test_the_same_texts_give_the_same_tokenizer():
    one, two = (train_tokenizer(iter(TEXTS), "bpe", 320).backend_tokenizer.to_str() for _ in range(2))
    assert one == two


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(UserError, match=r"--vocab_size 200: .* at least 259"):
        train_tokenizer(TEXTS, "bpe", 200)


# Characters


def test_each_character_is_a_token_and_its_text_comes_back(char):
    text = "".join(TEXTS)
    assert len(ids_of(char, text)) == len(text)
    assert char.decode(ids_of(char, text)) == text


def test_characters_are_in_the_order_of_code_points_after_the_special_tokens(char):
    entries = ["<|endoftext|>", "<unk>", *sorted(set("".join(TEXTS)))]
    assert char.convert_ids_to_tokens(range(len(char))) == entries


def test_what_the_texts_lack_is_unknown(char):
    assert ids_of(char, "a@a") == [ids_of(char, "a")[0], char.unk_token_id, ids_of(char, "a")[0]]
    assert "@" not in "".join(TEXTS)


def test_characters_keep_what_unicode_would_compose():
    tokenizer = train_tokenizer(["e\u0301 \u00e9"], "char")
    assert tokenizer.decode(ids_of(tokenizer, "e\u0301 \u00e9")) == "e\u0301 \u00e9"


def test_the_end_of_text_is_one_token_among_characters(char):
    assert ids_of(char, "<|endoftext|>") == [char.eos_token_id] == [char.pad_token_id]


def test_no_text_gives_no_characters():
    with pytest.raises(UserError, match="no text"):
        train_tokenizer(["", ""], "char")


# Read back


def of_architecture(tokenizer, architecture):
    sizes = {"hidden_size": 32, "num_layers": 2, "num_heads": 2}
    return scratch_config(ScratchOptions(from_scratch=True, architecture=architecture, **sizes), None, tokenizer, [])


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [(k, a) for k in ("bpe", "char") for a in ("llama", "qwen3", "gpt2", "qwen2") if (k, a) != ("char", "qwen2")],
)
def test_a_saved_tokenizer_encodes_as_the_trained_one(kind, architecture, bpe, char, tmp_path):
    tokenizer = bpe if kind == "bpe" else char
    config = of_architecture(tokenizer, architecture)
    check_reads_back(tokenizer, config, "".join(TEXTS))
    config.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    read = AutoTokenizer.from_pretrained(tmp_path)
    for text in ["".join(TEXTS), " 90210\n\n  x\t ", "<|endoftext|>a", "e\u0301"]:
        assert ids_of(read, text) == ids_of(tokenizer, text)
    assert (read.eos_token_id, read.pad_token_id, read.bos_token_id) == (0, 0, None)


def test_characters_are_refused_where_transformers_would_read_them_otherwise(char):
    with pytest.raises(UserError, match=r"a qwen2 model cannot keep this tokenizer.*Qwen2Tokenizer.*llama or qwen3"):
        check_reads_back(char, of_architecture(char, "qwen2"))


def test_a_changed_normalizer_is_refused_for_qwen2_alone():
    """Qwen2Tokenizer composes accents whatever the file says."""
    tokenizer = train_tokenizer(["abc"], "bpe", 259)
    tokenizer.backend_tokenizer.normalizer = normalizers.NFD()
    check_reads_back(tokenizer, LlamaConfig())
    with pytest.raises(UserError, match="qwen2"):
        check_reads_back(tokenizer, Qwen2Config())


def test_the_users_own_text_is_looked_at():
    """Only the given text has the letter whose token another tokenizer would find."""
    tokenizer = train_tokenizer(["abc"], "bpe", 259)
    backend = tokenizer.backend_tokenizer
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace("%", "p")])
    check_reads_back(tokenizer, Qwen2Config(), "no such letter")
    with pytest.raises(UserError, match="qwen2"):
        check_reads_back(tokenizer, Qwen2Config(), "100%")


def test_another_way_back_to_text_is_refused_for_qwen2_alone():
    """Qwen2Tokenizer brings its own decoder; the ids stay the same."""
    tokenizer = train_tokenizer(["abc"], "bpe", 259)
    tokenizer.backend_tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    check_reads_back(tokenizer, LlamaConfig())
    with pytest.raises(UserError, match="qwen2"):
        check_reads_back(tokenizer, Qwen2Config())
