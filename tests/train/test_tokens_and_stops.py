"""Added tokens train only their rows; stop tokens reach the generation settings; untouched ones are noticed."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from swiftlite.config.errors import UserError
from swiftlite.infer.config import InferConfig
from swiftlite.infer.engine import Engine
from swiftlite.models.new_tokens import add_tokens, fit_embedding, untouched_tokens
from swiftlite.train.config import SftConfig
from swiftlite.train.sft import run_sft


@pytest.fixture(scope="module", params=["untied head", "tied head"])
def base(request, tiny_model, tmp_path_factory):
    """The tiny model, with its head tied to the embedding or not."""
    if request.param == "untied head":
        return tiny_model
    from transformers import LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tied") / "tiny-tied"
    config = AutoModelForCausalLM.from_pretrained(tiny_model).config
    config.tie_word_embeddings = True
    LlamaForCausalLM(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(folder)
    return folder


def test_only_the_rows_of_added_tokens_are_trained_and_infer_reads_them(base, tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({"query": "go <|new|>", "response": "<|new|> ok"}) + "\n")
    result = run_sft(
        SftConfig(
            model=str(base), dataset=str(data), add_tokens="<|new|>", lora_target_modules="q_proj", max_steps=4,
            gradient_accumulation_steps=1, learning_rate=0.05, output_dir=str(tmp_path), split_dataset_ratio=0,
        )
    )  # fmt: skip
    tied = AutoModelForCausalLM.from_pretrained(base).config.tie_word_embeddings
    saved = load_file(result.run / "final" / "adapter_model.safetensors")
    rows = {n: v for n, v in saved.items() if "token_adapter" in n or "trainable_tokens" in n}
    assert len(rows) == (1 if tied else 2) and all(v.shape == (1, 32) for v in rows.values()), list(saved)
    engine = Engine.load(InferConfig(ckpt_dir=str(result.run)))
    model = engine.model
    assert model.get_input_embeddings().weight.shape[0] == 4097
    head = model.get_output_embeddings()
    original = AutoModelForCausalLM.from_pretrained(base)
    ids = torch.arange(10)[None]
    assert head is not None and torch.isfinite(model(ids).logits).all()
    assert original.get_input_embeddings().weight.shape[0] == 4096


def test_a_token_that_exists_is_not_added_again(tiny_model):
    with pytest.raises(UserError, match="in the tokenizer already"):
        add_tokens(AutoTokenizer.from_pretrained(tiny_model), ["<|im_end|>"])


def test_new_rows_start_as_the_mean_and_old_rows_stay(base):
    model = AutoModelForCausalLM.from_pretrained(base)
    before = model.get_input_embeddings().weight.detach().clone()
    fit_embedding(model, 4098)
    weight = model.get_input_embeddings().weight
    assert torch.equal(weight[:4096], before)
    torch.testing.assert_close(weight[4096], before.mean(0))
    assert (model.get_output_embeddings().weight is weight) == model.config.tie_word_embeddings


def test_rows_that_training_never_reached_are_found():
    embedding = torch.nn.Embedding(1000, 16)
    with torch.no_grad():
        embedding.weight[5] *= 0.01
        embedding.weight[7] = embedding.weight[8]
    assert untouched_tokens(embedding, [3, 5, 7, 8]) == [5, 7, 8]


def test_the_trained_stop_token_ends_generation_in_plain_transformers(tiny_model, tiny_data, tmp_path):
    result = run_sft(
        SftConfig(model=str(tiny_model), dataset=str(tiny_data), sft_type="full", max_steps=1, output_dir=str(tmp_path))
    )
    stop = AutoTokenizer.from_pretrained(result.run / "final").convert_tokens_to_ids("<|im_end|>")
    model = AutoModelForCausalLM.from_pretrained(result.run / "final")
    assert stop in model.generation_config.eos_token_id
