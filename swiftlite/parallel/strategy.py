"""A single device, and data-parallel copies: how a model is wrapped, and how a step is made of backwards."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from swiftlite.parallel.launch import World
from swiftlite.speed.step_in_backward import skips_on_device


class SingleDevice:
    """One process, one device. Other strategies change what spreading the work changes."""

    def __init__(self, device: torch.device, dtype: str, world: World):
        self.device = device
        self.world = world
        self.dtype = dtype
        # Only fp16 underflows: its loss is scaled up, and steps whose gradients overflow are skipped.
        self.scaler = torch.amp.GradScaler(device.type, enabled=dtype == "fp16" and device.type == "cuda")

    def wrap(self, model: nn.Module) -> nn.Module:
        """The module whose forward is called in training; once more when other parameters need gradients."""
        return model

    @contextlib.contextmanager
    def micro_batch(self, *, last: bool) -> Iterator[None]:
        """Around forward and backward of one micro-batch; `last` of its step or not."""
        with self.autocast():
            yield

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Mixed precision for half-precision models; full precision otherwise."""
        if self.dtype == "fp32":
            return contextlib.nullcontext()
        half = torch.bfloat16 if self.dtype == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype=half)

    def backward(self, loss: torch.Tensor) -> None:
        """Adds this micro-batch's share to the gradients.

        `loss` is divided by the whole step's denominator already; processes are summed, not averaged.
        """
        self.scaler.scale(loss).backward()

    def step(
        self, optimizers: list[torch.optim.Optimizer], parameters: list[nn.Parameter], max_norm: float
    ) -> torch.Tensor:
        """Clips and applies the gradients; returns their norm before clipping (0-d tensor on the device).

        Where the norm is not finite nothing is updated.
        """
        for optimizer in optimizers:
            self.scaler.unscale_(optimizer)
        norm = self._clip(parameters, max_norm)
        # Clipping by a norm that is not finite spoils every gradient, so then no optimizer may step.
        for optimizer in optimizers:
            if skips_on_device(optimizer):
                # The fused kernel skips its update on the device: no wait for the host to see the norm. Gradients are
                # unscaled already, and the scaler has noted what it found, so it need not take this step itself.
                optimizer.found_inf = (~torch.isfinite(norm)).float()  # pyrefly: ignore
                optimizer.step()
            elif torch.isfinite(norm):
                # Here the host does wait, each step: such an optimizer cannot decide on the device.
                self.scaler.step(optimizer)
        self.scaler.update()
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        return norm

    def _clip(self, parameters: list[nn.Parameter], max_norm: float) -> torch.Tensor:
        limit = max_norm if max_norm > 0 else float("inf")
        return nn.utils.clip_grad_norm_(parameters, limit)

    def return_free_memory(self) -> None:
        """Gives back what the allocator holds and nothing uses; waits for the device."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def sum(self, values: list[float]) -> list[float]:
        """Numbers added up over all processes."""
        return values

    def sum_on_device(self, values: torch.Tensor) -> torch.Tensor:
        """A tensor on the device added up over all processes, in place; the host does not wait for it."""
        return values

    def wait(self) -> None:
        """Waits for this process's device to have done all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def any(self, flag: bool) -> bool:
        """Whether any process says so."""
        return flag

    def broadcast(self, text: str) -> str:
        """The main process's text, on every process."""
        return text

    def barrier(self) -> None:
        """Waits for all processes."""

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs of this strategy."""
        return self.scaler.state_dict() if self.scaler.is_enabled() else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        if state:
            self.scaler.load_state_dict(state)

    def close(self) -> None:
        """Ends what the strategy started."""


class DataParallel(SingleDevice):
    """A copy of the model in each process; gradients are summed over them (torch DistributedDataParallel)."""

    def __init__(self, device: torch.device, dtype: str, world: World):
        super().__init__(device, dtype, world)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        self._ddp: nn.parallel.DistributedDataParallel | None = None

    def wrap(self, model: nn.Module) -> nn.Module:
        ids = [self.device.index] if self.device.type == "cuda" else None
        first = self._ddp is None
        if self._ddp is not None:
            # The wrapper itself lies in a cycle, which Python may never collect; this holds as much as all gradients.
            self._ddp.reducer = self._ddp.logger = None  # pyrefly: ignore
        self._ddp = nn.parallel.DistributedDataParallel(
            model,
            device_ids=ids,
            gradient_as_bucket_view=True,
            # Wrapped again, the copies are equal already.
            init_sync=first,
        )
        return self._ddp

    @contextlib.contextmanager
    def micro_batch(self, *, last: bool) -> Iterator[None]:
        assert self._ddp is not None
        with contextlib.nullcontext() if last else self._ddp.no_sync(), self.autocast():
            yield

    def backward(self, loss: torch.Tensor) -> None:
        # DDP averages over processes; the loss carries the whole step's denominator, so it wants the sum.
        super().backward(loss * self.world.size)

    def sum(self, values: list[float]) -> list[float]:
        return self.sum_on_device(torch.tensor(values, dtype=torch.float64, device=self.device)).tolist()

    def sum_on_device(self, values: torch.Tensor) -> torch.Tensor:
        dist.all_reduce(values)
        return values

    def any(self, flag: bool) -> bool:
        return self.sum([float(flag)])[0] > 0

    def broadcast(self, text: str) -> str:
        box = [text]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def barrier(self) -> None:
        dist.barrier()

    def close(self) -> None:
        dist.destroy_process_group()


def make_strategy(device: torch.device, dtype: str, world: World) -> SingleDevice:
    """The strategy for this world: DDP when a launcher started several processes."""
    return DataParallel(device, dtype, world) if world.size > 1 else SingleDevice(device, dtype, world)
