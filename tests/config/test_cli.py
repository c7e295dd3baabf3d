"""The command line as a user meets it: exit codes, one sentence, no heavy imports for help."""

import subprocess
import sys
import textwrap

import pytest

from swiftlite.cli import main
from swiftlite.tuners import registry


def run(capsys, *argv: str) -> tuple[int, str, str]:
    code = main(list(argv))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_no_arguments_shows_the_commands_and_fails(capsys):
    code, out, _ = run(capsys)
    assert code == 2 and "sft" in out


@pytest.mark.parametrize("command", ["sft", "pt", "infer", "eval", "check", "doctor"])
def test_every_command_shows_all_its_flags(capsys, command):
    assert main([command, "--help_all"]) == 0
    assert "--seed" in capsys.readouterr().out


def test_an_unknown_command_names_the_closest(capsys):
    code, _, err = run(capsys, "stf")
    assert code == 2 and "did you mean sft?" in err and err.count("\n") == 1


@pytest.mark.parametrize("argv", [("sft", "--lora_rnk", "8"), ("sft", "--lora_rank", "x"), ("infer", "--modl", "x")])
def test_unreadable_flags_exit_with_2_and_one_line(capsys, argv):
    code, out, err = run(capsys, *argv)
    assert code == 2 and not out and err.count("\n") == 1


@pytest.mark.parametrize("argv", [("sft", "--model", "nano", "--dataset", "demo", "--lora_rank", "-3"), ("sft",)])
def test_impossible_values_exit_with_1_and_one_line(capsys, argv):
    code, out, err = run(capsys, *argv)
    assert code == 1 and not out and err.count("\n") == 1


def test_print_config_prints_a_recipe_and_stops(capsys):
    code, out, _ = run(capsys, "sft", "--model", "nano", "--dataset", "demo", "--print_config")
    assert code == 0 and "sft_type: lora" in out


def test_a_plugins_tuner_and_its_flags_can_be_used(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(registry, "_TUNERS", dict(registry._TUNERS))
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        textwrap.dedent(
            """
            from dataclasses import dataclass
            from swiftlite.config.options import option
            from swiftlite.tuners.registry import TunerEntry, register_tuner

            @dataclass
            class PluginOptions:
                plugin_strength: int = option(3, "how much")
                def check(self): pass

            register_tuner(TunerEntry("mine", "mine:Mine", PluginOptions))
            """
        )
    )
    argv = ["sft", "--plugin", str(plugin), "--model", "nano", "--dataset", "demo", "--sft_type", "mine"]
    code, out, err = run(capsys, *argv, "--plugin_strength", "9", "--print_config")
    assert code == 0 and "plugin_strength: 9" in out, err


def test_a_missing_plugin_is_one_sentence(capsys):
    code, _, err = run(capsys, "sft", "--plugin", "nowhere.py", "--model", "nano", "--dataset", "demo")
    assert code == 1 and "--plugin nowhere.py" in err


def test_help_and_print_config_import_nothing_heavy():
    program = (
        "import sys; from swiftlite.cli import main\n"
        "main(['--help']); main(['sft', '--help_all']); main(['infer', '--help'])\n"
        "main(['sft', '--model', 'nano', '--dataset', 'demo', '--print_config'])\n"
        "heavy = {'torch', 'transformers', 'peft', 'datasets', 'pyarrow', 'numpy', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, timeout=60)
