"""Every chat template by name: one row of data each."""

from dataclasses import replace

from swiftlite.chat.formats import Pieces
from swiftlite.config.errors import UserError
from swiftlite.config.options import closest

_TEMPLATES: dict[str, Pieces] = {}


def register_template(name: str, pieces: Pieces) -> None:
    """Add a template; a plugin file may call this.

    Raises:
        UserError: when the name is taken or means something else to --template.
    """
    if name in _TEMPLATES or name in ("auto", "tokenizer"):
        raise UserError(f"the chat template name {name} is taken: choose another")
    _TEMPLATES[name] = pieces


def template_names() -> list[str]:
    """The registered names, in alphabetical order."""
    return sorted(_TEMPLATES)


def template_pieces(name: str) -> Pieces:
    """The pieces of a registered template.

    Raises:
        UserError: naming the registered templates when there is no such one.
    """
    if name not in _TEMPLATES:
        known = ["auto", "tokenizer", *template_names()]
        raise UserError(
            f"--template {name}: there is no such template{closest(name, known)} (known: {', '.join(known)})"
        )
    return _TEMPLATES[name]


CHATML = Pieces(
    specials={"<|im_start|>": None, "<|im_end|>": None},
    system_prefix="<|im_start|>system\n{system}<|im_end|>\n",
    prompt="<|im_start|>user\n{query}<|im_end|>\n",
    response_prefix="<|im_start|>assistant\n",
    chat_sep="<|im_end|>\n",
    suffix="<|im_end|>\n",
)
register_template("chatml", CHATML)
register_template("qwen", replace(CHATML, default_system="You are a helpful assistant."))
