"""How a command's settings come together: preset < recipe < flags, one flat name a setting, typed parts inside."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml

from swiftlite.config.aliases import NAMES, Given, Spelled, spell
from swiftlite.config.errors import UsageError, UserError
from swiftlite.config.options import Option, closest, options_of
from swiftlite.config.plugin import load_plugins


@dataclasses.dataclass(frozen=True)
class Layer:
    """Settings from one place (`source` is shown in the run's header), as the user wrote them."""

    source: str
    given: list[Given]

    def plugins(self) -> list[str]:
        """The files of `--plugin`, in any spelling: they may bring the options that the rest is read by."""
        values = [g.value for g in self.given if NAMES.get(g.name, g.name) == "plugin"]
        return [str(path) for value in values for path in (value if isinstance(value, list) else [value])]

    @classmethod
    def of(cls, source: str, values: dict[str, Any]) -> "Layer":
        return cls(source, [Given(name, value, name) for name, value in values.items()])


class CommandConfig:
    """The settings of one command; subclasses name their parts (dataclasses of options).

    `SftConfig(model="nano", lora_rank=8)` takes the same names, spellings and values as the flags do and
    fails with the same sentences. Inside, settings are grouped: `config.data.max_length`.
    """

    command: ClassVar[str]
    parts: ClassVar[dict[str, type]]
    presets: ClassVar[dict[str, dict[str, Any]]] = {}

    def __init__(self, **values: Any):
        self._build([Layer.of("python", values)])

    @classmethod
    def from_layers(cls, layers: Iterable[Layer]) -> Self:
        """A config from several places; a later layer wins over an earlier one.

        Raises:
            UsageError: an unknown name, a value of the wrong type, two spellings that disagree.
            UserError: values that cannot go together.
        """
        self = cls.__new__(cls)
        self._build(list(layers))
        return self

    @classmethod
    def all_parts(cls) -> dict[str, type]:
        """Part name -> dataclass, with those that plugins registered."""
        return cls.parts

    @classmethod
    def options(cls) -> dict[str, Option]:
        """Every option of this command by name."""
        return {o.name: o for part, kind in cls.all_parts().items() for o in options_of(part, kind)}

    @classmethod
    def expand(cls, layers: list[Layer]) -> list[Layer]:
        """The layers with those that a setting brings along (a run to go on with brings its own settings)."""
        return layers

    def _build(self, layers: list[Layer]) -> None:
        layers = self.expand(layers)
        for layer in layers:
            load_plugins(layer.plugins())
        options = self.options()
        spelled = [(layer.source, spell(layer.given, options, self.command)) for layer in layers]
        preset = next((s.values["preset"] for _, s in reversed(spelled) if "preset" in s.values), None)
        if preset in self.presets:
            spelled.insert(0, (f"preset {preset}", Spelled(dict(self.presets[preset]))))
        values: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.notices: list[str] = []
        self.not_yet: dict[str, str] = {}
        for source, layer in spelled:
            for name, value in layer.values.items():
                values[name] = options[name].read(value)
                self.sources[name] = source
            self.notices += layer.notices
            self.not_yet |= layer.not_yet
        for part, kind in self.all_parts().items():
            mine = {f.name: values[f.name] for f in dataclasses.fields(kind) if f.name in values}
            setattr(self, part, kind(**mine))
        self.check()

    def check(self) -> None:
        """Raises a UserError for values that cannot be right; parts check themselves, commands the rest."""
        for part in self.all_parts():
            getattr(self, part).check()

    def refuse_not_yet(self) -> None:
        """Raises a UserError when a known ms-swift flag asks for something this version does not do."""
        for sentence in self.not_yet.values():
            raise UserError(sentence)

    def to_dict(self) -> dict[str, Any]:
        """Every setting by its flat name, in the order of `--help_all`."""
        return {name: getattr(getattr(self, o.part), name) for name, o in self.options().items()}

    def non_default(self) -> dict[str, tuple[Any, str]]:
        """Settings that were asked for and differ from the default: name -> (value, source)."""
        options, current = self.options(), self.to_dict()
        return {n: (current[n], s) for n, s in self.sources.items() if current[n] != options[n].default}

    def set(self, name: str, value: Any) -> None:
        """Replaces one setting, for `auto` values that a run has decided."""
        setattr(getattr(self, self.options()[name].part), name, value)

    def to_yaml(self) -> str:
        """The resolved settings as a recipe: running it repeats the run."""
        lines = []
        for part, kind in self.all_parts().items():
            values = {f.name: getattr(getattr(self, part), f.name) for f in dataclasses.fields(kind)}
            if values:
                text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
                lines.append(f"# {part}\n{text}")
        return "\n".join(lines)


def read_recipe(path: str | Path) -> Layer:
    """A YAML (or JSON) recipe as a layer: flat names and values, nothing else.

    Raises:
        UsageError: the file is missing, is no YAML, or is no flat list of settings.
    """
    path = Path(path)
    if not path.is_file():
        near = closest(path.name, [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else [])
        raise UsageError(f"recipe {path} does not exist{near}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"recipe {path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UsageError(f"recipe {path} must hold `name: value` lines, not a {type(content).__name__}")
    return Layer.of(str(path), {str(name): value for name, value in content.items()})


class _UniqueKeys(yaml.SafeLoader):
    """YAML whose second `name:` is an error; plain YAML lets the last one win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = [key.value for key, _ in node.value]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"'{name}' stands twice", node.start_mark)
        return super().construct_mapping(node, deep)
