"""Facts: how each may be said, asked, answered and turned into a multiple-choice question."""

from dataclasses import dataclass

from texts.grammar import capital, with_article

Table = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Fact:
    """One fact. `says`, `asks` and `choice` are sentences with choices; `wrong` are values that would be false."""

    kind: str
    subject: str
    says: str
    asks: str
    answer: str
    choice: str = ""
    right: str = ""
    wrong: tuple[str, ...] = ()


def facts(
    kind: str, table: Table, says: str, asks: str, answer: str, choice: str = "", subject: str = "{a}"
) -> list[Fact]:
    """A fact for each row. Slots: a, b, with article (an, bn), with a capital (A, B, An, Bn)."""
    found = []
    for a, b in table:
        slots = {"a": a, "b": b, "A": capital(a), "B": capital(b), "an": with_article(a), "bn": with_article(b)}
        slots |= {"An": capital(slots["an"]), "Bn": capital(slots["bn"])}
        true = {value for key, value in table if key == a}
        wrong = tuple(sorted({value for _, value in table} - true))
        filled = [text.format(**slots) for text in (subject, says, asks, answer, choice)]
        found.append(Fact(kind, *filled, right=b, wrong=wrong))
    return found


def turned(table: Table) -> Table:
    """b: a, for each b that stands once only."""
    values = [b for _, b in table]
    keys = {a for a, _ in table}
    return tuple((b, a) for a, b in table if values.count(b) == 1 and b not in keys)
