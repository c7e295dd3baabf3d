"""Fast tokenizers from qwen.tiktoken and tokenizer.model give the ids of tiktoken and sentencepiece themselves."""

import base64
import json
import unicodedata
from pathlib import Path

import pytest

from swiftlite.config.errors import UserError
from swiftlite.models.load import load_tokenizer
from swiftlite.models.native.tokenizers import load_original_tokenizer
from swiftlite.models.source import ModelSource
from tests.shared_data import SHARED, needs_shared

TEXTS = [
    "Hello, world! It's 3.14159 or 2024-01-02; I'll say we've won.",
    "你好，世界！今天天气很好，我们去公园散步吧。",
    "中文English混排 １２３ full-width，以及 emoji 🙂👍🏽",
    "  leading, two  spaces,\ta tab\n\n\nand lines\r\n and trailing  ",
    "def f(x: int) -> int:\n    return x ** 2  # naïve café",
    "한국어 русский العربية ไทย \u200b\u00a0 ﬁ Å é",
    "people in philosophy develop and stop",
    " ",
    "\n",
    "1234567890",
]
QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def write(folder: Path, model_type: str, **tokenizer_config) -> Path:
    """Beside the vocabulary: configs that point to code which leaves a file `ran`."""
    folder.mkdir(parents=True, exist_ok=True)
    code = {"auto_map": {"AutoConfig": "code.C", "AutoTokenizer": ["code.T", None]}}
    (folder / "config.json").write_text(json.dumps({"model_type": model_type} | code))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer_config | code))
    (folder / "code.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\n")
    return folder


def write_ranks(folder: Path, ranks: dict[bytes, int]) -> Path:
    lines = [f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items()]
    (write(folder, "qwen", tokenizer_class="QWenTokenizer") / "qwen.tiktoken").write_text("".join(lines))
    return folder


# A dummy prefix is not put before a text that starts with a space already.
NO_SPACE_FIRST = [text for text in TEXTS if not text.startswith(" ")]


