"""The results of a comparison as text: a table for each case with ratios to the best peer, versions, hardware."""

from collections.abc import Iterable
from typing import Any

TITLES = {
    "fixed": "Rows of {fixed:,} tokens",
    "varlen": "Rows of many lengths (log-normal, at most {fixed:,} tokens), real tokens counted",
    "long": "Rows of {long:,} tokens",
}
HEAD = ["tool", "setting", "tokens/s", "of the best peer", "padding", "ms a step", "peak GiB"]


def comparison(results: list[dict[str, Any]], shape: dict[str, Any], missing: list[str]) -> str:
    """Markdown: per case, its rows from fast to slow and then those that failed; below, what they ran on."""
    parts = []
    for case, title in TITLES.items():
        rows = [r for r in results if r["case"] == case]
        if rows:
            parts += [f"## {title.format(**shape)}", "", *_table(rows), ""]
    if missing:
        parts += [f"Not installed: {', '.join(missing)}.", ""]
    parts += ["## What they ran on", "", *_environments(results), ""]
    return "\n".join(parts)


def _table(rows: list[dict[str, Any]]) -> list[str]:
    ran = sorted((r for r in rows if "error" not in r), key=lambda r: -r["tokens_per_s"])
    best = max((r["tokens_per_s"] for r in ran if r["tool"] != "ours"), default=None)
    lines = [_line(HEAD), _line(["---"] * len(HEAD))]
    lines += [_line(_cells(row, best)) for row in ran]
    return lines + [_line([r["tool"], r["setting"], r["error"], "", "", "", ""]) for r in rows if "error" in r]


def _cells(row: dict[str, Any], best: float | None) -> Iterable[str]:
    memory = row.get("peak_reserved_gib", row.get("peak_rss_gib"))
    return (
        row["tool"],
        row["setting"],
        f"{row['tokens_per_s']:,.0f}",
        f"{row['tokens_per_s'] / best:.2f}x" if best else "",
        f"{1 - row['tokens_per_s'] / row['computed_tokens_per_s']:.1%}",
        f"{row['median_step_ms']:,.1f}",
        f"{memory:.1f}",
    )


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _environments(results: list[dict[str, Any]]) -> list[str]:
    """A line a tool: they have package folders, and so versions, of their own."""
    lines: dict[str, None] = {}
    for row in results:
        if "versions" in row:
            versions = ", ".join(f"{name} {version}" for name, version in row["versions"].items())
            lines[f"- {row['tool']}: {row['device']}; {versions}"] = None
    return list(lines)
