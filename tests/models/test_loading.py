"""Loading: real folders, random weights, and what is refused."""

import json
import shutil

import pytest
import torch

from swiftlite.config.errors import UserError
from swiftlite.models.load import load_config, load_model, load_tokenizer
from swiftlite.models.registry import find_model, model_names
from swiftlite.models.source import ModelSource

CPU = torch.device("cpu")


def test_a_folder_loads_to_the_logits_transformers_gives(tiny_model):
    from transformers import LlamaForCausalLM

    source = ModelSource("x", path=tiny_model)
    model = load_model(source, load_config(source), torch.float32, CPU, "sdpa")
    ids = torch.arange(12)[None]
    assert torch.equal(model(ids).logits, LlamaForCausalLM.from_pretrained(tiny_model)(ids).logits)


def test_a_checkpoint_that_lacks_weights_is_refused(tiny_model, tmp_path):
    from safetensors.torch import load_file, save_file

    shutil.copytree(tiny_model, tmp_path / "m")
    weights = load_file(tiny_model / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, tmp_path / "m" / "model.safetensors", {"format": "pt"})
    source = ModelSource("m", path=tmp_path / "m")
    with pytest.raises(UserError, match=r"model\.norm\.weight"):
        load_model(source, load_config(source), torch.float32, CPU, "sdpa")


def test_remote_code_in_a_folder_is_not_run(tiny_model, tmp_path):
    folder = tmp_path / "m"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "unheard-of", "auto_map": {"AutoConfig": "evil.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(UserError):
        load_config(ModelSource("m", path=folder))
    assert not (tmp_path / "ran").exists()


def test_dummy_weights_repeat_by_seed_and_differ_between_seeds(tiny_model):
    def draw(seed):
        source = ModelSource("m", path=tiny_model, dummy_seed=seed)
        return load_model(source, load_config(source), torch.float32, CPU, "sdpa").lm_head.weight

    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))


def test_nano_ties_its_head_and_answers_finitely():
    entry = find_model("nano")
    source = ModelSource("nano", entry, path=__import__("pathlib").Path(entry.folder), dummy_seed=0)
    model = load_model(source, load_config(source), torch.float32, CPU, "sdpa")
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert torch.isfinite(model(torch.arange(8)[None]).logits).all()


def test_a_tokenizer_larger_than_the_embedding_is_refused(tiny_model):
    with pytest.raises(UserError, match="only 100 rows"):
        load_tokenizer(ModelSource("x", path=tiny_model), 100, [])


def test_a_shape_without_a_tokenizer_uses_nanos_and_says_so():
    notes: list[str] = []
    tokenizer = load_tokenizer(ModelSource("q", find_model("qwen-7b-chat"), dummy_seed=0), 151936, notes)
    assert len(tokenizer) == 4096 and "nano's" in notes[0]


@pytest.mark.parametrize("name", [n for n in model_names() if "rope_theta" in find_model(n).shape])
def test_every_registered_shape_keeps_its_rope_base(name):
    entry = find_model(name)
    config = load_config(ModelSource(name, entry, dummy_seed=0))
    assert config.rope_parameters["rope_theta"] == entry.shape["rope_theta"]


def test_a_family_names_the_template_of_a_folder_without_one(tmp_path):
    from transformers import AutoTokenizer

    from swiftlite.models.families.nano import FOLDER
    from swiftlite.models.load import template_of

    source = ModelSource("q", find_model("qwen-7b-chat"), dummy_seed=0)
    config = load_config(source)
    tokenizer = AutoTokenizer.from_pretrained(FOLDER)
    bare = ModelSource("q", path=tmp_path)
    assert template_of(bare, config, tokenizer) is None, "nano's tokenizer brings its own"
    tokenizer.chat_template = None
    assert template_of(bare, config, tokenizer) == "qwen"
