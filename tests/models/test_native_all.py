"""Qwen-1, ChatGLM3, Baichuan2 7B and 13B: exact from original files, in batches, packed, cached, saved."""

import functools
import json

import pytest
import torch
import torch.nn.functional as F

from swiftlite.config.errors import UserError
from swiftlite.measure.flops import model_flops
from swiftlite.models.load import load_config, load_model
from swiftlite.models.native import register_native
from swiftlite.models.source import ModelSource
from swiftlite.tuners.lora.targets import embedding_name, linear_names
from tests.models.native_originals import (
    BUFFERS,
    CONFIGS,
    DIM,
    FFN,
    GROUPS,
    HEADS,
    LAYERS,
    VOCAB,
    H,
    random_weights,
    write_original,
)
from tests.models.native_reference import reference

CPU = torch.device("cpu")
OPTIONS = {"qwen": {}, "chatglm": {"base": 500000.0}, "baichuan-7b": {}, "baichuan-13b": {}}
every_model = pytest.mark.parametrize("kind", CONFIGS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("originals")
    return {kind: write_original(root / kind, kind) for kind in CONFIGS}


def load(folder, attention="sdpa"):
    source = ModelSource("m", path=folder)
    return load_model(source, load_config(source), torch.float32, CPU, attention).eval()


@pytest.fixture(scope="module")
def models(folders):
    """A function that gives a model to read from, loaded once; `load` gives one to change."""
    return functools.cache(lambda kind, attention="sdpa": load(folders[kind], attention))


def ids_of(*lengths):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(3, VOCAB, (n,), generator=generator) for n in lengths]


def close(a, b):
    return (a - b).abs().max() < 2e-5


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@every_model
def test_logits_of_an_original_checkpoint_are_those_of_the_formulas(models, kind, attention):
    row = ids_of(15)[0]
    expected = reference(kind, random_weights(kind), row, **OPTIONS[kind])
    assert expected.std() > 0.5
    assert close(models(kind, attention)(row[None]).logits[0], expected)


@every_model
def test_gradients_are_those_of_the_formulas(folders, kind):
    """So also through NormHead's normalisation."""
    row = ids_of(9)[0]
    model = load(folders[kind]).train()
    model(row[None], labels=row[None]).loss.backward()
    weights = {name: w.requires_grad_() for name, w in random_weights(kind).items()}
    F.cross_entropy(reference(kind, weights, row, **OPTIONS[kind])[:-1], row[1:]).backward()
    for name, parameter in model.named_parameters():
        assert close(parameter.grad, weights[name].grad), name


