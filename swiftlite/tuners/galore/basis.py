"""The leading directions of a gradient, without its whole singular value decomposition."""

import torch
from torch import Tensor

# Directions drawn beyond those wanted: the last wanted ones are exact only with some to spare.
_OVERSAMPLING = 16
_POWER_ITERATIONS = 2


def leading_directions(matrix: Tensor, rank: int, seed: int) -> Tensor:
    """The `rank` leading left singular vectors of `matrix`, nearly (Halko, Martinsson and Tropp, arXiv 0909.4061, 4.4).

    Exact, up to rounding, where rank and some to spare reach the shorter side. For 4096 x 11008 and rank 128 this is
    0.1 TFLOP, a thousandth of what the whole decomposition needs. The same seed gives the same vectors.

    Args:
        matrix: (rows, columns), any floating precision.

    Returns:
        (rows, rank) in float32: orthonormal columns, the leading one first, of any sign.
    """
    matrix = matrix.float()
    width = min(rank + _OVERSAMPLING, *matrix.shape)
    generator = torch.Generator(matrix.device).manual_seed(seed)
    probes = torch.randn(matrix.shape[1], width, generator=generator, device=matrix.device)
    basis = torch.linalg.qr(matrix @ probes).Q
    for _ in range(_POWER_ITERATIONS):
        basis = torch.linalg.qr(matrix @ torch.linalg.qr(matrix.T @ basis).Q).Q
    inside = (basis.T @ matrix).double()
    # The squares of singular values need twice the digits.
    directions = torch.linalg.eigh(inside @ inside.T).eigenvectors[:, -rank:].flip(1)
    return basis @ directions.float()


def with_signs_of(directions: Tensor, before: Tensor) -> Tensor:
    """The directions, each turned so that it points along the one `before`: moments kept across them go on meaning it.

    The sign of a singular vector is anyone's choice; Adam's result does not depend on it until the vectors change.
    """
    along = (directions * before).sum(0)
    return torch.where(along < 0, -directions, directions)
