"""GaLore is Adam in the leading singular directions; Q-GaLore the same in fewer bits."""

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM

from swiftlite.config.errors import UserError
from swiftlite.parallel.launch import World
from swiftlite.speed.step_in_backward import StepInBackward
from swiftlite.train.checkpoint import _keep_precision
from swiftlite.train.config import SftConfig
from swiftlite.train.decide import decide
from swiftlite.train.optimizer import build_optimizers, build_optimizers_by_weight, state_bytes
from swiftlite.tuners.galore.basis import leading_directions
from swiftlite.tuners.galore.config import GaloreOptions
from swiftlite.tuners.galore.optimizer import GaloreAdamW
from swiftlite.tuners.galore.projection import describe_galore, projected_weights
from tests.children import Mishap, run_sft_in_child
from tests.speed.test_compile import make, step
from tests.train.test_resume import numbers, settings, weights
from tests.tuners.test_parameter_counts import meta_model

CPU = torch.device("cpu")
Q_GALORE = {"galore_quantization": True}


def config(**more) -> SftConfig:
    given = {"model": "nano", "dataset": "demo", "device": "cpu", "sft_type": "full", "use_galore": True}
    return SftConfig(**(given | {"galore_rank": 4} | more))


def textbook(start, gradients, rank, gap, sides, lr, betas, eps, decay, scale):
    """Algorithm 2 of arXiv 2403.03507 in float64, with whole decompositions; signs go on along the old directions."""
    weight, mean, square, bases = start.double(), 0.0, 0.0, {}
    for t, gradient in enumerate(g.double() for g in gradients):
        if t % gap == 0:
            u, _, vh = torch.linalg.svd(gradient, full_matrices=False)
            for side, new in (("left", u[:, :rank]), ("right", vh[:rank].T)):
                if side in sides:
                    flip = (new * bases[side]).sum(0) < 0 if side in bases else torch.zeros(new.shape[1]).bool()
                    bases[side] = torch.where(flip, -new, new)
        left = bases.get("left", torch.eye(len(weight), dtype=torch.float64))
        right = bases.get("right", torch.eye(weight.shape[1], dtype=torch.float64))
        low = left.T @ gradient @ right
        mean = betas[0] * mean + (1 - betas[0]) * low
        square = betas[1] * square + (1 - betas[1]) * low**2
        normed = mean / (1 - betas[0] ** (t + 1)) / ((square / (1 - betas[1] ** (t + 1))).sqrt() + eps)
        weight = (1 - lr * decay) * weight - lr * scale * left @ normed @ right.T
    return weight


@pytest.mark.parametrize("shape", [(24, 10), (10, 24)], ids=["tall", "wide"])
@pytest.mark.parametrize("kind", ["std", "reverse_std", "right", "left", "full"])
def test_steps_are_the_textbooks(kind, shape):
    torch.manual_seed(0)
    start = torch.randn(shape)
    gradients = [torch.randn(shape) for _ in range(8)]
    short, long = ("right", "left") if shape[0] > shape[1] else ("left", "right")
    sides = {"std": short, "reverse_std": long, "full": "left right"}.get(kind, kind)
    # Projected to both sides a gradient is diagonal at first: a smaller epsilon would make 1 of rounding errors.
    how = {"lr": 1e-2, "betas": (0.9, 0.95), "eps": 1e-2}
    options = GaloreOptions(True, 4, galore_update_proj_gap=3, galore_scale=0.25, galore_proj_type=kind)
    weight = torch.nn.Parameter(start.clone())
    optimizer = GaloreAdamW([weight], options, weight_decay=0.1, **how)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    expected = textbook(start, gradients, 4, 3, sides, decay=0.1, scale=0.25, **how)
    torch.testing.assert_close(weight.detach().double(), expected, rtol=1e-4, atol=2e-5)


def test_random_projections_find_nearly_all_that_the_leading_directions_hold():
    """Of gradients whose singular values fall as 1/k, the slow kind, over 99% of what the best subspace holds."""
    torch.manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(n, 400)).Q for n in (400, 600))
    values = 1 / torch.arange(1, 401)
    matrix = left * values @ right.T
    found = leading_directions(matrix, 32, seed=1)
    assert torch.linalg.vector_norm(found.T @ matrix) > 0.99 * torch.linalg.vector_norm(values[:32])
    torch.testing.assert_close(found.T @ found, torch.eye(32), atol=1e-5, rtol=0)
    assert abs(found[:, 0] @ left[:, 0]) > 0.999
    assert torch.equal(found, leading_directions(matrix, 32, seed=1))


