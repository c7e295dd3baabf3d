"""When an answer counts as the reference: exact match, blind to white space, case and a last full stop."""

_FULL_STOPS = (".", "。")


def normalise(text: str) -> str:
    """`text` as it is compared: stripped, runs of white space as one space, no last full stop, case folded.

    One full stop is taken off, and only where something stands before it.
    """
    text = " ".join(text.split())
    if text.endswith(_FULL_STOPS):
        text = text[:-1].rstrip() or text
    return text.casefold()


def is_exact_match(answer: str, reference: str) -> bool:
    """Whether both are the same once normalised."""
    return normalise(answer) == normalise(reference)
