"""Every chat template by name."""

from swiftlite.chat.families import CHATML, FAMILIES
from swiftlite.chat.formats import Pieces
from swiftlite.config.errors import UserError
from swiftlite.config.options import closest

__all__ = ["CHATML", "register_template", "template_names", "template_pieces"]

_TEMPLATES: dict[str, Pieces] = dict(FAMILIES)
# What --template means beside the registered names.
_OTHERS = ("auto", "tokenizer", "text")


def register_template(name: str, pieces: Pieces) -> None:
    """Add a template; a plugin file may call this.

    Raises:
        UserError: when the name is taken or means something else to --template.
    """
    if name in _TEMPLATES or name in _OTHERS:
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
        known = [*_OTHERS, *template_names()]
        raise UserError(
            f"--template {name}: there is no such template{closest(name, known)} (known: {', '.join(known)})"
        )
    return _TEMPLATES[name]