@pytest.mark.parametrize("more", [{}, {"galore_quantization": True, "galore_queue_size": 1}], ids=["plain", "q"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_resumed_optimizer_goes_on_bit_identically(more, dtype):
    torch.manual_seed(0)
    options = GaloreOptions(True, 4, galore_update_proj_gap=2, **more)
    weight = torch.nn.Parameter(torch.randn(24, 10, dtype=dtype))
    optimizer = GaloreAdamW([weight], options, lr=1e-2)
    gradients = [torch.randn(24, 10).to(dtype) for _ in range(7)]
    for gradient in gradients[:3]:
        weight.grad = gradient
        optimizer.step()
    again = torch.nn.Parameter(weight.detach().clone())
    resumed = GaloreAdamW([again], options, lr=1e-2)
    saved = copy.deepcopy(optimizer.state_dict())
    resumed.load_state_dict(saved)
    _keep_precision(resumed, saved)
    for w, o in ((weight, optimizer), (again, resumed)):
        for gradient in gradients[3:]:
            w.grad = gradient
            o.step()
    assert torch.equal(weight, again)


def test_a_matrix_whose_directions_stay_is_projected_anew_less_often():
    torch.manual_seed(0)
    gaps = {}
    for name in ("steady", "changing"):
        options = GaloreOptions(True, 2, galore_update_proj_gap=1, galore_quantization=True, galore_queue_size=2)
        weight = torch.nn.Parameter(torch.zeros(300, 200))
        optimizer = GaloreAdamW([weight], options, lr=1e-2)
        steady = torch.randn(300, 200)
        for _ in range(4):
            weight.grad = steady + torch.randn(300, 200) * (0.01 if name == "steady" else 100)
            optimizer.step()
        gaps[name] = optimizer.state[weight]["gap"]
    # Two cosines are known at the third projection, in step 3; the fourth is then two steps off.
    assert gaps == {"steady": 2, "changing": 1}


def test_q_galore_goes_nearly_where_galore_goes():
    torch.manual_seed(0)
    start, target = torch.randn(40, 24), torch.randn(40, 3) @ torch.randn(3, 24)
    ended = []
    for more in ({}, Q_GALORE):
        weight = torch.nn.Parameter(start.clone())
        optimizer = GaloreAdamW([weight], GaloreOptions(True, 8, galore_update_proj_gap=10, **more), lr=0.05)
        for _ in range(200):
            weight.grad = weight.detach() - target
            optimizer.step()
        ended.append((weight.detach() - target).square().mean().item())
    before = (start - target).square().mean().item()
    assert ended[0] < 0.05 * before and ended[1] < 0.05 * before


def test_a_gradient_of_zeros_neither_projects_nor_moves():
    weight = torch.nn.Parameter(torch.ones(12, 8))
    optimizer = GaloreAdamW([weight], GaloreOptions(True, 2), lr=1e-2, weight_decay=0.1)
    weight.grad = torch.zeros(12, 8)
    optimizer.step()
    assert torch.equal(weight, torch.ones(12, 8)) and optimizer.state[weight]["refreshes"] == 0


def test_linear_layers_are_projected_and_the_head_never(tiny_model):
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    names = {id(p): n for n, p in model.named_parameters()}
    chosen = {names[id(p)] for p in projected_weights(model, 4)}
    assert chosen == {n for n in names.values() if "proj" in n}
    assert {names[id(p)] for p in projected_weights(model, 4, with_embedding=True)} - chosen == {
        "model.embed_tokens.weight"
    }
    with pytest.raises(UserError, match=r"--galore_rank 64: no trained linear layer .* give less than 32"):
        describe_galore(model, GaloreOptions(True, 64))


def groups_of(model):
    return [{"params": list(model.parameters()), "lr": 1e-2, "weight_decay": 0.1}]


@pytest.mark.parametrize("more", [{}, {"optim": "adamw_8bit"}, Q_GALORE, {"galore_proj_type": "full"}], ids=str)
def test_the_states_take_the_bytes_that_were_reckoned_with(more):
    options, model = config(**more), make("llama")
    step(model, 2, 16)
    states = []
    for optimizer in build_optimizers(options, model, groups_of(model), CPU):
        optimizer.step()
        states += [v for s in optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor) and v.dim()]
    assert state_bytes(options, model) == sum(v.nbytes for v in states)


def test_steps_in_the_backward_pass_give_the_same_weights():
    options = config(galore_update_proj_gap=2)
    ours, theirs = make("llama"), make("llama")
    StepInBackward(build_optimizers_by_weight(options, ours, groups_of(ours), CPU))
    optimizers = build_optimizers(options, theirs, groups_of(theirs), CPU)
    for tokens in (16, 20, 24):
        step(ours, 2, tokens)
        step(theirs, 2, tokens)
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"sft_type": "lora"}, "--use_galore true projects .* pass --sft_type full, or leave it away"),
        ({"optim": "muon"}, "this is --optim muon; pass --optim adamw, or adamw_8bit"),
        ({"galore_optim_per_parameter": True}, "--gradient_accumulation_steps 1, --max_grad_norm 0$"),
        ({"galore_proj_bits": 3}, "--galore_proj_bits: 3 is neither 4 nor 8"),
        ({"galore_rank": 0}, "--galore_rank: 0 must be 1 or more"),
    ],
)
def test_what_cannot_be_is_one_sentence(more, words):
    with pytest.raises(UserError, match=words):
        decide(config(**more), World())


