"""Runs training in child processes that start with everything imported: kills, full disks, several ranks."""

import dataclasses
import functools
import multiprocessing
import os
import signal
import socket
import tempfile
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Mishap:
    """What goes wrong: after optimizer step N, or while checkpoint N is half written."""

    kill_at: int | None = None
    kill_in_save: int | None = None
    signal_at: int | None = None
    signal_number: int = signal.SIGTERM
    disk_full_at: int | None = None


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a child ended: its exit code (-9 after SIGKILL) and all it printed."""

    code: int
    output: str


def run_sft_in_child(settings: dict[str, Any], mishap: Mishap = Mishap()) -> Ended:
    """`swiftlite sft` in its own process."""
    return run_in_child("sft", settings, mishap)


def run_in_child(command: str, settings: dict[str, Any], mishap: Mishap = Mishap()) -> Ended:
    """A training command in its own process."""
    return _run([(command, settings, mishap, {})])[0]


def run_sft_in_ranks(settings: dict[str, Any], ranks: int) -> list[Ended]:
    """One run spread over several processes, as torchrun starts them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {"WORLD_SIZE": ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return _run([("sft", settings, Mishap(), common | {"RANK": r, "LOCAL_RANK": r}) for r in range(ranks)])


def _run(calls: list[tuple[str, dict, Mishap, dict]]) -> list[Ended]:
    started = []
    for call in calls:
        log = Path(tempfile.mkstemp(suffix=".log")[1])
        child = _server().Process(target=_child, args=(*call, str(log)))
        child.start()
        started.append((child, log))
    ended = []
    for child, log in started:
        child.join(timeout=240)
        if child.is_alive():
            child.kill()
            raise TimeoutError(f"the training process did not end:\n{log.read_text()}")
        assert child.exitcode is not None
        ended.append(Ended(child.exitcode, log.read_text(encoding="utf-8")))
        log.unlink()
    return ended


@functools.cache
def _server() -> Any:
    """Forks of a server that has imported everything; fresh processes, which take seconds, if that touched a GPU."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["tests.preload"])
    first = server.Process(target=_can_use_a_gpu)
    first.start()
    first.join()
    return server if first.exitcode == 0 else multiprocessing.get_context("spawn")


def _can_use_a_gpu() -> None:
    import torch

    raise SystemExit(torch.cuda._is_in_bad_fork())


def _child(command: str, settings: dict[str, Any], mishap: Mishap, world: dict[str, Any], log: str) -> None:
    os.environ.update({name: str(value) for name, value in world.items()})
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import torch

    from swiftlite import cli

    torch.set_num_threads(1)
    _arrange(mishap)
    argv = [command]
    for name, value in settings.items():
        argv += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    code = cli.main(argv)
    os._exit(code)


def _arrange(mishap: Mishap) -> None:
    import resource

    from swiftlite.train import checkpoint, reporting

    step, flush = reporting.TerminalLog.step, checkpoint._flush

    def step_and_fail(self, state, total_steps):
        step(self, state, total_steps)
        if state.step == mishap.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if state.step == mishap.signal_at:
            os.kill(os.getpid(), mishap.signal_number)
        if state.step == mishap.disk_full_at:
            # The kernel refuses every further byte of a file, as a full disk does.
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    def flush_or_die(folder):
        if folder.name == f".checkpoint-{mishap.kill_in_save}.partial":
            os.kill(os.getpid(), signal.SIGKILL)
        flush(folder)

    reporting.TerminalLog.step = step_and_fail
    checkpoint._flush = flush_or_die
