"""What each optimizer needs is said before anything is loaded; steps in the backward pass train the same."""

import copy
import importlib.util
import shutil

import pytest
import torch

from swiftlite.config.errors import UserError
from swiftlite.parallel.launch import World
from swiftlite.speed.step_in_backward import StepInBackward
from swiftlite.train.checkpoint import _keep_precision
from swiftlite.train.config import SftConfig
from swiftlite.train.decide import decide
from swiftlite.train.optimizer import build_optimizers, build_optimizers_by_weight, state_bytes
from swiftlite.train.reporting import read_log
from swiftlite.train.sft import run_sft
from tests.children import Mishap, run_sft_in_child
from tests.speed.test_compile import make, step
from tests.train.test_resume import COMMON, numbers, settings, weights

CPU = torch.device("cpu")
IN_BACKWARD = {"optim_in_backward": True, "gradient_accumulation_steps": 1, "max_grad_norm": 0}
GPU_OPTIMIZERS = [
    "adamw",
    "adamw_8bit",
    "paged_adamw",
    "paged_adamw_8bit",
    "lion",
    "adafactor",
    "muon",
    "sgd",
    "apollo",
    "stochastic",
    "galore",
    "q_galore",
]


def config(**more) -> SftConfig:
    return SftConfig(**({"model": "nano", "dataset": "demo", "device": "cpu", "sft_type": "full"} | more))


@pytest.mark.parametrize("name", ["adamw_8bit", "paged_adamw_8bit", "paged_adamw", "lion", "adamw_bnb_8bit"])
def test_bitsandbytes_on_a_cpu_is_refused_before_anything_is_loaded(name):
    with pytest.raises(UserError, match=r"--optim \w+: bitsandbytes needs a CUDA device; pass --optim adamw"):
        decide(config(optim=name), World())


def test_spellings_of_transformers_name_the_same_optimizers():
    names = {"adamw_torch_fused": "adamw", "adamw_bnb_8bit": "adamw_8bit", "paged_adamw_32bit": "paged_adamw"}
    assert {theirs: config(optim=theirs).optim.optim for theirs in names} == names


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"optim_in_backward": True}, "--gradient_accumulation_steps 1, --max_grad_norm 0$"),
        (IN_BACKWARD | {"sft_type": "lora"}, "it needs --sft_type full$"),
        ({"optim_precision": "stochastic"}, "--dtype fp32 --sft_type full --optim adamw; leave it away, or pass"),
        ({"optim_precision": "stochastic", "dtype": "bf16", "optim": "sgd"}, "--optim sgd; leave it away, or pass"),
    ],
)
def test_what_cannot_go_together_is_one_sentence(more, words):
    with pytest.raises(UserError, match=words):
        decide(config(**more), World())


def groups_of(model):
    decayed = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() < 2]
    return [
        {"params": decayed, "lr": 1e-2, "weight_decay": 0.1},
        {"params": plain, "lr": 1e-2, "weight_decay": 0.0},
    ]


@pytest.mark.parametrize("optim", ["adamw", "adafactor", "sgd", "muon"])
def test_steps_in_the_backward_pass_give_the_same_weights(optim):
    options = config(optim=optim)
    ours, theirs = make("llama"), make("llama")
    stepping = StepInBackward(build_optimizers_by_weight(options, ours, groups_of(ours), CPU))
    optimizers = build_optimizers(options, theirs, groups_of(theirs), CPU)
    for tokens in (16, 20, 24):
        step(ours, 2, tokens)
        norm = stepping.norm()
        step(theirs, 2, tokens)
        assert norm.item() == pytest.approx(
            torch.nn.utils.get_total_norm([p.grad for p in theirs.parameters()]).item(), rel=1e-5
        )
        for optimizer in optimizers:
            optimizer.step()
    assert all(p.grad is None for p in ours.parameters())
    for a, b in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_a_gradient_that_is_not_finite_leaves_its_weight_and_shows_in_the_norm():
    good, bad = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
    stepping = StepInBackward({p: torch.optim.SGD([p], lr=0.5) for p in (good, bad)})
    (good.sum() + bad.sum() * float("inf")).backward()
    assert good.tolist() == [0.5] * 3 and bad.tolist() == [1.0] * 3
    assert not torch.isfinite(stepping.norm())


