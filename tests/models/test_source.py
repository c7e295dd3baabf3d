"""What `--model` may name: folders, checkpoints, runs, registered names, hub ids."""

import json

import pytest

from swiftlite.config.errors import UserError
from swiftlite.models import registry
from swiftlite.models.config import ModelConfig
from swiftlite.models.registry import find_model
from swiftlite.models.source import resolve_model


def resolve(**settings):
    return resolve_model(ModelConfig(**settings), seed=7)


def test_a_local_folder(tiny_model):
    source = resolve(model=str(tiny_model))
    assert (source.name, source.path, source.dummy_seed) == ("tiny-llama", tiny_model, None)


def test_a_local_folder_with_random_weights(tiny_model):
    assert resolve(model=str(tiny_model), weights="dummy").dummy_seed == 7


def test_a_config_file_alone_gives_a_shape(tiny_model, tmp_path):
    (tmp_path / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    assert resolve(model=str(tmp_path / "config.json"), weights="dummy").path == tmp_path


def test_a_registered_name_as_model_or_as_model_type():
    assert resolve(model="qwen2.5-7b-instruct") == resolve(model_type="qwen2.5-7b-instruct")


def test_a_registered_shape_without_weights_says_how_to_go_on(monkeypatch):
    find_model("nano")  # the built-in rows are there before one is added
    monkeypatch.setitem(registry._MODELS, "shape-only", registry.ModelEntry("shape-only", "llama", {}))
    with pytest.raises(UserError, match="--weights dummy"):
        resolve(model_type="shape-only")


def test_a_registered_name_with_a_folder_is_a_hint_to_its_template(tiny_model):
    source = resolve(model=str(tiny_model), model_type="qwen-7b-chat")
    assert source.path == tiny_model and source.template == "qwen"


def test_a_hub_id_keeps_its_revision():
    source = resolve(model="owner/name", revision="main")
    assert (source.hub_id, source.revision) == ("owner/name", "main")


def test_an_adapter_names_its_base(tiny_model, tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tiny_model)}))
    source = resolve(model=str(tmp_path))
    assert (source.path, source.adapter) == (tiny_model, tmp_path)
    assert resolve(model=str(tiny_model), adapters=[str(tmp_path)]).adapter == tmp_path


@pytest.mark.parametrize(
    ("content", "words"),
    [({}, "neither config.json"), ({"adapter_config.json": "{}"}, "--adapters"), ({"run.yaml": ""}, "no checkpoint")],
)
def test_a_folder_that_holds_no_model_says_so(tmp_path, content, words):
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=words):
        resolve(model=str(tmp_path))


def test_a_run_folder_means_its_final_weights_or_its_newest_checkpoint(tiny_model, tmp_path):
    (tmp_path / "run.yaml").write_text("")
    for name in ("checkpoint-9", "checkpoint-10"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_bytes((tiny_model / "config.json").read_bytes())
    assert resolve(model=str(tmp_path)).path == tmp_path / "checkpoint-10"
    (tmp_path / "checkpoint-9").rename(tmp_path / "final")
    assert resolve(model=str(tmp_path)).path == tmp_path / "final"
