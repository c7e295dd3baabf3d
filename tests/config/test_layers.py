"""Preset, recipe and flags: which wins, and that a printed recipe means the same again."""

import pytest

from swiftlite.config.argv import read_flags
from swiftlite.config.command import Layer, read_recipe
from swiftlite.config.errors import UsageError
from swiftlite.train.config import SftConfig


def flags(*words: str) -> Layer:
    return read_flags(list(words), SftConfig.options())


def test_flags_win_over_the_recipe_and_the_recipe_over_the_preset(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("preset: seed\nmodel: nano\ndataset: demo\nmax_grad_norm: 2\nbatch_size: 4\n")
    config = SftConfig.from_layers([read_recipe(recipe), flags("--batch_size", "8")])
    assert config.optim.batch_size == 8
    assert config.optim.max_grad_norm == 2
    assert config.optim.weight_decay == 0.01, "the seed preset's"
    assert config.sources["batch_size"] == "flag"
    assert config.sources["max_grad_norm"] == str(recipe)
    assert config.sources["weight_decay"] == "preset seed"


def test_the_printed_recipe_reads_back_to_the_same_settings(tmp_path):
    config = SftConfig(model="nano", dataset=["demo#50"], lora_rank=4, system="Be brief.", run_name=None)
    recipe = tmp_path / "run.yaml"
    recipe.write_text(config.to_yaml(), encoding="utf-8")
    assert SftConfig.from_layers([read_recipe(recipe)]).to_dict() == config.to_dict()


def test_python_takes_the_same_names_and_fails_with_the_same_sentence():
    assert SftConfig(model="nano", dataset="demo", train_type="full").tuner.sft_type == "full"
    with pytest.raises(UsageError, match="did you mean lora_rank"):
        SftConfig(model="nano", dataset="demo", lora_rnk=3)


def test_a_yaml_no_is_the_word_no(tmp_path):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("model: nano\ndataset: demo\nsave_strategy: no\n")
    assert SftConfig.from_layers([read_recipe(recipe)]).run.save_strategy == "no"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n- b\n", "name: value"),
        ("a: [1\n", "not valid YAML"),
        ("lora_rnk: 8\n", "did you mean lora_rank"),
        ("lora_rank: eight\n", "a whole number"),
        ("batch_size: [1, 2]\n", "--batch_size"),
        ("batch_size: {a: 1}\n", "--batch_size"),
    ],
)
def test_a_bad_recipe_is_one_sentence(tmp_path, text, words):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("model: nano\ndataset: demo\n" * text.startswith(("lora", "batch")) + text)
    with pytest.raises(UsageError, match=words):
        SftConfig.from_layers([read_recipe(recipe)])


def test_a_missing_recipe_names_the_closest_file(tmp_path):
    (tmp_path / "lora.yaml").write_text("")
    with pytest.raises(UsageError, match=r"lara\.yaml does not exist; did you mean lora\.yaml"):
        read_recipe(tmp_path / "lara.yaml")


def test_flag_names_are_unique_over_all_parts():
    names = [f for part in SftConfig.all_parts().values() for f in part.__dataclass_fields__]
    assert len(names) == len(set(names))


def test_the_default_help_stays_within_its_budget_of_120_flags():
    assert sum(not o.rare for o in SftConfig.options().values()) <= 120
