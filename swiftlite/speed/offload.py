"""What checkpointed layers keep lies in host memory between forward and backward, copied beside the computation."""

from collections import deque
from typing import Any

import torch
from torch import Tensor, nn

from swiftlite.config.errors import UserError
from swiftlite.models.layers import find_layers

# Below this a copy costs more than it frees.
_SMALLEST_BYTES = 1024**2
# Copies to the host that may be under way at a time: what they read stays on the device until they are done.
_UNDER_WAY = 2
# Tensors fetched before they are asked for: with selective checkpointing about those of one layer.
_FETCHED_AHEAD = 3


def offload_activations(model: nn.Module, smallest_bytes: int = _SMALLEST_BYTES) -> None:
    """From now on, what autograd saves in the decoder of `model` in training goes to the host until it is needed.

    With checkpointed layers that is each layer's input, and in `selective`, if compiled, what its attention returned
    (uncompiled, PyTorch keeps that where no hook sees it). On CUDA a
    second stream copies to and from pinned memory, so the computation only waits where the bus is slower than it;
    elsewhere tensors are just copied. Weights, buffers, tensors under `smallest_bytes` and such with gaps stay.

    Raises:
        UserError: the model has no list of layers.
    """
    layers = find_layers(model)
    if layers is None:
        raise UserError(f"--offload_activations: {type(model).__name__} has no list of decoder layers; leave it away")
    decoder = next(m for m in model.modules() if any(child is layers for child in m.children()))
    offload = _Offload(next(model.parameters()).device, model, smallest_bytes)
    decoder.register_forward_pre_hook(offload.begin)
    decoder.register_forward_hook(offload.end, always_call=True)


class _Away:
    """A tensor on the host, and the one that went before it, which the backward pass will want after it."""

    def __init__(self, host: Tensor, before: "_Away | None"):
        self.host = host
        self.before = before
        self.fetched: Tensor | None = None
        self.arrival: torch.cuda.Event | None = None
        self.asked_for = False

    def __del__(self) -> None:
        # Fetched in vain: whatever gets this memory next must not be overwritten by a copy still under way.
        if self.fetched is not None and self.arrival is not None:
            torch.cuda.current_stream(self.fetched.device).wait_event(self.arrival)


class _Offload:
    def __init__(self, device: torch.device, model: nn.Module, smallest_bytes: int):
        self._device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._model = model
        self._smallest_bytes = smallest_bytes
        self._hooks: torch.autograd.graph.saved_tensors_hooks | None = None
        self._stay: set[int] = set()
        self._newest: _Away | None = None
        self._leaving: deque[tuple[Tensor, torch.cuda.Event]] = deque()

    def begin(self, decoder: nn.Module, inputs: Any) -> None:
        """Before the decoder's forward."""
        if not (decoder.training and torch.is_grad_enabled()):
            return
        weights = [*self._model.parameters(), *self._model.buffers()]
        self._stay = {w.untyped_storage().data_ptr() for w in weights if w.device == self._device}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._send, self._bring)
        self._hooks.__enter__()

    def end(self, decoder: nn.Module, inputs: Any, output: Any) -> None:
        """After it, even where it failed."""
        if self._hooks is not None:
            self._hooks.__exit__(None, None, None)
        self._hooks = self._newest = None
        while self._leaving:
            self._let_go()

    def _send(self, tensor: Tensor) -> "Tensor | _Away":
        if tensor.nbytes < self._smallest_bytes or tensor.device != self._device:
            return tensor
        if tensor.untyped_storage().data_ptr() in self._stay:
            return tensor
        host = torch.empty_like(tensor, device="cpu", pin_memory=self._stream is not None)
        if host.stride() != tensor.stride():
            # It has gaps, or shares its elements; a compiled backward insists on the same strides.
            return tensor
        if self._stream is None:
            host.copy_(tensor)
        else:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._stream):
                host.copy_(tensor, non_blocking=True)
            # Held until its copy is done and no longer: `record_stream` would leave that to the allocator's luck.
            self._leaving.append((tensor, self._copied()))
            while len(self._leaving) > _UNDER_WAY:
                self._let_go()
        self._newest = _Away(host, self._newest)
        return self._newest

    def _copied(self) -> torch.cuda.Event:
        event = torch.cuda.Event()
        event.record(self._stream)
        return event

    def _let_go(self) -> None:
        """Frees the oldest tensor on its way out for what the device computes after its copy."""
        _, done = self._leaving.popleft()
        torch.cuda.current_stream(self._device).wait_event(done)

    def _bring(self, kept: "Tensor | _Away") -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        self._fetch(kept)
        ahead = kept.before
        for _ in range(_FETCHED_AHEAD):
            if ahead is None:
                break
            # A compiled layer asks for its tensors in the order in which they went, so some were here already.
            if not ahead.asked_for:
                self._fetch(ahead)
            ahead = ahead.before
        assert kept.fetched is not None
        if kept.arrival is not None:
            torch.cuda.current_stream(self._device).wait_event(kept.arrival)
        # A second backward through the same graph fetches it again.
        fetched, kept.fetched, kept.arrival, kept.asked_for = kept.fetched, None, None, True
        return fetched

    def _fetch(self, away: _Away) -> None:
        if away.fetched is not None:
            return
        # Made on the computing stream, which uses and frees it, and filled once that stream is done with the memory.
        away.fetched = torch.empty_like(away.host, device=self._device)
        if self._stream is None:
            away.fetched.copy_(away.host)
        else:
            self._stream.wait_stream(torch.cuda.current_stream(self._device))
            with torch.cuda.stream(self._stream):
                away.fetched.copy_(away.host, non_blocking=True)
            away.arrival = self._copied()
