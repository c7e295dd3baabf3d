"""LISA is manual unfreezing, layer by layer; its draws are the same everywhere; nothing else is touched."""

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from swiftlite.config.errors import UserError
from swiftlite.train.config import SftConfig
from swiftlite.train.sft import run_sft
from swiftlite.tuners.registry import make_tuner
from tests.children import run_sft_in_child, run_sft_in_ranks

LAYERS = 6
OUTER = ("model.embed_tokens", "model.norm", "lm_head")


def small_model() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": LAYERS, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=64, **sizes))


def lisa(model: nn.Module, **settings):
    settings = {"lisa_activated_layers": 2, "lisa_step_interval": 3} | settings
    config = SftConfig(model="nano", dataset="demo", sft_type="full", **settings)
    tuner = make_tuner("full", config)
    tuner.apply(model)
    return tuner


def loss_of(model: nn.Module, step: int) -> torch.Tensor:
    ids = torch.randint(64, (2, 8), generator=torch.Generator().manual_seed(step))
    return model(input_ids=ids, labels=ids).loss


def awake_names(model: nn.Module) -> set[str]:
    return {n for n, p in model.named_parameters() if p.requires_grad}


def train(tuner, model: nn.Module, steps: int) -> list[set[str]]:
    """What was awake in each step."""
    optimizer = torch.optim.AdamW(tuner.parameter_groups(model, 1e-2, 0.1))
    seen = []
    for step in range(steps):
        tuner.before_step(model, [optimizer], step)
        seen.append(awake_names(model))
        loss_of(model, step).backward()
        optimizer.step()
        optimizer.zero_grad()
    return seen


@pytest.mark.parametrize("keep", [False, True])
def test_lisa_is_manual_unfreezing_with_an_optimizer_for_each_weight(keep):
    model, reference = small_model(), small_model()
    awake = train(lisa(model, lisa_keep_states=keep), model, 12)
    assert len({frozenset(names) for names in awake}) > 2
    optimizers: dict[str, torch.optim.AdamW] = {}
    for step, names in enumerate(awake):
        before = {n: p.detach().clone() for n, p in reference.named_parameters()}
        for name, parameter in reference.named_parameters():
            parameter.requires_grad = name in names
            if name in names and name not in optimizers:
                decay = 0.1 if parameter.dim() > 1 else 0.0
                optimizers[name] = torch.optim.AdamW([parameter], lr=1e-2, weight_decay=decay)
        if not keep:
            optimizers = {n: o for n, o in optimizers.items() if n in names}
        loss_of(reference, step).backward()
        for name in names:
            optimizers[name].step()
            optimizers[name].zero_grad()
        changed = {n for n, p in reference.named_parameters() if not torch.equal(p, before[n])}
        assert changed == names
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, reference.get_parameter(name), rtol=0, atol=0)


def test_each_period_has_two_layers_and_all_that_lies_outside_layers():
    model = small_model()
    for step, names in enumerate(train(lisa(model), model, 9)):
        drawn = {n.split(".")[2] for n in names if n.startswith("model.layers.")}
        assert len(drawn) == 2, step
        whole = {
            n for n, _ in model.named_parameters() if n.startswith((*OUTER, *(f"model.layers.{d}." for d in drawn)))
        }
        assert names == whole


def test_a_draw_depends_on_seed_and_step_alone_and_reaches_every_layer():
    draws = []
    for noise, seed in ((1, 42), (2, 42), (1, 43)):
        model = small_model()
        torch.manual_seed(noise)
        tuner = lisa(model, seed=seed)
        draws.append([])
        for step in range(0, 120, 3):
            tuner.before_step(model, [], step)
            draws[-1].append(tuple(tuner.awake))
    assert draws[0] == draws[1] != draws[2]
    assert {number for draw in draws[0] for number in draw} == set(range(LAYERS))


def test_sleeping_layers_have_neither_gradients_nor_states():
    model = small_model()
    tuner = lisa(model)
    optimizer = torch.optim.AdamW(tuner.parameter_groups(model, 1e-2, 0.1))
    for step in range(9):
        tuner.before_step(model, [optimizer], step)
        loss_of(model, step).backward()
        optimizer.step()
        names = awake_names(model)
        assert {n for n, p in model.named_parameters() if p.grad is not None} == names
        assert {n for n, p in model.named_parameters() if p in optimizer.state} == names


def test_what_the_freeze_options_freeze_is_never_trained():
    model = small_model()
    tuner = lisa(model, freeze_parameters=["model.embed_tokens", "model.layers.0."], freeze_parameters_regex="mlp")
    names = set().union(*train(tuner, model, 90))
    assert names == {
        n for n in model.state_dict() if not n.startswith(("model.embed", "model.layers.0.")) and "mlp" not in n
    }


def test_more_layers_than_there_are_is_refused():
    with pytest.raises(UserError, match="--lisa_activated_layers: 7 layers of the 6"):
        lisa(small_model(), lisa_activated_layers=7)


def test_grouped_linears_which_would_never_learn_are_refused_and_off_by_default():
    with pytest.raises(UserError, match="--group_linears true"):
        SftConfig(model="nano", dataset="demo", sft_type="full", lisa_activated_layers=2, group_linears=True)


@pytest.fixture
def settings(tiny_model, tiny_data):
    return {
        "model": str(tiny_model),
        "dataset": [str(tiny_data)],
        "sft_type": "full",
        "lisa_activated_layers": 1,
        "lisa_step_interval": 2,
        "run_name": "r",
        "max_length": 64,
        "max_steps": 7,
        "learning_rate": 1e-2,
        "gradient_checkpointing": "off",
        "save_strategy": "no",
        "split_dataset_ratio": 0,
        "batch_size": 2,
        "gradient_accumulation_steps": 1,
    }


def final(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "tiny-llama" / "r" / "final" / "model.safetensors")


def test_steps_in_the_backward_pass_train_the_drawn_layers_too(settings, tmp_path):
    common = settings | {"max_grad_norm": 0}
    plain, inside = tmp_path / "plain", tmp_path / "inside"
    run_sft(SftConfig(**common, output_dir=str(plain)))
    run_sft(SftConfig(**common, output_dir=str(inside), optim_in_backward=True))
    expected, weights = final(plain), final(inside)
    assert all(torch.equal(weights[n], expected[n]) for n in expected)


def test_layers_keep_what_they_learnt_in_fp32_while_they_sleep(settings, tmp_path):
    more = {"dtype": "bf16", "optim_precision": "fp32", "lisa_step_interval": 1, "save_strategy": "steps"}
    run = run_sft(SftConfig(**settings | more | {"save_steps": 3, "max_steps": 4}, output_dir=str(tmp_path))).run
    assert {t.dtype for t in load_file(run / "checkpoint-3" / "model.safetensors").values()} == {torch.float32}


def test_two_ranks_train_the_same_layers_as_one_process(settings, tmp_path):
    one, two = tmp_path / "1", tmp_path / "2"
    accumulating = settings | {"output_dir": str(one), "gradient_accumulation_steps": 2}
    assert run_sft_in_child(accumulating).code == 0
    ended = run_sft_in_ranks(settings | {"output_dir": str(two)}, ranks=2)
    assert [e.code for e in ended] == [0, 0], ended
    expected, weights = final(one), final(two)
    for name, value in expected.items():
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=1e-5)
