"""Every optimizer that runs on a CPU lowers the loss and resumes exactly; APOLLO and schedule-free do what they say."""

import importlib.util

import pytest
import torch

from swiftlite.config.errors import UserError
from swiftlite.parallel.launch import World
from swiftlite.parallel.strategy import SingleDevice
from swiftlite.speed.apollo import Apollo
from swiftlite.train.checkpoint import load_training_state, save_random_state, save_training_state
from swiftlite.train.config import SftConfig
from swiftlite.train.decide import decide
from swiftlite.train.optimizer import averaged_weights, build_optimizers, build_schedulers, go_on_training
from swiftlite.train.state import TrainState
from tests.speed.test_compile import make, step

CPU = torch.device("cpu")
NAMES = ["adamw", "adafactor", "sgd", "muon", "apollo", "schedule_free", "galore", "q_galore"]
no_schedule_free = pytest.mark.skipif(
    importlib.util.find_spec("schedulefree") is None, reason="schedulefree is not installed"
)


def config(name: str, **more) -> SftConfig:
    given = {"model": "nano", "dataset": "demo", "device": "cpu", "sft_type": "full", "warmup_steps": 1}
    small = {"galore_rank": 4, "galore_update_proj_gap": 2, "apollo_rank": 4, "apollo_update_gap": 2}
    if "galore" in name:
        more |= small | {"use_galore": True, "galore_quantization": name == "q_galore"}
    else:
        more |= small | {"optim": name}
    return SftConfig(**(given | {"learning_rate": 0.1 if name == "sgd" else 3e-3, "weight_decay": 0.1} | more))


class Training:
    """A tiny model with its optimizers, schedules and training state, as the loop has them."""

    def __init__(self, options: SftConfig):
        self.model = make("llama")
        decide(options, World())
        assert options.optim.learning_rate is not None
        groups = [{"params": list(self.model.parameters()), "lr": options.optim.learning_rate, "weight_decay": 0.1}]
        self.strategy = SingleDevice(CPU, "fp32", World())
        self.optimizers = build_optimizers(options, self.model, groups, CPU)
        self.schedulers = build_schedulers(options.optim, self.optimizers, total_steps=40)
        go_on_training(self.optimizers)

    def steps(self, number: int) -> float:
        for _ in range(number):
            # The mean square of all logits, of the same tokens each time.
            loss, _ = step(self.model, 2, 16)
            self.strategy.step(self.optimizers, list(self.model.parameters()), 1.0)
            for scheduler in self.schedulers:
                scheduler.step()
        return loss

    def save(self, folder) -> dict[str, torch.Tensor]:
        with averaged_weights(self.optimizers):
            save_training_state(folder, TrainState(), self.optimizers, self.schedulers, self.strategy, {})
            save_random_state(folder, self.strategy)
            return {name: value.clone() for name, value in self.model.state_dict().items()}

    def load(self, folder, weights: dict[str, torch.Tensor]) -> None:
        self.model.load_state_dict(weights)
        load_training_state(folder, self.optimizers, self.schedulers, self.strategy)
        go_on_training(self.optimizers)


@pytest.mark.parametrize("name", [pytest.param(n, marks=no_schedule_free if "free" in n else []) for n in NAMES])
def test_every_optimizer_lowers_the_loss_and_resumes_exactly(name, tmp_path):
    straight = Training(config(name))
    first = straight.steps(1)
    straight.steps(8)
    saved = straight.save(tmp_path)
    last = straight.steps(9)
    assert last < 0.9 * first
    resumed = Training(config(name))
    resumed.load(tmp_path, saved)
    assert resumed.steps(9) == last
    for a, b in zip(straight.model.parameters(), resumed.model.parameters()):
        assert torch.equal(a, b)