def test_a_run_that_steps_in_the_backward_pass_ends_where_an_ordinary_one_does(tiny_model, tiny_data, tmp_path):
    losses = []
    for name, more in (("ours", IN_BACKWARD), ("plain", IN_BACKWARD | {"optim_in_backward": False})):
        given = COMMON | settings(tiny_model, tiny_data, tmp_path / name, "full") | more | {"max_steps": 6}
        result = run_sft(SftConfig(**(given | {"logging_steps": 1, "save_strategy": "no"})))
        losses.append([r["loss"] for r in read_log(result.run / "log.jsonl") if "loss" in r])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and losses[0][-1] < losses[0][0]


def test_a_killed_run_that_steps_in_the_backward_pass_resumes_bit_identical(tiny_model, tiny_data, tmp_path):
    runs = []
    for name in ("a", "b"):
        given = settings(tiny_model, tiny_data, tmp_path / name, "full", **IN_BACKWARD, max_steps=9)
        runs.append(tmp_path / name / "tiny-llama" / "r")
        if name == "b":
            assert run_sft_in_child(given, Mishap(kill_at=7)).code == -9
            given["resume"] = str(runs[-1])
        ended = run_sft_in_child(given)
        assert ended.code == 0, ended.output
    assert numbers(runs[0]) == numbers(runs[1])
    assert all(torch.equal(value, weights(runs[0])[name]) for name, value in weights(runs[1]).items())


def test_a_loaded_state_keeps_the_precision_it_was_saved_in():
    weight = torch.nn.Parameter(torch.ones(4, 4, dtype=torch.bfloat16))
    adafactor = build_optimizers(
        config(optim="adafactor"), torch.nn.Linear(1, 1), [{"params": [weight], "lr": 0.1}], CPU
    )[0]
    weight.grad = torch.randn_like(weight)
    adafactor.step()
    saved = copy.deepcopy(adafactor.state_dict())
    adafactor.load_state_dict(saved)
    _keep_precision(adafactor, saved)
    for name, value in saved["state"][0].items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(adafactor.state[weight][name], value), name
    assert saved["state"][0]["exp_avg_sq_row"].dtype == torch.float32


@pytest.mark.parametrize("optim", ["adamw", "adafactor", "sgd"])
def test_the_states_take_the_bytes_that_were_reckoned_with(optim):
    options, model = config(optim=optim), make("llama")
    optimizer = build_optimizers(options, model, groups_of(model), CPU)[0]
    step(model, 2, 16)
    optimizer.step()
    states = [v for s in optimizer.state.values() for n, v in s.items() if isinstance(v, torch.Tensor) and v.dim()]
    assert state_bytes(options, model) == sum(v.nbytes for v in states)


NEEDS_BITSANDBYTES = ("adamw_8bit", "paged_adamw", "paged_adamw_8bit", "lion")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize(
    ("optim", "in_backward"),
    [
        *((o, False) for o in GPU_OPTIMIZERS),
        *((o, True) for o in ("adamw", "paged_adamw_8bit", "stochastic", "galore")),
    ],
)
def test_on_a_gpu_every_optimizer_trains_and_resumes(tiny_model, tiny_data, tmp_path, optim, in_backward):
    if optim in NEEDS_BITSANDBYTES and not importlib.util.find_spec("bitsandbytes"):
        pytest.skip("bitsandbytes is not installed")
    which = {"optim_precision": "stochastic"} if optim == "stochastic" else {"optim": optim}
    if optim == "apollo":
        which |= {"apollo_rank": 8, "apollo_update_gap": 3}
    if "galore" in optim:
        which = {"use_galore": True, "galore_rank": 8, "galore_update_proj_gap": 3}
        which |= {"galore_quantization": optim == "q_galore"}
    more = which | {"device": "cuda", "dtype": "bf16", "deterministic": True, "max_steps": 12, "logging_steps": 1}
    more |= {"learning_rate": 0.3 if optim == "sgd" else 3e-3} | (IN_BACKWARD if in_backward else {})
    ended = run_sft_in_child(settings(tiny_model, tiny_data, tmp_path, "full", **more))
    assert ended.code == 0, ended.output
    reference, run = tmp_path / "tiny-llama" / "r", tmp_path / "after-step-8"
    losses = [r["loss"] for r in read_log(reference / "log.jsonl") if "loss" in r]
    assert losses[-1] < losses[0]
    # As a run that was killed after its second checkpoint leaves it.
    shutil.copytree(reference, run, ignore=shutil.ignore_patterns("final", "checkpoint-12"))
    ended = run_sft_in_child({"resume": str(run)})
    assert ended.code == 0, ended.output
    assert numbers(run) == numbers(reference)
    assert all(torch.equal(value, weights(reference)[name]) for name, value in weights(run).items())
