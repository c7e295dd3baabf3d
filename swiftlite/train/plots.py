"""The PNG plots of a finished run, drawn from its log records."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

_CURVES = {
    "loss": ("loss per trained token (nats)", ["loss", "eval_loss"]),
    "learning_rate": ("learning rate", ["learning_rate"]),
    "grad_norm": ("gradient norm before clipping", ["grad_norm"]),
    "speed": ("tokens per second", ["tokens_per_s", "trained_tokens_per_s"]),
}


def draw_plots(records: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Writes loss.png, learning_rate.png, grad_norm.png and speed.png; returns their paths."""
    folder.mkdir(exist_ok=True)
    written = []
    for name, (label, keys) in _CURVES.items():
        # A bare Figure, not pyplot: no display is asked for and none is left open.
        figure = Figure(figsize=(8, 5), layout="tight")
        axes = figure.add_subplot()
        for key in keys:
            points = [(r["step"], r[key]) for r in records if key in r]
            if points:
                axes.plot(*zip(*points), marker="o" if len(points) < 30 else None, markersize=3, label=key)
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
        axes.legend()
        figure.savefig(folder / f"{name}.png", dpi=110)
        written.append(folder / f"{name}.png")
    return written