def test_transformers_spellings_name_the_same():
    layerwise = config(use_galore=True, optim="galore_adamw_layerwise")
    assert layerwise.galore.use_galore and layerwise.optim.optim_in_backward and layerwise.optim.optim == "adamw"
    assert "no effect without --use_galore true" in " ".join(config(use_galore=False).notices)


@pytest.mark.parametrize("more", [{}, Q_GALORE | {"galore_with_embedding": True}], ids=["galore", "q-galore"])
def test_a_killed_run_resumes_bit_identical(more, tiny_model, tiny_data, tmp_path):
    runs = []
    for name in ("a", "b"):
        galore = {"use_galore": True, "galore_rank": 8, "galore_update_proj_gap": 3, "max_steps": 9} | more
        given = settings(tiny_model, tiny_data, tmp_path / name, "full", **galore)
        runs.append(tmp_path / name / "tiny-llama" / "r")
        if name == "b":
            assert run_sft_in_child(given, Mishap(kill_at=7)).code == -9
            given["resume"] = str(runs[-1])
        ended = run_sft_in_child(given)
        assert ended.code == 0, ended.output
    losses = [n[1] for n in numbers(runs[0]) if n[1] is not None]
    assert losses[-1] < losses[0]
    assert numbers(runs[0]) == numbers(runs[1])
    assert all(torch.equal(value, weights(runs[0])[name]) for name, value in weights(runs[1]).items())


def test_a_7b_of_rank_128_leaves_room_for_its_activations_in_40_gib():
    model = meta_model("qwen-7b-chat")
    options = config(galore_rank=128)
    weights_and_gradients = 2 * sum(p.nbytes for p in model.parameters())
    gib = (weights_and_gradients + state_bytes(options, model)) / 1024**3
    # Moments of embedding and head: 2 x 151936 x 4096 x 2 x 2 bytes; of linear layers 32 x 128 x (12288 + 4096 + 3 x
    # 11008) x 8; their bases 32 x 5 x 4096 x 128 x 2; of the norms (65 x 4096) and biases (32 x 12288) 4 each.
    states = 4.636 + 1.508 + 0.156 + 0.002
    assert gib == pytest.approx(4 * 7721324544 / 1024**3 + states, abs=0.01) and gib < 36


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_new_projections_of_a_7b_take_less_than_ten_seconds():
    import time

    shapes = [(12288, 4096), (4096, 4096), (11008, 4096), (11008, 4096), (4096, 11008)]
    matrices = [torch.randn(shape, device="cuda", dtype=torch.bfloat16) for shape in shapes]
    for seconds_count in (False, True):
        torch.cuda.synchronize()
        started = time.perf_counter()
        for _ in range(32 if seconds_count else 1):
            for matrix in matrices:
                leading_directions(matrix if matrix.shape[0] < matrix.shape[1] else matrix.T, 128, seed=0)
        torch.cuda.synchronize()
    assert time.perf_counter() - started < 10


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("more", [{}, Q_GALORE], ids=["plain", "q"])
def test_on_a_gpu_steps_are_those_of_the_cpu(more):
    """A full set of directions, so that they do not depend on what each device draws."""
    torch.manual_seed(0)
    start, gradients = torch.randn(48, 20), [torch.randn(48, 20) for _ in range(5)]
    ended = []
    for device in ("cpu", "cuda"):
        weight = torch.nn.Parameter(start.clone().to(device))
        options = GaloreOptions(True, 4, galore_update_proj_gap=10, galore_proj_quant=False, **more)
        optimizer = GaloreAdamW([weight], options, lr=1e-2, eps=1e-3, weight_decay=0.1)
        for gradient in gradients:
            weight.grad = gradient.to(device)
            optimizer.step()
        ended.append(weight.detach().cpu())
    # 8-bit codes next to a border may fall to either side.
    torch.testing.assert_close(*ended, rtol=1e-3, atol=2e-3 if more else 1e-5)
