"""What a user may say about the chat template; torch-free, read by the command line."""

from dataclasses import dataclass
from datetime import date
from typing import Literal

from swiftlite.config.errors import UserError
from swiftlite.config.options import option


@dataclass
class ChatConfig:
    """Which template writes a conversation, what it adds to it, and which of its tokens are trained."""

    template: str = option(
        "auto",
        "chat template: auto (the model family's, else the tokenizer's own, else chatml), "
        "tokenizer (its own Jinja), text (none: a base model goes on with the prompt), or a registered name such as "
        "chatml",
    )
    system: str | None = option(
        "auto",
        "system prompt put before conversations that bring none: auto (the template's own default), "
        "none (no system prompt), or the text",
    )
    loss_scale: Literal["default", "last_round", "all", "react"] = option(
        "default",
        "tokens in the loss: default (every answer), last_round (the last answer), all (every token), react (every "
        "answer, by ReAct keywords: Action and its input twice, observations not); the loss of a step is divided by "
        "the sum of its weights",
    )
    template_date: str | None = option(
        None,
        "day, as YYYY-MM-DD, that chat templates print which print today's date",
        rare=True,
    )

    def check(self) -> None:
        """Raise UserError for a value that can never be right."""
        if not self.template.strip():
            raise UserError("--template is empty: give auto, tokenizer or the name of a template")
        self.day()

    def day(self) -> date:
        """The day that templates print: today unless another is given.

        Raises:
            UserError: it is no date.
        """
        if self.template_date is None:
            return date.today()
        try:
            return date.fromisoformat(self.template_date)
        except ValueError:
            raise UserError(f"--template_date {self.template_date} is no day, expected YYYY-MM-DD") from None