def ids_of(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


# --- Qwen-1 ---


@pytest.fixture(scope="module")
def tiny_ranks():
    words = [b"he", b"ll", b"llo", b"hello", b" w", b"or", b" wor", b"in", b"ing", "你".encode()[:2], "你".encode()]
    words += [b"  ", b"    ", b"\n\n", b"aa", b"aaa", b"aaaa", "é".encode(), b"pe", b"peo", b"people"]
    return {bytes([i]): i for i in range(256)} | {word: 256 + i for i, word in enumerate(words)}


def test_a_rank_file_gives_the_ids_of_tiktoken(tiny_ranks, tmp_path):
    tiktoken = pytest.importorskip("tiktoken")
    original = tiktoken.Encoding("x", pat_str=QWEN_PATTERN, mergeable_ranks=tiny_ranks, special_tokens={})
    tokenizer = load_original_tokenizer(write_ranks(tmp_path, tiny_ranks))
    for text in [*TEXTS, "hello  world, aaaaaaa aaa aa a; peopled"]:
        normal = unicodedata.normalize("NFC", text)
        assert ids_of(tokenizer, text) == original.encode(normal)
        assert tokenizer.decode(ids_of(tokenizer, text)) == normal


@pytest.fixture(scope="module")
def qwen_folder(tmp_path_factory):
    """A qwen.tiktoken made from Qwen2's vocabulary, which is Qwen-1's."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    file = SHARED / "data" / "tokenizers" / "qwen2.5" / "vocab.json"
    if not file.is_file():
        pytest.skip("Qwen2's vocabulary is not beside this checkout (../shared/data)")
    spelling = {letter: byte for byte, letter in bytes_to_unicode().items()}
    vocabulary = sorted(json.loads(file.read_text(encoding="utf-8")).items(), key=lambda item: item[1])
    ranks = {bytes(spelling[letter] for letter in token): rank for token, rank in vocabulary}
    return write_ranks(tmp_path_factory.mktemp("qwen"), ranks)


@pytest.fixture(scope="module")
def qwen(qwen_folder):
    return load_original_tokenizer(qwen_folder)


def test_qwens_ids_are_those_of_qwen2s_tokenizer(qwen):
    from transformers import AutoTokenizer

    qwen2 = AutoTokenizer.from_pretrained(SHARED / "data" / "tokenizers" / "qwen2.5")
    marked = "<|im_start|>user\nhi<|im_end|>\n<|endoftext|>"
    assert [ids_of(qwen, text) for text in [*TEXTS, marked]] == [ids_of(qwen2, text) for text in [*TEXTS, marked]]


def test_qwens_ids_are_the_golden_ones_of_llama_cpp(qwen):
    golden = SHARED / "data" / "tokenizers" / "golden_llama.cpp" / "ggml-vocab-qwen2.gguf.inp"
    texts = golden.read_text(encoding="utf-8").split("\n__ggml_vocab_test__\n")
    expected = [[int(i) for i in line.split()] for line in golden.with_suffix(".out").read_text().splitlines()]
    assert len(expected) > 40 and [ids_of(qwen, t) for t in texts[: len(expected)]] == expected


def test_qwens_special_tokens_have_the_ids_of_the_release(qwen):
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|extra_0|>", "<|extra_204|>"]
    assert qwen.convert_tokens_to_ids(names) == [151643, 151644, 151645, 151646, 151850]
    assert (len(qwen), qwen.eos_token_id, qwen.pad_token_id, qwen.bos_token_id) == (151851, 151643, 151643, None)


@pytest.mark.parametrize(
    ("content", "words"), [("IQ== 0\nnonsense\n", "line 2"), ("IQ== 0\nIg== 2\n", "without a gap")]
)
def test_a_damaged_rank_file_is_refused(tmp_path, content, words):
    (write(tmp_path, "qwen") / "qwen.tiktoken").write_text(content)
    with pytest.raises(UserError, match=words):
        load_original_tokenizer(tmp_path)


# --- ChatGLM3 and Baichuan2 ---

RESERVED = ["<reserved_106>", "<reserved_107>"]
GLM = {"add_dummy_prefix": True}
BAICHUAN = {"add_dummy_prefix": False, "user_defined_symbols": RESERVED}


@pytest.fixture(scope="module")
def train(tmp_path_factory):
    """A function that trains a small sentencepiece model, as the releases are: BPE with bytes, nothing normalised."""
    sentencepiece = pytest.importorskip("sentencepiece")

    def trained(family: str, folder: Path | None = None, tokenizer_config: dict | None = None, **settings):
        folder = write(folder or tmp_path_factory.mktemp("spm"), family, **(tokenizer_config or {}))
        usual = {"model_type": "bpe", "vocab_size": 500, "byte_fallback": True, "split_digits": True}
        usual |= {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, "minloglevel": 2}
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter([t for t in TEXTS if t.strip() and "people" not in t] * 20),
            model_prefix=str(folder / "tokenizer"),
            **usual | settings,
        )
        return folder, sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))

    return trained


@pytest.mark.parametrize(
    "settings",
    [
        GLM,
        BAICHUAN,
        {"normalization_rule_name": "nmt_nfkc", "remove_extra_whitespaces": True},
        {"remove_extra_whitespaces": True},
        {"model_type": "unigram", "vocab_size": 370},
        {"byte_fallback": False, "vocab_size": 200},
    ],
    ids=str,
)
def test_a_sentencepiece_model_gives_the_ids_of_sentencepiece(train, settings):
    folder, original = train("baichuan", **settings)
    tokenizer = load_original_tokenizer(folder)
    texts = TEXTS if settings.get("add_dummy_prefix") is False else NO_SPACE_FIRST
    assert [ids_of(tokenizer, text) for text in texts] == [original.encode(text) for text in texts]
    assert [tokenizer.decode(original.encode(t)) for t in texts] == [original.decode(original.encode(t)) for t in texts]


@needs_shared
def test_a_released_sentencepiece_model_gives_the_ids_of_sentencepiece(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    file = SHARED / "data" / "tokenizers" / "mistral-v0.2" / "tokenizer.model"
    (write(tmp_path, "baichuan") / "tokenizer.model").write_bytes(file.read_bytes())
    original, tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(file)), load_original_tokenizer(tmp_path)
    assert [ids_of(tokenizer, t) for t in NO_SPACE_FIRST] == [original.encode(t) for t in NO_SPACE_FIRST]


def test_chatglms_special_tokens_follow_the_vocabulary(train):
    """With the release's 64789 pieces that makes [gMASK] 64790, sop 64792, <|user|> 64795."""
    folder, original = train("chatglm", **GLM)
    tokenizer, first = load_original_tokenizer(folder), original.get_piece_size()
    names = ["[MASK]", "[gMASK]", "[sMASK]", "sop", "eop", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]
    assert tokenizer.convert_tokens_to_ids(names) == list(range(first, first + 9))
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.bos_token_id) == (2, 0, None)
    assert tokenizer.padding_side == "left"
    assert tokenizer("Hello")["input_ids"] == [first + 1, first + 3, *original.encode("Hello")]


