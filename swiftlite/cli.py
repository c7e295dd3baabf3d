"""`swiftlite COMMAND [RECIPE.yaml] [--flags]`: finds the command, reads its settings, runs it."""

import importlib
import sys
import warnings
from dataclasses import dataclass

from swiftlite import __version__
from swiftlite.config.errors import UsageError, UserError
from swiftlite.config.options import closest


@dataclass(frozen=True)
class Command:
    """Where a command's settings and its function live; imported only when it is called."""

    summary: str
    config: str
    run: str


COMMANDS = {
    "sft": Command(
        "Fine-tune a model on conversations.",
        "swiftlite.train.config:SftConfig",
        "swiftlite.train.sft:run_sft",
    ),
    "pt": Command(
        "Pre-train a model on plain text, from scratch or going on; train a tokenizer.",
        "swiftlite.train.config:PtConfig",
        "swiftlite.train.pt:run_pt",
    ),
    "check": Command(
        "Say what a run would read, train on and cost, and check it, without starting it.",
        "swiftlite.train.config:CheckConfig",
        "swiftlite.train.check:run_check",
    ),
    "doctor": Command(
        "Say what runs on this machine and what to install for the rest.",
        "swiftlite.speed.config:DoctorConfig",
        "swiftlite.speed.doctor:run_doctor",
    ),
    "infer": Command(
        "Chat with a model, or answer a file of prompts.",
        "swiftlite.infer.config:InferConfig",
        "swiftlite.infer.run:run_infer",
    ),
    "eval": Command(
        "Score a model on questions with known answers.",
        "swiftlite.evaluate.config:EvalConfig",
        "swiftlite.evaluate.run:run_eval",
    ),
    "export": Command(
        "Fold an adapter into its base: a model folder that any tool opens.",
        "swiftlite.export.config:ExportConfig",
        "swiftlite.export.run:run_export",
    ),
}


SWITCHES = {"h", "help", "help_all", "print_config"}


def main(argv: list[str] | None = None) -> int:
    """Runs one command line; returns the exit code (2: could not be read, 1: failed, 130: interrupted)."""
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except UserError as error:
        print(f"swiftlite: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("swiftlite: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1
    except OSError as error:
        # A disk that is full or taken away, wherever it shows.
        print(f"swiftlite: {error.strerror or error}: {error.filename or 'while writing'}", file=sys.stderr)
        return 1


def _run(argv: list[str]) -> int:
    for word in argv:
        if not word.isprintable() and "\udc80" <= max(word) <= "\udcff":
            raise UsageError(f"{word!a} is not valid UTF-8 text")
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(__version__)
        return 0
    name, rest = argv[0], argv[1:]
    if name not in COMMANDS:
        raise UsageError(f"no command '{name}'{closest(name, list(COMMANDS))} (see `swiftlite --help`)")
    return _run_command(COMMANDS[name], rest)


def _run_command(command: Command, argv: list[str]) -> int:
    from swiftlite.config.argv import read_flags
    from swiftlite.config.command import read_recipe
    from swiftlite.config.plugin import load_plugins

    config_class = _load(command.config)
    switches = {word.lstrip("-").replace("-", "_") for word in argv if word.startswith("-")} & SWITCHES
    argv = [w for w in argv if not (w.startswith("-") and w.lstrip("-").replace("-", "_") in SWITCHES)]
    layers = []
    if argv and not argv[0].startswith("-"):
        layers.append(read_recipe(argv.pop(0)))
    layers.append(read_flags(argv, config_class.options()))
    plugins = [path for layer in layers for path in layer.plugins()]
    if plugins:
        load_plugins(plugins)
        # They may have brought flags of their own, which say how many values they take.
        layers[-1] = read_flags(argv, config_class.options())
    if switches & {"h", "help", "help_all"}:
        from swiftlite.config.help import command_help

        print(command_help(config_class, command.summary, rare="help_all" in switches))
        return 0
    config = config_class.from_layers(layers)
    for notice in [*config.notices, *config.not_yet.values()]:
        print(f"note: {notice}", file=sys.stderr)
    if "print_config" in switches:
        print(config.to_yaml())
        return 0
    config.refuse_not_yet()
    # What transformers deprecates inside itself is nothing a user could mend.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    # PEFT's, at each answer; learned tokens get rows without padding, whose positions nobody need say.
    warnings.filterwarnings("ignore", message="Position ids are not supported", module="peft")
    result = _load(command.run)(config)
    return getattr(result, "exit_code", 0)


def _load(target: str):
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    rows = "\n".join(f"  {name:<{width}}  {c.summary}" for name, c in COMMANDS.items())
    return (
        "usage: swiftlite COMMAND [RECIPE.yaml] [--flags]\n\n"
        f"commands:\n{rows}\n\n"
        "`swiftlite COMMAND --help` lists the flags of a command; `--help_all` the rarer ones too."
    )


if __name__ == "__main__":
    sys.exit(main())
