"""What only a GPU shows: bit-identical resume under --deterministic, half precision, skipped updates."""

import pytest
import torch

from swiftlite.train.config import SftConfig
from swiftlite.train.loop import Loop
from swiftlite.train.reporting import read_log
from swiftlite.train.sft import run_sft
from tests.children import Mishap, run_sft_in_child
from tests.train.test_resume import COMMON, numbers, settings, weights

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


@pytest.mark.parametrize(("sft_type", "dtype"), [("full", "fp32"), ("lora", "bf16")])
def test_a_deterministic_run_resumes_bit_identical(tiny_model, tiny_data, tmp_path, sft_type, dtype):
    given = settings(tiny_model, tiny_data, tmp_path / "a", sft_type, deterministic=True, device="cuda", dtype=dtype)
    straight = run_sft_in_child(given)
    assert straight.code == 0, straight.output
    broken = given | {"output_dir": str(tmp_path / "b")}
    assert run_sft_in_child(broken, Mishap(kill_at=7)).code == -9
    run = tmp_path / "b" / "tiny-llama" / "r"
    resumed = run_sft_in_child(broken | {"resume": str(run)})
    assert resumed.code == 0, resumed.output
    reference = tmp_path / "a" / "tiny-llama" / "r"
    assert numbers(run) == numbers(reference)
    expected = weights(reference)
    assert all(torch.equal(value, expected[name]) for name, value in weights(run).items())


WAYS = {"padded": {}, "packed": {"packing": True, "max_length": 128, "batch_size": 1}, "joined": {"padding_free": True}}


@pytest.fixture(scope="module")
def on_cpu(tiny_model, tiny_data, tmp_path_factory):
    """The losses of each way of making batches, in fp32 on the CPU."""
    out = tmp_path_factory.mktemp("cpu")
    return {way: losses_of(tiny_model, tiny_data, out / way, way, device="cpu", dtype="fp32") for way in WAYS}


def losses_of(model, data, out, way, **more) -> list[float]:
    given = settings(model, data, out, "lora", **({"lora_dropout": 0, "logging_steps": 1} | WAYS[way] | more))
    ended = run_sft_in_child(given)
    assert ended.code == 0, ended.output
    return [r["loss"] for r in read_log(out / "tiny-llama" / "r" / "log.jsonl") if "loss" in r]


@pytest.mark.parametrize(("dtype", "tolerance"), [("bf16", 0.02), ("fp16", 0.01), ("fp32", 1e-3)])
def test_losses_on_the_gpu_follow_those_on_the_cpu(on_cpu, tiny_model, tiny_data, tmp_path, dtype, tolerance):
    losses = losses_of(tiny_model, tiny_data, tmp_path, "padded", device="cuda", dtype=dtype)
    assert losses == pytest.approx(on_cpu["padded"], rel=tolerance)


def test_steps_without_finite_gradients_change_nothing_and_stop_the_run(tiny_model, tiny_data, tmp_path):
    given = COMMON | settings(tiny_model, tiny_data, tmp_path, "full", device="cuda", dtype="bf16")
    ended = run_sft_in_child(given | {"learning_rate": 1e38, "max_grad_norm": 0, "max_bad_steps": 3})
    assert ended.code == 1 and "steps in a row" in ended.output, ended.output


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("way", ["packed", "joined"])
def test_packed_and_joined_rows_train_on_the_gpu_as_on_the_cpu(on_cpu, tiny_model, tiny_data, tmp_path, way, compiled):
    losses = losses_of(tiny_model, tiny_data, tmp_path, way, device="cuda", dtype="bf16", torch_compile=compiled)
    assert losses == pytest.approx(on_cpu[way], rel=0.02)


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_the_host_waits_for_no_step_between_warm_up_and_end(tiny_model, tmp_path, monkeypatch, dtype):
    # Rows of one length, as transformers looks at the mask of padded ones, for which the host waits; and so many that
    # no step is short of rows, which would be a new shape to compile.
    data = tmp_path / "rows.jsonl"
    data.write_text('{"query": "Count to two.", "response": "1 2"}\n' * 96)
    step, finish = Loop._train_step, Loop._finish
    watched = []

    def watched_step(loop, batches):
        if loop.state.step == 4:
            torch.cuda.set_sync_debug_mode("error")
        step(loop, batches)
        watched.append(torch.cuda.get_sync_debug_mode())

    def unwatched_finish(loop):
        torch.cuda.set_sync_debug_mode("default")
        return finish(loop)

    monkeypatch.setattr(Loop, "_train_step", watched_step)
    monkeypatch.setattr(Loop, "_finish", unwatched_finish)
    given = settings(tiny_model, data, tmp_path, "lora", device="cuda", dtype=dtype, logging_steps=2, max_steps=14)
    try:
        run_sft(SftConfig(**(given | {"save_strategy": "no", "eval_strategy": "no", "split_dataset_ratio": 0})))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert watched == [0] * 4 + [2] * 10
    assert [r["step"] for r in read_log(tmp_path / "tiny-llama" / "r" / "log.jsonl")] == [1, 2, 4, 6, 8, 10, 12, 14]


def test_a_profile_sees_the_kernels_of_its_steps(tiny_model, tiny_data, tmp_path):
    given = settings(tiny_model, tiny_data, tmp_path, "lora", device="cuda", dtype="bf16", profile=4)
    ended = run_sft_in_child(given)
    assert ended.code == 0, ended.output
    assert "profile: device busy" in ended.output
    summary = (tmp_path / "tiny-llama" / "r" / "profile" / "summary.txt").read_text()
    assert "over 4 steps" in summary and "elementwise" in summary
