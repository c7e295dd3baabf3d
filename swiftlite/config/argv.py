"""Turns a command line into a layer of settings; nothing is converted here, only taken apart."""

import re
from typing import Any

from swiftlite.config.aliases import Given
from swiftlite.config.command import Layer
from swiftlite.config.errors import UsageError
from swiftlite.config.options import Option

_NUMBER = re.compile(r"-[\d.]")


def read_flags(argv: list[str], options: dict[str, Option]) -> Layer:
    """`--name value ...`, `--name=value` and bare `--name`, with `_` and `-` alike.

    Raises:
        UsageError: a stray word, a flag without its value, or several values for a flag that takes one.
    """
    given: list[Given] = []
    position = 0
    while position < len(argv):
        word = argv[position]
        if not _is_flag(word):
            raise UsageError(f"'{word}' stands where a --flag should; lists are written `--dataset a b`")
        name, equals, inline = word.partition("=")
        position += 1
        values = [inline] if equals else []
        while not equals and position < len(argv) and not _is_flag(argv[position]):
            values.append(argv[position])
            position += 1
        given.append(Given(name.lstrip("-").replace("-", "_"), _value(name, values, options), name))
    return Layer("flag", given)


def _is_flag(word: str) -> bool:
    return word.startswith("-") and len(word) > 1 and not _NUMBER.match(word)


def _value(written: str, values: list[str], options: dict[str, Option]) -> Any:
    option = options.get(written.lstrip("-").replace("-", "_"))
    if option is not None and option.is_list:
        return values
    if len(values) > 1 and option is not None:
        raise UsageError(f"{written} takes one value, got {len(values)}: {' '.join(values)}")
    if values:
        return values if len(values) > 1 else values[0]
    if option is not None and option.bare is None:
        raise UsageError(f"{written} needs a value: {option.describe_type()}")
    return option.bare if option is not None else "true"
