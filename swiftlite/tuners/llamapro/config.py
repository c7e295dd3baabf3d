"""Settings of LLaMA-Pro."""

from dataclasses import dataclass

from swiftlite.config.errors import UserError
from swiftlite.config.options import option


@dataclass
class LlamaproOptions:
    llamapro_num_new_blocks: int = option(
        4, "llamapro: layers to add and train (arXiv 2401.02415); the old ones stay as they are"
    )
    llamapro_num_groups: int | None = option(
        None,
        "llamapro: groups of old layers, each followed by its share of new ones; none: one new layer each",
        rare=True,
    )

    def check(self) -> None:
        blocks, groups = self.llamapro_num_new_blocks, self.llamapro_num_groups
        if blocks < 1:
            raise UserError(f"--llamapro_num_new_blocks: {blocks} is not a number of layers to add; 4 is usual")
        if groups is not None and (groups < 1 or blocks % groups):
            raise UserError(
                f"--llamapro_num_groups: {groups} groups cannot share {blocks} new layers evenly; give a number that "
                f"divides {blocks}, or leave it away"
            )
