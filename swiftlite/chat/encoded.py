"""What a template makes of one row: token ids and the weight of each in the loss."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Encoded:
    """One tokenised row.

    Attributes:
        ids, weights: of the same length; a weight of 0.0 means the token is read but not trained on.
        untrained_turns: assistant turns left out of the loss because the template rewrote them (many drop the
            thinking of earlier turns): the model would not have said them so.
        special_in_text: control tokens typed into the text of messages or tools, encoded as plain characters.
        text_bytes: UTF-8 bytes of a row of plain text, for bits per byte; 0 for a conversation.
    """

    ids: list[int]
    weights: list[float]
    untrained_turns: int = 0
    special_in_text: int = 0
    text_bytes: int = 0

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.weights):
            raise ValueError(f"{len(self.ids)} ids but {len(self.weights)} weights")
