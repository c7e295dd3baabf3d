"""Pins the date that a chat template prints, so that the same data gives the same tokens on any day."""

import json
from datetime import date

CLOCK = "strftime_now"


def pin_date(template: str, day: date) -> str:
    """`template` with a `strftime_now` of its own, which says `day` at midnight.

    Chat templates ask for today's date by `strftime_now(format)`, which transformers provides. A macro of that
    name at the head of the template stands before it; no value passed from outside could, since transformers
    lets templates see plain data only.
    """
    replaced = "".join(
        f" | replace({json.dumps(code)}, {json.dumps(value, ensure_ascii=False)})"
        for code, value in _codes(day).items()
    )
    # Jinja removes the line break after a block (trim_blocks), whatever the template begins with.
    return f"{{%- macro {CLOCK}(format) -%}}{{{{- format{replaced} -}}}}{{%- endmacro %}}\n{template}"


def _codes(day: date) -> dict[str, str]:
    """strftime's codes and what they say; those without padding are no part of Python's own list."""
    codes = {f"%{letter}": day.strftime(f"%{letter}") for letter in "aAbBcdHIjmMpSUwWxXyY"}
    short = {"%-d": day.day, "%-m": day.month, "%-j": day.timetuple().tm_yday, "%-H": 0, "%-I": 12, "%-M": 0, "%-S": 0}
    return (
        {code: str(number) for code, number in short.items()}
        | codes
        | {
            "%F": day.isoformat(),
            "%e": f"{day.day:2}",
            "%%": "%",
        }
    )
