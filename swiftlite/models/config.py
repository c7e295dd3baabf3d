"""Settings: which model, with which weights, in which precision."""

from dataclasses import dataclass
from typing import Literal

from swiftlite.config.errors import UserError
from swiftlite.config.options import option


@dataclass
class ModelConfig:
    model: str | None = option(
        None, "a local folder, a hub id, a registered name, or the checkpoint or run folder of an earlier run"
    )
    model_type: str | None = option(
        None, "a registered name; with --model it says which registered model that folder holds"
    )
    adapters: list[str] = option(
        [],
        "adapter folders (PEFT layout) or runs to put on --model, each FOLDER or NAME=FOLDER; training goes on with "
        "one, infer takes several and answers with the one that is named",
    )
    weights: Literal["auto", "dummy"] = option(
        "auto", "dummy: random weights at the model's true shape, no download (to measure and to try)"
    )
    tokenizer: str | None = option(None, "folder or hub id of another tokenizer than the model's own")
    dtype: Literal["auto", "bf16", "fp16", "fp32"] = option(
        "auto",
        "precision of the weights and the maths; auto: bf16 where the GPU has it, fp16 else, fp32 on CPU",
    )
    attn_impl: Literal[
        "auto", "swiftlite", "sdpa", "eager", "flash", "flash_attention_2", "flash_attention_3", "flash_attention_4"
    ] = option(
        "auto",
        "attention; swiftlite: PyTorch's kernels, with documents of one row kept apart; flash: the flash-attn package "
        "where it is installed, else as auto",
    )
    add_tokens: list[str] = option(
        [], "new special tokens; an adapter trains only their rows of the embedding and the head"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = option("auto", "where to run", rare=True)
    revision: str | None = option(None, "branch, tag or commit of a hub model", rare=True)

    def check(self) -> None:
        if self.model is None and self.model_type is None:
            raise UserError("no model given: pass --model FOLDER_OR_HUB_ID, or --model_type NAME (try --model nano)")


@dataclass
class ScratchOptions:
    """A model from random weights, and a tokenizer of one's own."""

    from_scratch: bool = option(
        False, "start from random weights: of --model's or --model_type's shape, or of the sizes below"
    )
    architecture: str | None = option(
        None,
        "transformers' model_type, such as llama (the default), qwen3 or gpt2; --model and --model_type bring theirs",
    )
    hidden_size: int | None = option(None, "width of the model")
    num_layers: int | None = option(None, "number of blocks")
    num_heads: int | None = option(None, "attention heads")
    num_kv_heads: int | None = option(None, "key and value heads; default: as many as --num_heads")
    ffn_size: int | None = option(
        None, "width of the feed-forward layer; default: 4 times --hidden_size, for a gated one 8/3 times"
    )
    head_dim: int | None = option(None, "size of a head; default: --hidden_size / --num_heads", rare=True)
    context_length: int | None = option(None, "tokens the model can see; default: 1024")
    vocab_size: int | None = option(
        None,
        "entries of the trained tokenizer, and rows of the embedding; default: the tokenizer's, to a multiple of 64",
    )
    tie_embeddings: bool | None = option(None, "use the embedding as the head; default: as the architecture does")
    train_tokenizer: bool = option(False, "train a tokenizer on the data first")
    tokenizer_kind: Literal["bpe", "char"] = option("bpe", "bpe: byte-level BPE; char: one token a character")
    special_tokens: list[str] = option(
        [],
        "the first ids of the trained tokenizer, the first of all ends a text and pads; default: <|endoftext|>, and "
        "for bpe <|im_start|> and <|im_end|>",
        rare=True,
    )

    def check(self) -> None:
        self._check_company()
        for name in _SIZES:
            size = getattr(self, name)
            if size is not None and size < 1:
                raise UserError(f"--{name}: {size} is not a positive number")
        check_heads(self.hidden_size, self.num_heads, self.num_kv_heads, self.head_dim)
        if len(set(self.special_tokens)) < len(self.special_tokens) or "" in self.special_tokens:
            raise UserError(f"--special_tokens: {self.special_tokens} holds an empty token or the same token twice")
        if self.train_tokenizer and self.tokenizer_kind == "bpe" and self.vocab_size is None:
            raise UserError("--train_tokenizer needs --vocab_size, the number of entries to learn (4096, 32768, ...)")
        if self.train_tokenizer and self.tokenizer_kind == "char" and self.vocab_size is not None:
            raise UserError(
                f"--vocab_size {self.vocab_size}: with --tokenizer_kind char the characters of the data decide; "
                "leave it away"
            )

    def _check_company(self) -> None:
        """Sizes say nothing of a model that has its weights already, nor these settings of its tokenizer."""
        alone = {n: getattr(self, n) for n in ("architecture", "tie_embeddings", *_SIZES)}
        if self.train_tokenizer:
            alone.pop("vocab_size")
        given = [f"--{name}" for name, value in alone.items() if value is not None]
        if given and not self.from_scratch:
            or_tokenizer = " or --train_tokenizer" if given == ["--vocab_size"] else ""
            raise UserError(
                f"{', '.join(given)}: only a model that starts from random weights takes a shape; "
                f"add --from_scratch{or_tokenizer}, or leave it away"
            )
        for name, default in (("tokenizer_kind", "bpe"), ("special_tokens", [])):
            if getattr(self, name) != default and not self.train_tokenizer:
                raise UserError(f"--{name} is a setting of --train_tokenizer; add that, or leave it away")


_SIZES = (
    "hidden_size",
    "num_layers",
    "num_heads",
    "num_kv_heads",
    "ffn_size",
    "head_dim",
    "context_length",
    "vocab_size",
)


def check_heads(hidden_size: int | None, heads: int | None, kv_heads: int | None, head_dim: int | None) -> None:
    """Heads share the width evenly, and key-value heads the heads; a size that is None is not known yet.

    Raises:
        UserError: they do not.
    """
    if hidden_size and heads and not head_dim and hidden_size % heads:
        raise UserError(
            f"--hidden_size {hidden_size} is no multiple of --num_heads {heads}; change one, or give --head_dim"
        )
    if heads and kv_heads and heads % kv_heads:
        raise UserError(f"--num_heads {heads} is no multiple of --num_kv_heads {kv_heads}; change one of them")
