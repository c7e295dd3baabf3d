"""What a tuner freezes, groups and refuses, on a tiny model."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from swiftlite.config.errors import UserError
from swiftlite.train.config import SftConfig
from swiftlite.tuners.registry import make_tuner


def tuned(tiny_model, **settings):
    config = SftConfig(model=str(tiny_model), dataset="demo", **settings)
    tuner = make_tuner(config.tuner.sft_type, config)
    return tuner, tuner.apply(AutoModelForCausalLM.from_pretrained(tiny_model))


def trained_names(model) -> set[str]:
    return {n for n, p in model.named_parameters() if p.requires_grad}


def test_full_freezes_by_prefix_and_trainable_wins(tiny_model):
    _, model = tuned(
        tiny_model, sft_type="full", freeze_parameters=["model."], trainable_parameters=["model.layers.1."]
    )
    assert trained_names(model) == {
        n for n, _ in model.named_parameters() if n.startswith(("model.layers.1.", "lm_head"))
    }


def test_full_freezes_by_pattern(tiny_model):
    _, model = tuned(tiny_model, sft_type="full", freeze_parameters_regex=r"layers\.0|embed")
    assert not any("layers.0" in n or "embed" in n for n in trained_names(model))


def test_what_is_trainable_by_pattern_stays_so_whatever_freezes_it(tiny_model):
    _, model = tuned(
        tiny_model,
        sft_type="full",
        freeze_parameters_ratio=0.9,
        trainable_parameters_regex=r"layers\.0\..*q_proj|embed",
    )
    assert {"model.layers.0.self_attn.q_proj.weight", "model.embed_tokens.weight"} <= trained_names(model)
    assert "model.layers.0.self_attn.k_proj.weight" not in trained_names(model)


def test_a_number_is_the_share_that_ms_swift_2_froze(tiny_model):
    config = SftConfig(model=str(tiny_model), dataset="demo", sft_type="full", freeze_parameters="0.5")
    assert config.tuner.freeze_parameters_ratio == 0.5 and config.tuner.freeze_parameters == []


def test_new_tokens_need_the_embedding(tiny_model):
    for settings in ({"freeze_parameters": ["model.embed"]}, {"sft_type": "adapter"}, {"sft_type": "llamapro"}):
        config = SftConfig(model=str(tiny_model), dataset="demo", **({"sft_type": "full"} | settings))
        with pytest.raises(UserError, match="--add_tokens"):
            make_tuner(config.tuner.sft_type, config).apply(AutoModelForCausalLM.from_pretrained(tiny_model), [3])


def test_full_freezes_the_first_share_of_elements(tiny_model):
    _, model = tuned(tiny_model, sft_type="full", freeze_parameters_ratio=0.5)
    parameters = list(model.named_parameters())
    half, seen = sum(p.numel() for _, p in parameters) / 2, 0
    expected = set()
    for name, parameter in parameters:
        seen += parameter.numel()
        if seen > half:
            expected.add(name)
    assert trained_names(model) == expected


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"lora_target_modules": "q_porj"}, "did you mean q_proj"),
        ({"target_regex": "nothing"}, "--target_regex"),
        ({"target_regex": "("}, "not a regular expression"),
        ({"lora_modules_to_save": "hed"}, "--lora_modules_to_save"),
        ({"sft_type": "full", "freeze_parameters": ["modle."]}, "--freeze_parameters"),
        ({"sft_type": "full", "freeze_parameters_regex": "zzz"}, "--freeze_parameters_regex"),
        ({"sft_type": "full", "trainable_parameters_regex": "zzz"}, "--trainable_parameters_regex"),
        ({"sft_type": "full", "freeze_parameters_ratio": 1.0}, "no parameter to train"),
    ],
)
def test_what_matches_nothing_is_refused(tiny_model, settings, words):
    with pytest.raises(UserError, match=words):
        tuned(tiny_model, **settings)


def test_lora_plus_trains_b_faster_than_a(tiny_model):
    tuner, model = tuned(tiny_model, lora_lr_ratio=16)
    groups = tuner.parameter_groups(model, 1e-4, 0.1)
    rates = {id(p): g["lr"] for g in groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert rates[id(parameter)] == pytest.approx(16e-4 if "lora_B" in name else 1e-4)


def test_lora_plus_has_the_groups_of_pefts(tiny_model):
    from peft.optimizers import create_loraplus_optimizer

    tuner, model = tuned(tiny_model, lora_lr_ratio=16, lora_target_modules=["ALL", "EMBEDDING"], lora_bias="all")
    theirs = create_loraplus_optimizer(model, torch.optim.AdamW, lr=1e-4, loraplus_lr_ratio=16)
    groups = tuner.parameter_groups(model, 1e-4, 0.0)
    rates, expected = (
        {id(p): g["lr"] for g in g_s for p in g["params"] if p.requires_grad} for g_s in (groups, theirs.param_groups)
    )
    assert rates == pytest.approx(expected) and len(set(rates.values())) == 3


def test_biases_and_norms_have_no_weight_decay(tiny_model):
    tuner, model = tuned(tiny_model, sft_type="full")
    groups = tuner.parameter_groups(model, 1e-4, 0.1)
    decays = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        assert decays[id(parameter)] == (0.0 if "norm" in name else 0.1)


def test_a_saved_adapter_goes_on_where_it_was(tiny_model, tmp_path):
    tuner, model = tuned(tiny_model, lora_rank=4)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    tuner.save(model, tmp_path)
    again = tuner.load(AutoModelForCausalLM.from_pretrained(tiny_model), tmp_path)
    ids = torch.arange(10)[None]
    assert torch.equal(model.eval()(ids).logits, again.eval()(ids).logits)
    assert trained_names(again) == trained_names(model)
