"""What LongLoRA brings along and refuses."""

from typing import Any

from swiftlite.config.errors import UserError

_ATTENTIONS = ("auto", "swiftlite")
# "Trainable normalization and embedding" (the paper's section 3.3): without them the gap to full fine-tuning stays.
_TRAINED = ("EMBEDDING", "LN")


def settle_longlora(config: Any) -> None:
    """Trains embeddings and norms beside the adapter.

    Raises:
        UserError: an attention was asked for that cannot be divided into groups, or tokens to add.
    """
    if config.model.attn_impl not in _ATTENTIONS:
        raise UserError(
            f"--attn_impl {config.model.attn_impl}: --sft_type longlora trains with its own sparse attention, which "
            f"runs on swiftlite's only; leave --attn_impl away"
        )
    if config.model.add_tokens:
        raise UserError(
            "--add_tokens: --sft_type longlora trains the embedding but not the head, which would never write them; "
            "use --sft_type lora"
        )
    config.set("lora_modules_to_save", list(dict.fromkeys([*config.lora.lora_modules_to_save, *_TRAINED])))
