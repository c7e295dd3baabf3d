"""What a user may say about the chat template; torch-free, read by the command line."""

from dataclasses import dataclass

from swiftlite.config.errors import UserError
from swiftlite.config.options import option


@dataclass
class ChatConfig:
    """Which template writes a conversation, and the system prompt of those that bring none."""

    template: str = option(
        "auto",
        "chat template: auto (the model family's, else the tokenizer's own, else chatml), "
        "tokenizer (its own Jinja), or a registered name such as chatml",
    )
    system: str | None = option(
        "auto",
        "system prompt put before conversations that bring none: auto (the template's own default), "
        "none (no system prompt), or the text",
    )

    def check(self) -> None:
        """Raise UserError for a value that can never be right."""
        if not self.template.strip():
            raise UserError("--template is empty: give auto, tokenizer or the name of a template")