@pytest.mark.parametrize("shape", [(12, 30), (30, 12)], ids=["wide", "tall"])
@pytest.mark.parametrize("by_tensor", [False, True])
def test_apollo_scales_the_gradient_as_its_paper_says(shape, by_tensor):
    """Algorithm 1 of arXiv 2412.05270 with the norm-growth limiter, in float64; the projections are the drawn ones."""
    torch.manual_seed(0)
    start, gradients = torch.randn(shape), [torch.randn(shape) * (1 + 3 * (t == 2)) for t in range(5)]
    weight = torch.nn.Parameter(start.clone())
    apollo = Apollo([weight], rank=4, gap=2, scale=0.5, by_tensor=by_tensor, seed=3, lr=0.1, weight_decay=0.2)
    for gradient in gradients:
        weight.grad = gradient.clone()
        apollo.step()
    expected, mean, square, before = start.double(), 0.0, 0.0, None
    transposed = shape[0] > shape[1]
    expected = expected.T if transposed else expected
    for t, gradient in enumerate((g.T if transposed else g).double() for g in gradients):
        drawn = torch.randn(4, 12, generator=torch.Generator().manual_seed(3 + t // 2)).double() / 4**0.5
        low = drawn @ gradient
        mean, square = 0.9 * mean + 0.1 * low, 0.999 * square + 0.001 * low**2
        adam = mean / (1 - 0.9 ** (t + 1)) / ((square / (1 - 0.999 ** (t + 1))).sqrt() + 1e-8)
        update = gradient * (adam.norm() / low.norm() if by_tensor else adam.norm(dim=0) / low.norm(dim=0))
        if before is not None and update.norm() > 1.01 * before:
            update = update / update.norm() * 1.01 * before
        before = update.norm()
        expected = expected * (1 - 0.1 * 0.2) - 0.1 * 0.5 * update
    torch.testing.assert_close(weight.detach().double(), expected.T if transposed else expected, rtol=1e-5, atol=1e-6)


def test_apollo_starts_again_after_a_gradient_of_zeros():
    weight = torch.nn.Parameter(torch.ones(4, 8))
    apollo = Apollo([weight], rank=2, gap=2, lr=0.1)
    for value in (0.0, 1.0):
        weight.grad = torch.full((4, 8), value)
        apollo.step()
    assert (weight < 1).all()


@no_schedule_free
def test_schedule_free_takes_no_schedule_and_says_so():
    options = config("schedule_free")
    _, reasons = decide(options, World())
    assert options.optim.lr_scheduler_type == "constant_with_warmup"
    assert any("schedule_free needs no other" in reason for reason in reasons)
    with pytest.raises(UserError, match="--lr_scheduler_type cosine lowers it; leave it away, or pass constant"):
        decide(config("schedule_free", lr_scheduler_type="cosine"), World())


@no_schedule_free
def test_schedule_free_evaluates_the_average_of_its_points():
    """With one rate and no first steps below it, x is the plain mean of the points z (arXiv 2405.15682, eq. 5)."""
    options = config("schedule_free", lr_scheduler_type="constant", adam_beta1=0.9)
    training = Training(options)
    weight = training.model.model.norm.weight
    points = []
    for _ in range(6):
        training.steps(1)
        points.append(training.optimizers[0].state[weight]["z"].clone())
    with averaged_weights(training.optimizers):
        torch.testing.assert_close(weight.detach(), torch.stack(points).mean(0), rtol=1e-5, atol=1e-6)


@no_schedule_free
def test_schedule_free_in_half_precision_is_refused():
    weight = torch.nn.Parameter(torch.ones(2, 2, dtype=torch.bfloat16))
    with pytest.raises(UserError, match="bfloat16 cannot hold; pass --optim_precision fp32"):
        build_optimizers(config("schedule_free"), torch.nn.Linear(1, 1), [{"params": [weight], "lr": 0.1}], CPU)


def test_apollo_on_an_adapter_is_refused():
    with pytest.raises(UserError, match=r"--optim apollo projects .* pass --sft_type full, or --optim adamw"):
        decide(config("apollo", sft_type="lora"), World())


def test_schedule_free_without_its_package_is_refused(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="which is not installed; `pip install"):
        decide(config("schedule_free"), World())