@every_model
def test_code_in_the_folder_is_neither_run_nor_asked_about(folders, kind, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    assert type(load(folders[kind])).__module__.startswith("swiftlite.")
    assert not (folders[kind] / "ran").exists()


@every_model
def test_saving_gives_back_the_original_keys_values_and_settings(folders, kind, tmp_path):
    from safetensors.torch import load_file

    load(folders[kind]).save_pretrained(tmp_path)
    saved, weights = load_file(tmp_path / "model.safetensors"), random_weights(kind)
    assert saved.keys() == weights.keys() and all(torch.equal(saved[name], weights[name]) for name in saved)
    settings = json.loads((tmp_path / "config.json").read_text())
    changed = {"transformers_version", "torch_dtype", "architectures", "gradient_checkpointing", "_from_model_config"}
    assert {k: settings.get(k) for k in CONFIGS[kind] if k not in changed} == {
        k: v for k, v in CONFIGS[kind].items() if k not in changed
    }
    row = ids_of(10)[0][None]
    assert torch.equal(load(tmp_path)(row).logits, load(folders[kind])(row).logits)


@every_model
def test_only_the_known_buffers_may_be_left_over(folders, kind, tmp_path):
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    register_native()
    unknown = {"transformer.surprise": torch.ones(1)}
    write_original(tmp_path, kind)
    save_file(random_weights(kind) | BUFFERS[kind] | unknown, tmp_path / "model.safetensors", {"format": "pt"})
    _, report = AutoModelForCausalLM.from_pretrained(tmp_path, output_loading_info=True, trust_remote_code=False)
    assert set(report["unexpected_keys"]) == set(unknown)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@every_model
def test_documents_packed_into_a_row_do_not_see_each_other(models, kind, attention, training):
    model = models(kind, attention).train(training)
    parts = ids_of(7, 12, 4)
    positions = torch.cat([torch.arange(len(p)) for p in parts])
    row = {"input_ids": torch.cat(parts)[None], "position_ids": positions[None]}
    packed, cached = (model(**row, use_cache=use).logits[0] for use in (False, True))
    alone = torch.cat([model(p[None]).logits[0] for p in parts])
    model.eval()
    assert close(packed, alone) and close(cached, alone)


@every_model
def test_padding_on_either_side_changes_nothing(models, kind):
    model = models(kind)
    short, long = ids_of(5, 9)
    alone = model(short[None]).logits[0]
    for side in (slice(0, 5), slice(4, 9)):
        ids, mask = torch.full((2, 9), 1), torch.zeros(2, 9, dtype=torch.long)
        ids[0, side], mask[0, side], ids[1], mask[1] = short, 1, long, 1
        logits = model(ids, attention_mask=mask).logits
        assert close(logits[0, side], alone) and close(logits[1], model(long[None]).logits[0])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@every_model
def test_generation_with_a_cache_and_left_padding_equals_that_of_each_row_without(models, kind, attention):
    model = models(kind, attention)
    short, long = ids_of(4, 8)
    settings = {"max_new_tokens": 7, "min_new_tokens": 7, "do_sample": False, "pad_token_id": 0}
    batch = torch.stack([F.pad(short, (4, 0), value=0), long])
    mask = torch.stack([F.pad(torch.ones(4, dtype=torch.long), (4, 0)), torch.ones(8, dtype=torch.long)])
    written = model.generate(batch, attention_mask=mask, **settings)[:, 8:]
    for answer, prompt in zip(written, (short, long)):
        ids = prompt[None]
        alone = model.generate(ids, attention_mask=torch.ones_like(ids), use_cache=False, **settings)
        assert torch.equal(answer, alone[0, len(prompt) :])


@every_model
def test_gradient_checkpointing_gives_the_same_gradients(folders, kind):
    row = ids_of(9)[0][None]
    gradients = []
    for checkpointing in (False, True):
        model = load(folders[kind]).train()
        if checkpointing:
            name = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"
            getattr(model, f"{name}_checkpointing_enable")({"use_reentrant": False})
            assert all(layer.gradient_checkpointing for layer in model.base_model.decoder_layers())
        model(row, labels=row, use_cache=False).loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    assert all(torch.equal(gradients[0][n], gradients[1][n]) for n in gradients[0])


@every_model
def test_logits_of_chosen_positions_only(models, kind):
    model, row = models(kind), ids_of(9)[0][None]
    assert torch.allclose(model(row, logits_to_keep=2).logits, model(row).logits[:, -2:], atol=1e-5)


@every_model
def test_hidden_states_and_attentions_on_request(models, kind):
    model, row = models(kind, "eager"), ids_of(9)[0][None]
    out = model(row, output_hidden_states=True, output_attentions=True)
    assert len(out.hidden_states) == LAYERS + 1 and len(out.attentions) == LAYERS
    assert torch.equal(model.get_output_embeddings()(out.hidden_states[-1]), out.logits)
    assert close(out.attentions[0].sum(-1), torch.ones(1, HEADS, 9))


@every_model
def test_resizing_keeps_the_old_rows_and_the_kind_of_head(folders, kind):
    model, row = load(folders[kind]), ids_of(9)[0][None]
    before, head = model(row).logits, type(model.get_output_embeddings())
    model.resize_token_embeddings(VOCAB + 3, mean_resizing=False)
    assert model.get_input_embeddings().num_embeddings == model.config.vocab_size == VOCAB + 3
    assert type(model.get_output_embeddings()) is head
    assert torch.equal(model(row).logits[..., :VOCAB], before)


@every_model
def test_the_flops_formula_reads_them(models, kind):
    flops = model_flops(models(kind))
    rows = (HEADS + 2 * (GROUPS if kind == "chatglm" else HEADS)) * DIM
    assert flops.trained == LAYERS * (rows * H + H * HEADS * DIM + 3 * H * FFN) + VOCAB * H
    assert [layer.dim for layer in flops.attention] == [HEADS * DIM] * LAYERS


@pytest.mark.parametrize(
    ("kind", "names", "embedding"),
    [
        ("qwen", ["c_attn", "c_proj", "w1", "w2"], "wte"),
        ("chatglm", ["dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value"], "word_embeddings"),
        ("baichuan-7b", ["W_pack", "down_proj", "gate_proj", "o_proj", "up_proj"], "embed_tokens"),
    ],
)
def test_names_for_adapters_are_the_originals(models, kind, names, embedding):
    model = models(kind)
    assert (linear_names(model), embedding_name(model)) == (names, embedding)


@every_model
def test_an_adapter_has_the_originals_module_names(folders, kind, tmp_path):
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file

    target = {"qwen": "c_attn", "chatglm": "query_key_value"}.get(kind, "W_pack")
    model = get_peft_model(load(folders[kind]), LoraConfig(target_modules=[target], task_type="CAUSAL_LM"))
    model.save_pretrained(tmp_path)
    modules = {key.split(".lora_")[0] for key in load_file(tmp_path / "adapter_model.safetensors")}
    fused = [name for name in random_weights(kind) if name.endswith(f"{target}.weight")]
    assert modules == {"base_model.model." + name.removesuffix(".weight") for name in fused}


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("chatglm", {"position_encoding_2d": True}, "ChatGLM 1"),
        ("chatglm", {"quantization_bit": 4}, "quantization_bit is 4"),
        ("chatglm", {"multi_query_attention": False}, "multi_query_attention is False"),
        ("baichuan-7b", {"vocab_size": 64000}, "Baichuan 1"),
    ],
)
def test_relatives_that_compute_otherwise_are_refused(tmp_path, kind, changes, words):
    with pytest.raises(UserError, match=words):
        load_config(ModelSource("m", path=write_original(tmp_path, kind, **changes)))
