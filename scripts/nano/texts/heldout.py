"""Which questions are kept for the evaluation: about one in twenty, by a hash of what is asked."""

from collections.abc import Sequence
from hashlib import blake2b


def held_out(key: str) -> bool:
    """Whether the question with this canonical key is kept out of all training text, in any wording.

    Keys: `17+25` and `17|25` (smaller number first), `42-17`, `7*8:3` (wording 3 of 7 x 8; the tables
    themselves are taught) and `mc:QUESTION:OPTIONS` (sorted).
    """
    return int.from_bytes(blake2b(key.encode(), digest_size=4).digest(), "big") % 20 == 0


def sum_is_free(a: int, b: int) -> bool:
    """Whether a + b may be shown. Sums of two one-digit numbers, which every other sum needs, always may."""
    return (a < 10 and b < 10) or not held_out(f"{min(a, b)}+{max(a, b)}")


def difference_is_free(a: int, b: int) -> bool:
    """Whether a - b may be shown; from numbers under 20 one may always take away a digit."""
    return (a < 20 and b < 10) or not held_out(f"{a}-{b}")


def comparison_is_free(a: int, b: int) -> bool:
    """Whether the two numbers may be compared; two digits always may."""
    return (a < 10 and b < 10) or not held_out(f"{min(a, b)}|{max(a, b)}")


def wording_is_free(a: int, b: int, wording: int) -> bool:
    """Whether this wording of a x b may be asked."""
    return not held_out(f"{a}*{b}:{wording}")


def choice_is_free(question: str, options: Sequence[str]) -> bool:
    """Whether this multiple-choice question may be asked with these options, in any order."""
    return not held_out(f"mc:{question}:{'|'.join(sorted(options))}")
