"""Fast tokenizers made from the files the originals ship: qwen.tiktoken, and sentencepiece's tokenizer.model."""

import base64
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PretrainedConfig, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode, generate_merges, import_protobuf
from transformers.utils.hub import cached_file

from swiftlite.config.errors import UserError

_QWEN_FILE, _SENTENCEPIECE_FILE = "qwen.tiktoken", "tokenizer.model"
_FILES = {"qwen": _QWEN_FILE, "chatglm": _SENTENCEPIECE_FILE, "baichuan": _SENTENCEPIECE_FILE}
_CLASSES = {"ChatGLMTokenizer": "chatglm", "BaichuanTokenizer": "baichuan"}

_QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN_SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205))]
_GLM_MASKS = ["[MASK]", "[gMASK]", "[sMASK]"]
_GLM_ROLES = ["<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]

# sentencepiece's numbers of model kinds and piece kinds (sentencepiece_model.proto).
_UNIGRAM, _BPE = 1, 2
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
_PROBES = [
    "Hello, world! It's 3.14 or 2024-01-02.",
    "你好，世界！今天天气很好。",
    "中文English混排，１２３ full-width",
    "two  spaces\n\n\tand a tab ",
    "def f(x):\n    return x ** 2  # naïve café",
    "🙂 emoji, 한국어, русский, العربية\u200b.",
]


def load_original_tokenizer(folder: Path) -> PreTrainedTokenizerFast | None:
    """The tokenizer of a folder that holds an original's own file; None for any other folder.

    A folder with a tokenizer.json needs no conversion and is left to transformers.

    Raises:
        UserError: the file cannot be read, or the fast tokenizer made from it would give other ids.
    """
    if (folder / "tokenizer.json").is_file():
        return None
    settings = _json(folder / "tokenizer_config.json")
    family = _json(folder / "config.json").get("model_type") or _CLASSES.get(settings.get("tokenizer_class", ""))
    if (folder / _QWEN_FILE).is_file():
        tokenizer = _qwen(folder / _QWEN_FILE)
    elif (folder / _SENTENCEPIECE_FILE).is_file() and family == "chatglm":
        tokenizer = _chatglm(folder / _SENTENCEPIECE_FILE)
    elif (folder / _SENTENCEPIECE_FILE).is_file() and family == "baichuan":
        tokenizer = _baichuan(folder / _SENTENCEPIECE_FILE, settings)
    else:
        return None
    tokenizer.chat_template = settings.get("chat_template")
    return tokenizer


def fetch_original_tokenizer(hub_id: str, revision: str | None) -> Path | None:
    """The folder in the hub's cache that holds an original's own tokenizer file, fetched if need be.

    None for any other model, and where there is neither network nor copy: loading then says what is missing.
    """
    more: dict[str, Any] = {"revision": revision} if revision else {}
    try:
        model_type = PretrainedConfig.get_config_dict(hub_id, **more)[0].get("model_type", "")
        if model_type not in _FILES:
            return None
        for name in ("tokenizer.json", "tokenizer_config.json"):
            cached_file(hub_id, name, _raise_exceptions_for_missing_entries=False, **more)
        file = cached_file(hub_id, _FILES[model_type], **more)
    except (OSError, ValueError):
        return None
    return Path(file).parent if file else None


def _qwen(file: Path) -> PreTrainedTokenizerFast:
    ranks = _read_ranks(file)
    spelling = bytes_to_unicode()
    names = {token: "".join(map(spelling.__getitem__, token)) for token in ranks}
    # tiktoken joins any two neighbours whose union is a token, the lowest rank first: every split is a merge.
    merges = [
        (left, right)
        for token in ranks
        for cut in range(1, len(token))
        if (left := names.get(token[:cut])) and (right := names.get(token[cut:]))
    ]
    vocabulary = {names[token]: rank for token, rank in ranks.items()}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, ignore_merges=True))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    # They take the ids after the last rank, as in the original.
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in _QWEN_SPECIALS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )


def _read_ranks(file: Path) -> dict[bytes, int]:
    """Token and rank of each line, by rank. (tiktoken's own reader keeps a copy by path and misses a changed file.)"""
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(file.read_bytes().splitlines(), start=1):
        if not line:
            continue
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except ValueError as error:
            raise UserError(f"{file}: line {number} is not a token in base64 and its rank; damaged?") from error
    ordered = dict(sorted(ranks.items(), key=lambda item: item[1]))
    if list(ordered.values()) != list(range(len(ordered))):
        raise UserError(f"{file}: the ranks are not 0 to {len(ordered) - 1} without a gap; damaged?")
    return ordered


