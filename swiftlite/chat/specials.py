"""The special tokens that a chat format names, in the tokenizer at hand."""

from dataclasses import replace
from typing import Any

from swiftlite.chat.formats import Pieces
from swiftlite.chat.tokens import backend_of
from swiftlite.config.errors import UserError

_TEXTS = ("prefix", "system_prefix", "prompt", "response_prefix", "chat_sep", "suffix")


def missing_specials(pieces: Pieces, tokenizer: Any) -> list[str]:
    """The special tokens of `pieces` that are no added token of the tokenizer and have no id of their own."""
    added = {token.content for token in backend_of(tokenizer).get_added_tokens_decoder().values()}
    return [name for name, number in pieces.specials.items() if number is None and name not in added]


def resolve_pieces(name: str, pieces: Pieces, tokenizer: Any) -> Pieces:
    """`pieces` with {bos} and {eos} replaced by the tokenizer's own tokens.

    Raises:
        UserError: the tokenizer has no EOS token where one is needed.
    """
    texts = {key: getattr(pieces, key) for key in _TEXTS if getattr(pieces, key)}
    specials = dict(pieces.specials)
    eos, bos = tokenizer.eos_token or "", ""
    if any("{eos}" in text for text in texts.values()):
        if not eos:
            raise UserError(f"the template {name} needs an EOS token, which the tokenizer lacks: set its eos_token")
        specials[eos] = None
    if any("{bos}" in text for text in texts.values()):
        number = tokenizer.bos_token_id
        if number is not None and tokenizer("a")["input_ids"][0] == number:
            bos = tokenizer.bos_token
            specials[bos] = None
    changed = {key: text.replace("{bos}", bos).replace("{eos}", eos) for key, text in texts.items()}
    return replace(pieces, specials=specials, **changed)


def special_ids(name: str, pieces: Pieces, tokenizer: Any) -> dict[str, int]:
    """The id of each special token: the one the pieces give if it has that name, else the tokenizer's own.

    Raises:
        UserError: the tokenizer lacks one, or means something else by its id.
    """
    missing = missing_specials(pieces, tokenizer)
    if missing:
        raise UserError(
            f"the template {name} needs the special token {', '.join(missing)}, which the tokenizer lacks: "
            "choose --template tokenizer (its own chat template) or the template of this model's family"
        )
    backend = backend_of(tokenizer)
    added = {token.content: i for i, token in backend.get_added_tokens_decoder().items()}
    ids = {}
    for text, number in pieces.specials.items():
        there = None if number is None else backend.id_to_token(number)
        # A vocabulary with a piece called `sop` has ChatGLM3's token of that name as `<sop>`.
        if number is not None and there in (text, f"<{text}>"):
            ids[text] = number
        elif text in added:
            ids[text] = added[text]
        elif number is not None and there is None:
            ids[text] = number
        else:
            raise UserError(
                f"the template {name} needs the special token {text}, but at its id {number} the tokenizer has "
                f"{there}: choose the template of this model's family"
            )
    return ids
