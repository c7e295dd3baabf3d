"""Runs training in child processes that start with everything imported: kills, resumes, several ranks."""

import multiprocessing
import os
import signal
import socket
from multiprocessing.process import BaseProcess
from typing import Any

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["swiftlite.train.sft", "swiftlite.tuners.lora.tuner", "swiftlite.tuners.full.tuner"])


def run_sft_in_child(settings: dict[str, Any], kill_at: int | None = None, kill_in_save: int | None = None) -> int:
    """Exit code of a run in its own process; -9 where it killed itself as asked.

    Args:
        kill_at: SIGKILL itself after this optimizer step.
        kill_in_save: SIGKILL itself while checkpoint N is half written.
    """
    child = _SERVER.Process(target=_child, args=(settings, kill_at, kill_in_save, {}))
    return _finish(child)


def run_sft_in_ranks(settings: dict[str, Any], ranks: int) -> list[int]:
    """Exit codes of one run spread over several processes, as torchrun starts them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = []
    for rank in range(ranks):
        world = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        children.append(_SERVER.Process(target=_child, args=(settings, None, None, world)))
    for child in children:
        child.start()
    return [_join(child) for child in children]


def _finish(child: BaseProcess) -> int:
    child.start()
    return _join(child)


def _join(child: BaseProcess) -> int:
    child.join(timeout=240)
    if child.is_alive():
        child.kill()
        raise TimeoutError("the training process did not end")
    assert child.exitcode is not None
    return child.exitcode


def _child(settings: dict[str, Any], kill_at: int | None, kill_in_save: int | None, world: dict[str, Any]) -> None:
    os.environ.update({name: str(value) for name, value in world.items()})
    import torch

    from swiftlite.train import checkpoint, reporting
    from swiftlite.train.config import SftConfig
    from swiftlite.train.sft import run_sft

    torch.set_num_threads(1)
    step, flush = reporting.TerminalLog.step, checkpoint._flush

    def step_or_die(self, state, total_steps):
        step(self, state, total_steps)
        if state.step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def flush_or_die(folder):
        if folder.name == f".checkpoint-{kill_in_save}.partial":
            os.kill(os.getpid(), signal.SIGKILL)
        flush(folder)

    reporting.TerminalLog.step = step_or_die
    checkpoint._flush = flush_or_die
    os._exit(run_sft(SftConfig(**settings)).exit_code)
