"""Several adapters on one base: each answers as it does alone, by name, and so does the base."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model

from swiftlite.config.errors import UserError
from swiftlite.infer.config import InferConfig
from swiftlite.infer.engine import Engine
from swiftlite.infer.run import run_infer
from swiftlite.infer.sampling import Sampling
from swiftlite.models.config import ModelConfig
from swiftlite.models.source import CARD, resolve_model
from tests.infer.conftest import ask

GREEDY = Sampling(max_new_tokens=6)


@pytest.fixture(scope="module")
def folders(adapter, tmp_path_factory):
    """A LoRA adapter called v0, and a DoRA one of the same training called other."""
    folder = tmp_path_factory.mktemp("second") / "other"
    base = Engine.load(InferConfig(model="nano", device="cpu"))
    torch.manual_seed(9)
    settings = {"r": 4, "lora_alpha": 32, "target_modules": ["q_proj", "o_proj"], "init_lora_weights": False}
    model = get_peft_model(base.model, LoraConfig(task_type="CAUSAL_LM", use_dora=True, **settings))
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / CARD).write_text((adapter / CARD).read_text())
    return [str(adapter), str(folder)]


@pytest.fixture(scope="module")
def alone(folders):
    """The answer of each alone, by name."""
    found = {}
    for name, settings in (("v0", {"adapters": folders[:1]}), ("other", {"adapters": folders[1:]}), ("base", {})):
        engine = Engine.load(InferConfig(model="nano", device="cpu", system="Be brief.", **settings))
        found[name] = engine.generate([ask("Why?")], GREEDY)[0].text
    assert len(set(found.values())) == 3
    return found


@pytest.fixture
def several(folders):
    return Engine.load(InferConfig(model="nano", device="cpu", adapters=folders))


def test_each_answers_as_it_does_alone_in_one_batch(several, alone):
    names = ["other", "base", "v0", None, "other"]
    answers = several.generate([ask("Why?")] * 5, GREEDY, adapters=names)
    assert [answer.text for answer in answers] == [alone[name or "v0"] for name in names]
    assert "adapters: v0, other, or base for none; v0 answers unless another is named" in several.header


def test_a_chat_changes_to_another(several, alone):
    assert several.choose_adapter("othr").startswith("no adapter othr; did you mean other?")
    several.choose_adapter("other")
    assert "".join(several.stream(ask("Why?"), GREEDY)) == alone["other"]
    assert several.choose_adapter("base") == "(base answers; there are: v0, other, base)"
    assert "".join(several.stream(ask("Why?"), GREEDY)) == alone["base"]


def test_rows_of_a_file_name_theirs(folders, alone, tmp_path):
    rows = [{"query": "Why?", "adapter": "other"}, {"query": "Why?"}, {"query": "Why?", "adapter": "base"}]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"infer_dataset": str(tmp_path / "in.jsonl"), "result_path": str(tmp_path / "out.jsonl")}
    run_infer(InferConfig(model="nano", device="cpu", max_new_tokens=6, adapters=folders, **settings))
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["adapter"] for row in found] == ["other", "v0", "base"]
    assert [row["response"] for row in found] == [alone[row["adapter"]] for row in found]


def test_a_row_that_names_an_unknown_one_is_refused(folders, tmp_path):
    (tmp_path / "in.jsonl").write_text(json.dumps({"query": "Why?", "adapter": "thrid"}) + "\n")
    config = InferConfig(model="nano", device="cpu", infer_dataset=str(tmp_path / "in.jsonl"), adapters=folders)
    with pytest.raises(UserError, match=r"in\.jsonl.*there is no adapter 'thrid'; expected one of v0, other, base"):
        run_infer(config)


def test_names_are_those_of_runs_or_given(folders):
    source = resolve_model(ModelConfig(model="nano", adapters=[folders[0], f"b={folders[1]}"]), 0)
    assert list(source.adapters) == ["v0", "b"]
    for wrong, words in (
        (folders[0], "'v0' is taken"),
        (f"base={folders[1]}", "not base"),
        (f"a.b={folders[1]}", "po"),
    ):
        with pytest.raises(UserError, match=words):
            resolve_model(ModelConfig(model="nano", adapters=[folders[0], wrong]), 0)


def test_adapters_of_unlike_trainings_cannot_answer_side_by_side(folders, tmp_path):
    changed = tmp_path / "changed"
    changed.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (changed / name).write_bytes((Path(folders[1]) / name).read_bytes())
    card = json.loads((Path(folders[1]) / CARD).read_text())
    (changed / CARD).write_text(json.dumps(card | {"system": "Rhyme."}))
    with pytest.raises(UserError, match=r"its system is 'Rhyme\.' and that of"):
        resolve_model(ModelConfig(model="nano", adapters=[folders[0], str(changed)]), 0)


def test_other_commands_take_one(folders):
    with pytest.raises(UserError, match="only infer takes several"):
        resolve_model(ModelConfig(model="nano", adapters=folders), 0).one_adapter()
    with pytest.raises(UserError, match="only infer takes several"):
        Engine.load(InferConfig(model="nano", adapters=folders, merge_lora=True))
