"""What one option is: a dataclass field with its help text, read the same way from a flag, YAML or Python."""

import dataclasses
import difflib
import json
import math
import types
from collections.abc import Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from swiftlite.config.errors import UsageError

TRUE_WORDS = {"true", "yes", "on", "1"}
FALSE_WORDS = {"false", "no", "off", "0"}
NONE_WORDS = {"none", "null"}


def option(default: Any, help: str, *, rare: bool = False, bare: Any = None) -> Any:
    """A dataclass field that is also a flag.

    Args:
        default: the value without a preset, recipe or flag; lists and dicts are copied per instance.
        help: one line for `--help` and docs/flags.md.
        rare: shown only by `--help_all`.
        bare: the value of the flag when it is given without one (booleans: true).
    """
    metadata = {"help": help, "rare": rare, "bare": bare}
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Option:
    """One flag: its name, type and help, and the part (dataclass) it belongs to."""

    name: str
    type: Any
    default: Any
    help: str
    rare: bool
    bare: Any
    part: str

    @property
    def is_list(self) -> bool:
        return get_origin(self.bare_type) is list

    @property
    def bare_type(self) -> Any:
        """The type without `| None`."""
        if get_origin(self.type) in (Union, types.UnionType):
            members = [t for t in get_args(self.type) if t is not type(None)]
            if len(members) == 1:
                return members[0]
        return self.type

    @property
    def choices(self) -> tuple[str, ...]:
        element = get_args(self.bare_type)[0] if self.is_list else self.bare_type
        return tuple(map(str, get_args(element))) if get_origin(element) is Literal else ()

    def describe_type(self) -> str:
        """What a user may write, for help and error sentences: `a whole number`, `one of a, b`."""
        if self.choices:
            words = "one of " + ", ".join(self.choices)
        else:
            element = get_args(self.bare_type)[0] if self.is_list else self.bare_type
            words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}.get(
                element, "a JSON object"
            )
        if self.is_list:
            words = f"a list ({words})"
        return words + (" or none" if type(None) in get_args(self.type) else "")

    def read(self, value: Any) -> Any:
        """`value` as this option's type; strings are read as a flag's would be.

        Raises:
            UsageError: naming the flag, the value and what was expected.
        """
        try:
            return _convert(value, self.type)
        except ValueError:
            raise UsageError(f"--{self.name}: {_show(value)} is not {self.describe_type()}") from None


def options_of(part: str, cls: type) -> list[Option]:
    """The options of a config dataclass, in the order it lists them."""
    hints = get_type_hints(cls)
    found = []
    for f in dataclasses.fields(cls):
        default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        bare = True if hints[f.name] is bool else f.metadata["bare"]
        found.append(Option(f.name, hints[f.name], default, f.metadata["help"], f.metadata["rare"], bare, part))
    return found


def closest(name: str, known: Sequence[str]) -> str:
    """`; did you mean X?` for the known name nearest to `name`, or nothing when none is near."""
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean {match[0]}?" if match else ""


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(value)
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(value)
    return number


def _show(value: Any) -> str:
    return repr(value) if not isinstance(value, str) else f"'{value}'"


def _convert(value: Any, to: Any) -> Any:
    origin, args = get_origin(to), get_args(to)
    if origin in (Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() in NONE_WORDS):
            return None
        last: ValueError | None = None
        for member in args:
            if member is type(None):
                continue
            try:
                return _convert(value, member)
            except ValueError as error:
                last = error
        raise last or ValueError(value)
    if value is None:
        raise ValueError(value)
    if origin is list:
        if isinstance(value, dict):
            raise ValueError(value)
        if not isinstance(value, (list, tuple)):
            value = [value]
        return [_convert(v, args[0]) for v in value]
    if origin is Literal:
        for choice in args:
            if str(value).lower() == str(choice).lower():
                return choice
        # YAML reads a bare `no` or `off` as a boolean.
        if isinstance(value, bool):
            for choice in args:
                if choice in (TRUE_WORDS if value else FALSE_WORDS):
                    return choice
        raise ValueError(value)
    if origin is dict or to is dict:
        if isinstance(value, str):
            value = json.loads(value)
        if not isinstance(value, dict):
            raise ValueError(value)
        return value
    if to is bool:
        word = str(value).lower()
        if word in TRUE_WORDS:
            return True
        if word in FALSE_WORDS:
            return False
        raise ValueError(value)
    if to is int:
        number = _number(value)
        if number != int(number):
            raise ValueError(value)
        return int(number)
    if to is float:
        return _number(value)
    if to is str:
        if isinstance(value, (dict, list)):
            raise ValueError(value)
        return str(value)
    raise TypeError(f"an option cannot have the type {to}")
