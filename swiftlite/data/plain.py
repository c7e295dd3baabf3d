"""The texts of data sets as plain strings, for training a tokenizer."""

from collections.abc import Iterator

import numpy as np

from swiftlite.data.config import DataConfig
from swiftlite.data.formats import convert_row
from swiftlite.data.loading import pick
from swiftlite.data.readers import Omitted, Unreadable
from swiftlite.data.registry import resolve
from swiftlite.data.selection import take
from swiftlite.data.tokenize import stopped_by
from swiftlite.data.values import BadRow


def read_texts(config: DataConfig) -> Iterator[str]:
    """Every text of `--dataset` in order; of a conversation, each message's.

    Raises:
        UserError: a row that cannot be read, unless bad rows are dropped.
    """
    for spec in config.dataset:
        source = resolve(spec)
        wanted = None
        if source.count is not None:
            wanted = np.unique(take(source.count_rows(), source.count, config.data_seed))
        for _, (row, origin) in pick(source.rows(streaming=config.streaming), wanted):
            if isinstance(row, Omitted):
                continue
            try:
                if isinstance(row, Unreadable):
                    raise BadRow("not readable", row.reason, "one row in the file's format")
                content = convert_row(row, {**source.columns, **config.columns}).content
            except BadRow as error:
                if config.on_bad_row == "stop":
                    raise stopped_by(error, origin) from None
                continue
            if "text" in content:
                yield content["text"]
            else:
                yield from (message["content"] for message in content["messages"] if message.get("content"))
