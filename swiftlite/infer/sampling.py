"""How tokens are drawn, said once for every way of asking."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from swiftlite.infer.config import InferOptions

if TYPE_CHECKING:
    from transformers import GenerationConfig


@dataclass(frozen=True)
class Sampling:
    """Settings of one request; a `temperature` of 0 is greedy, and then `top_p` and `top_k` have no say."""

    max_new_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()

    @classmethod
    def of(cls, options: InferOptions) -> "Sampling":
        """What a command's flags ask for."""
        return cls(
            options.max_new_tokens,
            options.temperature,
            options.top_p,
            options.top_k,
            options.repetition_penalty,
            tuple(options.stop),
        )

    def to_generation_config(self, stop_ids: list[int], pad_id: int, max_new_tokens: int) -> "GenerationConfig":
        """The same for transformers' `generate`; every field that it would fill otherwise is set."""
        from transformers import GenerationConfig

        drawn: dict[str, Any] = {"do_sample": False}
        if self.temperature > 0:
            drawn = {
                "do_sample": True,
                "temperature": self.temperature,
                "top_p": self.top_p,
                "top_k": self.top_k,
            }
        return GenerationConfig(
            max_new_tokens=max_new_tokens,
            repetition_penalty=self.repetition_penalty,
            eos_token_id=stop_ids or None,
            pad_token_id=pad_id,
            **drawn,
        )

    def describe(self) -> str:
        """For the header: `greedy` or the settings, and the limit."""
        words = "greedy"
        if self.temperature > 0:
            words = f"temperature {self.temperature:g}"
            words += f", top_p {self.top_p:g}" if self.top_p < 1 else ""
            words += f", top_k {self.top_k}" if self.top_k else ""
        elif self.top_p < 1 or self.top_k:
            words += " (top_p and top_k have no effect at temperature 0)"
        if self.repetition_penalty != 1:
            words += f", repetition penalty {self.repetition_penalty:g}"
        return f"{words}, at most {self.max_new_tokens} tokens"


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        text: without the stop token or stop text that ended it.
        tokens: how many were generated, the ending ones included.
        stopped: `stop` where the model or a stop text ended it, `length` where the room did.
    """

    text: str
    tokens: int
    stopped: Literal["stop", "length"]
