"""Scores in words, and those of several versions of one picture as a table of HTML with the best in bold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from .markup import html_table, text

METRIC_NAMES = {
    "psnr_y": "PSNR-Y",
    "ssim_y": "SSIM-Y",
    "psnr_rgb": "PSNR-RGB",
    "ssim_rgb": "SSIM-RGB",
    "lpips_alex": "LPIPS",
    "lr_psnr": "LR-PSNR",
    "grain": "grain",
    "weave": "weave",
    "comb": "comb",
    "cross": "cross",
    "seconds": "s",
}
BETTER = "PSNR in dB and SSIM: higher is better; LPIPS: lower."
FORMATS = {"seconds": ".2f", "grain": "+.2f", "weave": ".3f", "comb": "+.2f", "cross": "+.2f"}
ARROWS = {1: " ↑", -1: " ↓", 0: ""}
UNKNOWN = "–"


def score_text(name: str, value: float | None) -> str:
    """A score as its cell in a table.

    Args:
        name: in JSON.
        value: None and NaN where it is unknown, infinite as the PSNR of equal pictures.
    """
    if value is None or math.isnan(value):
        return UNKNOWN
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return format(value, FORMATS.get(name, ".2f" if "psnr" in name else ".4f"))


def scores_table(title: str, versions: Sequence[tuple[str, Mapping[str, float]]]) -> str:
    """A row for each version (label, scores by their names in JSON) that has scores; "" where none has."""
    scored = [(label, scores) for label, scores in versions if scores]
    names = list(dict.fromkeys(name for _, scores in scored for name in scores))
    if not names:
        return ""
    columns = [_column(name, [scores.get(name) for _, scores in scored]) for name in names]
    rows = [[text(label), *(column[i] for column in columns)] for i, (label, _) in enumerate(scored)]
    header = ["", *(text(METRIC_NAMES.get(name, name)) + ARROWS[_direction(name)] for name in names)]
    html = html_table(text(title), header, rows, words=1)
    return f'{html}\n<p class="note">↑ higher is better, ↓ lower; the best is bold.</p>'


def _column(name: str, values: Sequence[float | None]) -> list[str]:
    """The cells of one score, those that read like the best in bold."""
    cells = [score_text(name, value) for value in values]
    known = [value for value in values if value is not None and not math.isnan(value)]
    if len(known) < 2 or _direction(name) == 0:
        return cells
    best = score_text(name, max(known) if _direction(name) > 0 else min(known))
    return [f"<b>{cell}</b>" if cell == best else cell for cell in cells]


def _direction(name: str) -> int:
    """1 where higher is better, -1 where lower is, 0 where nobody knows."""
    return 1 if "psnr" in name or "ssim" in name else -1 if name.startswith(("lpips", "seconds")) else 0