def _chatglm(file: Path) -> PreTrainedTokenizerFast:
    tokenizer, proto = _sentencepiece(file)
    # Where the vocabulary has a piece of that name, both would share its id. Only as words of their own, else
    # they would cut "philosophy" and "people" apart.
    edges = [name if tokenizer.token_to_id(name) is None else f"<{name}>" for name in ("sop", "eop")]
    tokenizer.add_special_tokens(
        [
            AddedToken(name, single_word=name in edges, normalized=False, special=True)
            for name in [*_GLM_MASKS, *edges, *_GLM_ROLES]
        ]
    )
    start = ["[gMASK]", edges[0]]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[*start, "$A"], special_tokens=[(t, tokenizer.token_to_id(t)) for t in start]
    )
    unknown = proto.pieces[proto.trainer_spec.unk_id].piece
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=proto.pieces[2].piece,
        pad_token=unknown,
        unk_token=unknown,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def _baichuan(file: Path, settings: dict[str, Any]) -> PreTrainedTokenizerFast:
    tokenizer, proto = _sentencepiece(file)
    unknown, bos, eos = (proto.pieces[i].piece for i in range(3))
    before = [bos] if settings.get("add_bos_token") else []
    after = [eos] if settings.get("add_eos_token") else []
    if before or after:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[*before, "$A", *after], special_tokens=[(t, tokenizer.token_to_id(t)) for t in (bos, eos)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=eos,
        pad_token=unknown,
        unk_token=unknown,
        clean_up_tokenization_spaces=False,
    )


def _sentencepiece(file: Path) -> tuple[Tokenizer, Any]:
    """The same tokenizer in the `tokenizers` library, and the model's description (a ModelProto)."""
    processor, proto = _read_sentencepiece(file)
    trainer = proto.trainer_spec
    ids = {piece.piece: i for i, piece in enumerate(proto.pieces)}
    if trainer.model_type == _BPE:
        scores = {p.piece: p.score for p in proto.pieces}
        apart = {p.piece for p in proto.pieces if p.type != _NORMAL}
        merges = generate_merges(ids, scores, apart)
        unknown = proto.pieces[trainer.unk_id].piece
        model: Any = models.BPE(ids, merges, unk_token=unknown, fuse_unk=True, byte_fallback=trainer.byte_fallback)
    elif trainer.model_type == _UNIGRAM:
        scored = [(p.piece, p.score) for p in proto.pieces]
        model = models.Unigram(scored, unk_id=trainer.unk_id, byte_fallback=trainer.byte_fallback)
    else:
        raise UserError(f"{file}: a sentencepiece model that is neither BPE nor Unigram cannot be read here")
    tokenizer = Tokenizer(model)
    rules = proto.normalizer_spec
    tokenizer.normalizer = normalizers.Sequence(list(_normalizers(rules)))
    # The dummy prefix only where a text starts, not after each special token. (A text that starts with a space
    # gets no second one, unlike sentencepiece's.)
    scheme = "first" if rules.add_dummy_prefix else "never"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    steps: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(steps + [decoders.Strip(" ", 1, 0)] * rules.add_dummy_prefix)
    own = [p.piece for p in proto.pieces if p.type == _USER_DEFINED]
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in own])
    around = [f"a{piece}b".replace("▁", " ") for piece in own[:20]]
    _agree(tokenizer, processor, [*_PROBES, *around], file)
    control = [AddedToken(p.piece, normalized=False, special=True) for p in proto.pieces if p.type == _CONTROL]
    tokenizer.add_special_tokens(control)
    return tokenizer, proto


def _read_sentencepiece(file: Path) -> tuple[Any, Any]:
    try:
        from sentencepiece import SentencePieceProcessor

        proto = import_protobuf().ModelProto()  # pyrefly: ignore
    except ImportError as error:
        raise UserError(f"{file} is a sentencepiece model: pip install sentencepiece protobuf") from error
    content = file.read_bytes()
    try:
        processor = SentencePieceProcessor(model_proto=content)
    except RuntimeError as error:
        raise UserError(
            f"{file} is no sentencepiece model. (The original GLM-4 repositories call a tiktoken file by this name; "
            "use the one in transformers' layout, whose name ends in -hf.)"
        ) from error
    proto.ParseFromString(content)
    return processor, proto


def _normalizers(rules: Any) -> Iterable[Any]:
    """sentencepiece's normalisation, in its order."""
    if rules.precompiled_charsmap:
        yield normalizers.Precompiled(rules.precompiled_charsmap)
    if rules.remove_extra_whitespaces:
        yield normalizers.Replace(Regex(r"\A +| +\z"), "")
        yield normalizers.Replace(Regex(" {2,}"), " ")


def _agree(tokenizer: Tokenizer, processor: Any, texts: list[str], file: Path) -> None:
    """Wrong ids would train a model on nonsense without a word, so the conversion is tried on a few texts."""
    for text in texts:
        if tokenizer.encode(text, add_special_tokens=False).ids != processor.encode(text):
            raise UserError(
                f"{file}: the fast tokenizer made from it encodes {text!r} otherwise than sentencepiece does; "
                "pass a folder with a tokenizer.json with --tokenizer FOLDER"
            )


def _json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
