"""A function of tensors compiled at its first call, or run as it is where that fails."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor


class CompiledOrEager:
    """Compiles `function` for tensors of any length; it must write nothing before its first call has compiled."""

    def __init__(self, function: Callable[..., Tensor]):
        self.function = function
        self._run: Callable[..., Tensor] | None = None

    def __call__(self, *arguments: Tensor) -> Tensor:
        """The function's value. A failure to compile is a warning, once."""
        if self._run is None:
            self._run = torch.compile(self.function)
        if self._run is self.function:
            return self.function(*arguments)
        for argument in arguments:
            # One graph for every length, or each size of a weight would be compiled anew.
            torch._dynamo.maybe_mark_dynamic(argument, 0)
        try:
            return self._run(*arguments)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            # Compilers fail in many ways (no compiler, no headers, a bug). An error of the function comes again below.
            reason = " ".join(str(error).split())[:300]
            warnings.warn(f"{self.function.__name__} runs uncompiled, which is slower: {reason}", stacklevel=2)
            self._run = self.function
            return self.function(*arguments)