def test_chatglms_own_chat_template_gives_the_ids_of_its_own_code(train):
    """The original builds a turn as the role, then "\\n", then the text, each encoded for itself."""
    template = (
        "{% for message in messages %}{% if loop.first %}[gMASK]sop{% endif %}<|{{ message['role'] }}|> \n "
        "{{ message['content'] }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )
    folder, original = train("chatglm", tokenizer_config={"chat_template": template}, **GLM)
    first, newline = original.get_piece_size(), original.encode("\n")
    expected = [first + 1, first + 3, first + 6, *newline, *original.encode("  Hello there"), first + 7]
    messages = [{"role": "user", "content": "  Hello there"}]
    found = load_original_tokenizer(folder).apply_chat_template(messages, add_generation_prompt=True)
    assert found["input_ids"] == expected


def test_a_piece_called_sop_does_not_share_its_id_with_the_special_token(train):
    folder, original = train("chatglm", user_defined_symbols=["sop"], **GLM)
    tokenizer, first = load_original_tokenizer(folder), original.get_piece_size()
    assert tokenizer.convert_tokens_to_ids(["sop", "<sop>"]) == [original.piece_to_id("sop"), first + 3]
    assert tokenizer("Hello")["input_ids"][:2] == [first + 1, first + 3]


def test_words_that_contain_sop_and_eop_stay_whole(train):
    folder, original = train("chatglm", **GLM)
    text = "people in philosophy"
    assert "sop" in text and "eop" in text
    assert ids_of(load_original_tokenizer(folder), text) == original.encode(text)


def test_baichuans_reserved_pieces_are_single_tokens_within_text(train):
    folder, original = train("baichuan", **BAICHUAN)
    tokenizer, text = load_original_tokenizer(folder), "<reserved_106>你好<reserved_107>"
    user, assistant = original.piece_to_id(RESERVED)
    assert ids_of(tokenizer, text) == original.encode(text) == [user, *original.encode("你好"), assistant]


@pytest.mark.parametrize(
    ("settings", "before", "after"),
    [
        ({}, [], []),
        ({"add_bos_token": False, "add_eos_token": False}, [], []),
        ({"add_bos_token": True, "add_eos_token": True}, [1], [2]),
    ],
)
def test_baichuans_bos_and_eos_are_added_as_its_settings_say(train, settings, before, after):
    folder, original = train("baichuan", tokenizer_config=settings, **BAICHUAN)
    tokenizer = load_original_tokenizer(folder)
    assert tokenizer("Hello")["input_ids"] == [*before, *original.encode("Hello"), *after]
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (1, 2, 0)


def test_a_model_that_cannot_be_converted_exactly_is_refused(train):
    folder, _ = train("baichuan", treat_whitespace_as_suffix=True)
    with pytest.raises(UserError, match="otherwise than sentencepiece"):
        load_original_tokenizer(folder)


def test_a_file_of_another_kind_is_refused(tmp_path):
    pytest.importorskip("sentencepiece")
    (write(tmp_path, "chatglm") / "tokenizer.model").write_text("IQ== 0\nIg== 1\n")
    with pytest.raises(UserError, match="no sentencepiece model"):
        load_original_tokenizer(tmp_path)


def test_a_text_that_starts_with_a_space_gets_no_second_one(train):
    """The one known difference from sentencepiece; within a chat no text stands at the start."""
    folder, original = train("chatglm", **GLM)
    assert ids_of(load_original_tokenizer(folder), " Hello") == original.encode("Hello")


def test_without_sentencepiece_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sentencepiece", None)
    (write(tmp_path, "chatglm") / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(UserError, match="pip install sentencepiece"):
        load_original_tokenizer(tmp_path)


# --- All ---


@pytest.mark.parametrize("kind", ["qwen", "chatglm", "baichuan"])
def test_loading_runs_no_code_and_saving_gives_the_same_tokenizer_again(kind, train, tiny_ranks, tmp_path):
    folder = tmp_path / "original"
    if kind == "qwen":
        write_ranks(folder, tiny_ranks)
    else:
        classes = {"chatglm": "ChatGLMTokenizer", "baichuan": "BaichuanTokenizer"}
        train(kind, folder, {"tokenizer_class": classes[kind]}, **(GLM if kind == "chatglm" else BAICHUAN))
    tokenizer = load_tokenizer(ModelSource("m", path=folder), 1000, [])
    tokenizer.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved" / "config.json").write_bytes((folder / "config.json").read_bytes())
    again = load_tokenizer(ModelSource("m", path=tmp_path / "saved"), 1000, [])
    assert load_original_tokenizer(tmp_path / "saved") is None and not (folder / "ran").exists()
    assert again(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]
    assert again.special_tokens_map == tokenizer.special_tokens_map and len(again) == len(tokenizer)
    assert again.padding_side == tokenizer.padding_side


def test_a_tokenizer_folder_without_a_config_is_known_by_its_class(train, tmp_path):
    train("chatglm", tmp_path, {"tokenizer_class": "ChatGLMTokenizer"}, **GLM)
    (tmp_path / "config.json").unlink()
    assert load_original_tokenizer(tmp_path).convert_tokens_to_ids("[gMASK]") == 501


def test_other_folders_are_left_to_transformers(train, tmp_path):
    train("llama", tmp_path)
    assert load_original_tokenizer(tmp_path) is None
