"""`swiftlite export --merge_lora true`: a folder that transformers opens alone and that says what the adapter said."""

import json

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from swiftlite.config.errors import UserError
from swiftlite.export.config import ExportConfig
from swiftlite.export.run import run_export
from swiftlite.infer.config import InferConfig
from swiftlite.infer.engine import Engine
from swiftlite.train.config import SftConfig
from swiftlite.train.sft import run_sft


@pytest.fixture(scope="module")
def trained(tiny_model, tiny_data, tmp_path_factory):
    """A DoRA run on a base in fp8; returns its folder."""
    config = SftConfig(
        model=str(tiny_model),
        dataset=str(tiny_data),
        output_dir=str(tmp_path_factory.mktemp("out")),
        max_steps=3,
        use_dora=True,
        quant_method="fp8",
        learning_rate=1e-2,
        add_tokens=["<|new|>"],
        cache_dir=str(tmp_path_factory.mktemp("cache")),
    )
    return run_sft(config).run


def test_the_merged_folder_says_what_the_adapter_says(trained, tiny_model, capsys):
    result = run_export(ExportConfig(ckpt_dir=str(trained), merge_lora=True))
    assert result.path == trained / "final-merged"
    ids = torch.arange(30)[None]
    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    base.resize_token_embeddings(len(AutoTokenizer.from_pretrained(trained / "final")))
    expected = PeftModel.from_pretrained(base, trained / "final").eval()(ids).logits
    found = AutoModelForCausalLM.from_pretrained(result.path)(ids).logits
    assert (found - expected)[..., :4096].abs().max() < 1e-4
    said = capsys.readouterr().err
    assert "merged: max |logits difference|" in said and "against the fp8 base" in said
    # e4m3 is not what was merged into, and still near.
    assert result.agreement.largest < 1e-4 < result.quantised.largest and result.quantised.kl < 0.01


def test_infer_opens_it_by_its_path_alone(trained):
    path = run_export(ExportConfig(ckpt_dir=str(trained), merge_lora=True, output_dir=str(trained / "whole"))).path
    whole = Engine.load(InferConfig(ckpt_dir=str(path), device="cpu"))
    apart = Engine.load(InferConfig(ckpt_dir=str(trained), device="cpu"))
    question = [{"role": "user", "content": "Count to 3 please."}]
    assert whole.template.name == apart.template.name and whole.stop_ids == apart.stop_ids
    assert whole.encode(question) == apart.encode(question)
    card = json.loads((path / "swiftlite.json").read_text())
    assert card["adapter"] is False and card["merged"]["agreement"]["before"]["largest"] < 1e-4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"merge_lora": False}, "nothing to export"),
        ({"merge_lora": True, "model": "nano"}, "nano comes without an adapter"),
        ({"merge_lora": True, "output_dir": "."}, "--output_dir: . exists"),
    ],
)
def test_what_cannot_be_exported_is_refused(trained, settings, words):
    with pytest.raises(UserError, match=words):
        run_export(ExportConfig(**({"ckpt_dir": str(trained)} if "model" not in settings else {}), **settings))
