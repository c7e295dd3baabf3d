"""What the launcher (torchrun) says about this process; plain `python` is a world of one."""

import dataclasses
import os


@dataclasses.dataclass(frozen=True)
class World:
    """This process among its peers, from the variables that torchrun sets."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        return self.rank == 0


def read_world() -> World:
    """The world as torchrun describes it."""
    if "RANK" not in os.environ:
        return World()
    return World(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(os.environ.get("LOCAL_RANK", "0")))
