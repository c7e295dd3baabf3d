"""What a template makes of one row: token ids and the weight of each in the loss."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Encoded:
    """One tokenised row.

    `ids` and `weights` have the same length; a weight of 0.0 means the token is read but not trained on.
    """

    ids: list[int]
    weights: list[float]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.weights):
            raise ValueError(f"{len(self.ids)} ids but {len(self.weights)} weights")
