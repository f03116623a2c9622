"""The figures of the paper's table 2 (Chen et al., NeurIPS 2024), to stand beside one's own."""

from __future__ import annotations

from ..errors import UsageError
from .artefacts import NAMES as ARTEFACTS

SETS = ("Set5", "B100", "Urban100", "Manga109")
METRICS = ("psnr_y", "ssim_y", "lpips_alex")
ALL_METRICS = (*METRICS, "psnr_rgb", "ssim_rgb", "lr_psnr", *ARTEFACTS)
"""Those that `protocol.measure` knows."""

_TABLE = """
2 Bicubic   33.67 .9303 .1274  29.55 .8431 .2508  26.87 .8403 .2064  30.82 .9349 .1025
2 SR3       36.69 .9513 .0310  30.41 .8683 .0700  30.29 .9060 .0430  35.11 .9682 .0161
2 BNN       13.97 .5210 .4529  13.73 .4553 .5784  12.75 .4236 .5575   9.29 .3035 .7489
2 DoReFa    16.43 .6553 .2662  16.11 .5912 .3972  15.09 .5495 .4055  12.35 .4609 .5047
2 XNOR      32.34 .8661 .0782  27.94 .7548 .1665  27.47 .8225 .1153  31.99 .9428 .0326
2 IRNet     32.55 .9340 .0446  27.76 .8199 .1115  26.34 .8452 .0913  23.89 .7621 .1820
2 ReActNet  34.30 .9271 .0351  28.36 .8158 .0943  27.43 .8563 .0731  32.16 .9441 .0379
2 BBCU      34.31 .9281 .0393  28.39 .8202 .0905  28.05 .8669 .0620  32.88 .9508 .0272
2 BI-DiffSR 35.68 .9414 .0277  29.73 .8478 .0682  28.97 .8815 .0522  33.99 .9601 .0172
4 Bicubic   28.43 .8111 .3398  25.95 .6678 .5244  23.14 .6579 .4729  24.90 .7876 .3210
4 SR3       31.03 .8798 .1127  26.11 .6933 .2247  25.52 .7702 .1438  28.77 .8854 .0646
4 BNN       12.21 .3103 .8310  12.30 .2128 .9519  11.30 .2191 .9592   8.96 .1833 1.0117
4 DoReFa    10.40 .2460 .9855   9.78 .1709 1.0793  8.79 .1614 1.1186  7.52 .1464 1.1169
4 XNOR      28.06 .8274 .1381  25.25 .6552 .3101  23.13 .6647 .2564  23.84 .7839 .1559
4 IRNet     15.52 .3514 .7548  16.38 .3121 .7072  15.23 .3043 .7068  11.82 .2442 .8354
4 ReActNet  29.23 .8362 .1472  23.56 .5670 .3339  22.32 .6440 .2276  25.32 .7854 .1721
4 BBCU      25.44 .7795 .1650  21.46 .5472 .3206  20.52 .6293 .2290  23.02 .7966 .1496
4 BI-DiffSR 29.63 .8374 .1109  25.84 .6779 .2754  24.11 .7177 .1823  26.95 .8548 .0889
"""


def paper_rows(name: str, scale: int) -> dict[str, dict[str, float]]:
    """Method -> metric -> value, of one of the paper's sets; nothing for other sets and scales.

    Args:
        name: of the set; upper and lower case are the same.
        scale: 2 or 4.
    """
    known = {known.lower(): index for index, known in enumerate(SETS)}
    if name.lower() not in known:
        return {}
    first = 2 + known[name.lower()] * len(METRICS)
    lines = [line.split() for line in _TABLE.strip().splitlines()]
    return {
        line[1]: dict(zip(METRICS, map(float, line[first : first + len(METRICS)]), strict=True))
        for line in lines
        if line[0] == str(scale)
    }


def choose_set(dataset: str, folder: str, scale: int) -> str:
    """The paper's set that pictures belong to: by what they are called, else by the path that they lie in.

    Raises:
        UsageError: the paper has no figures for it.
    """
    known = dataset if paper_rows(dataset, scale) else guess_set(folder)
    if not paper_rows(known, scale):
        raise UsageError(
            f"The paper has no row for {dataset} x{scale}.",
            f"It has x2 and x4 of {', '.join(SETS)}: say so with --name.",
        )
    return known


def guess_set(folder: str) -> str:
    """The set whose name is a part of a path, or an empty string."""
    parts = [part.lower() for part in folder.replace("\\", "/").split("/")]
    return next((name for name in SETS if name.lower() in parts), "")
