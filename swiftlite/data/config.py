"""What a user may say about data: the fields behind the --dataset family of flags."""

import math
from dataclasses import dataclass
from typing import Literal

from swiftlite.config.errors import UsageError
from swiftlite.config.options import option


@dataclass
class DataConfig:
    """Which rows, how many of them, how long they may be, and how they are batched."""

    dataset: list[str] = option(
        [],
        "training data: a name, a file, a folder or hf::owner/name, each with an optional #N (take N rows)",
    )
    val_dataset: list[str] = option([], "validation data, written like --dataset; none: hold out a share")
    split_dataset_ratio: float = option(
        0.01, "share of the rows held out for validation when --val_dataset is not given; 0: none"
    )
    columns: dict = option({}, 'renames columns before a row is read, as JSON: {"question": "query"}')
    max_length: int = option(2048, "longest row in tokens; --truncation_strategy says what happens beyond it")
    truncation_strategy: Literal["delete", "left", "right", "split"] = option(
        "delete",
        "rows over --max_length: delete them, cut tokens off on the left or the right, or split into pieces",
    )
    on_bad_row: Literal["stop", "drop"] = option(
        "stop", "a row that cannot be read: stop with its line, or drop it and list it in data.json"
    )
    data_seed: int = option(42, "seed of the sampling and of the validation split")
    dataset_shuffle: bool = option(True, "draw a new order of the training rows for each epoch")
    train_dataset_sample: int = option(-1, "train on this many rows in all; -1: every row", rare=True)
    val_dataset_sample: int = option(-1, "validate on this many rows in all; -1: every row", rare=True)
    train_dataset_mix_ratio: float = option(
        0.0, "mix other data into the training rows: this many rows for each training row; 0: none"
    )
    train_dataset_mix_ds: list[str] = option(
        ["ms-bench"], "what --train_dataset_mix_ratio draws from, written like --dataset; never validated on"
    )
    streaming: bool = option(
        False,
        "read and tokenise rows while training, for data larger than memory; needs --max_steps, and --val_dataset "
        "to evaluate",
    )
    shuffle_buffer: int = option(
        1000, "with --streaming: rows held back and drawn from at random; 0: the order of the files", rare=True
    )
    cache_dir: str | None = option(None, "folder of the tokenised rows; none: ~/.cache/swiftlite/tokens", rare=True)
    cache_size_gb: float = option(
        20.0, "largest size of that folder in GB (1e9 bytes); least recently used removed first", rare=True
    )
    packing: bool = option(
        False,
        "pack whole rows into bins of --max_length tokens, in which they do not see each other; --batch_size and the "
        "steps then count bins, each several rows",
    )
    padding_free: bool | None = option(
        None,
        "join the rows of a micro-batch into one row without padding, each attending only to itself; none: on a GPU",
    )
    group_by_length: bool = option(False, "batch rows of similar length together (less padding)")
    pad_to_multiple_of: int | None = option(
        None,
        "round the length of a batch up to a multiple; none: 8, with --padding_free up to 128 for long batches",
        rare=True,
    )

    def check(self) -> None:
        """Raise UsageError, naming the flag, for a value that cannot work."""
        for flag in ("dataset", "val_dataset", "train_dataset_mix_ds"):
            if any(not name.strip() for name in getattr(self, flag)):
                raise UsageError(f"--{flag}: an empty name; expected a registered name, a file or a folder")
        if not (math.isfinite(self.split_dataset_ratio) and 0 <= self.split_dataset_ratio < 1):
            raise UsageError(f"--split_dataset_ratio {self.split_dataset_ratio}: expected a share from 0 to below 1")
        if self.max_length < 2:
            raise UsageError(
                f"--max_length {self.max_length}: expected at least 2 tokens, one to read and one to predict"
            )
        for flag in ("train_dataset_sample", "val_dataset_sample"):
            value = getattr(self, flag)
            if value != -1 and value < 1:
                raise UsageError(f"--{flag} {value}: expected a number of rows from 1 up, or -1 for all")
        if self.data_seed < 0:
            raise UsageError(f"--data_seed {self.data_seed}: expected 0 or more")
        if not self.cache_size_gb > 0:
            raise UsageError(f"--cache_size_gb {self.cache_size_gb}: expected a size above 0")
        if self.pad_to_multiple_of is not None and self.pad_to_multiple_of < 1:
            raise UsageError(f"--pad_to_multiple_of {self.pad_to_multiple_of}: expected 1 or more")
        if not (math.isfinite(self.train_dataset_mix_ratio) and self.train_dataset_mix_ratio >= 0):
            raise UsageError(f"--train_dataset_mix_ratio {self.train_dataset_mix_ratio}: expected 0 or more")
        if self.train_dataset_mix_ratio and not self.train_dataset_mix_ds:
            raise UsageError("--train_dataset_mix_ds is empty; name the data that --train_dataset_mix_ratio mixes in")
        if self.shuffle_buffer < 0:
            raise UsageError(f"--shuffle_buffer {self.shuffle_buffer}: expected a number of rows, or 0 for none")
        if self.streaming:
            self._check_streaming()
        self._check_packing()
        for old, new in self.columns.items():
            if not (isinstance(new, str) and old and new):
                raise UsageError(
                    f'--columns: {old!r}: {new!r} is not a rename; expected {{"column": "name"}}, both text'
                )

    def _check_packing(self) -> None:
        """Refuse what cannot be joined to bins."""
        if self.packing and self.group_by_length:
            raise UsageError("--group_by_length has nothing to do in full bins; leave it away, or pass --packing false")

    def _check_streaming(self) -> None:
        """Refuse what needs to know every row before the first is trained on."""
        for flag, none in (("group_by_length", False), ("train_dataset_mix_ratio", 0), ("train_dataset_sample", -1)):
            if getattr(self, flag) != none:
                raise UsageError(
                    f"--{flag} {getattr(self, flag)} needs all rows at once and --streaming true reads them one by "
                    "one; leave one of them away"
                )


@dataclass
class TextDataConfig(DataConfig):
    """The same for pre-training, whose rows are plain texts."""

    max_length: int = option(1024, "tokens of a block (with --packing false: of a row)")
    truncation_strategy: Literal["delete", "left", "right", "split"] = option(
        "split", "with --packing false, texts over --max_length: split them into pieces, cut one side off, delete them"
    )
    packing: bool = option(True, "join the texts, each closed by the end token, and cut them into full blocks")
    isolate_documents: bool = option(
        False, "with --packing: texts in one block do not see each other, and positions count from 0 in each"
    )

    def _check_packing(self) -> None:
        """Refuse what cannot be joined to blocks."""
        if self.isolate_documents and not self.packing:
            raise UsageError("--isolate_documents is for packed texts; --packing false keeps each in a row of its own")
        for flag in ("padding_free", "group_by_length"):
            if self.packing and getattr(self, flag):
                raise UsageError(f"--{flag} has nothing to do in full blocks; leave it away, or pass --packing false")
