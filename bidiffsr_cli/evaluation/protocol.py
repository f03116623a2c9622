"""How an enlarged picture is measured against its original: what is left out, and each metric by its name.

rule = rules("paper", 2)
values, artefacts = measure(["psnr_y", "grain"], sr, pixels, rule)
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import Tensor

from ..errors import UsageError
from ..images.resizing import downscale_bicubic
from . import artefacts, metrics
from .artefacts import Artefacts, find_artefacts
from .testset import Pixels


@dataclass(frozen=True)
class Rules:
    """What a figure depends on besides the pictures.

    Attributes:
        name: of the protocol.
        scale: how much larger.
        crop: pixels that PSNR and SSIM leave out at each side; LPIPS and artefacts leave out none.
    """

    name: str
    scale: int
    crop: int

    def describe(self, lr_given: bool, degradation: str = "") -> dict[str, str]:
        """The protocol in words."""
        small = "given" if lr_given else "made by MATLAB's bicubic (a = -0.5, antialiased)"
        return {
            "name": self.name,
            "border": f"{self.crop} pixels left out of PSNR and SSIM, none of LPIPS",
            "colour": "8-bit RGB; psnr_y, ssim_y on MATLAB's Y (16 to 235)",
            "ssim": "Gaussian window 11x11, sigma 1.5, inside the picture",
            "lpips": "AlexNet, v0.1",
            "small pictures": f"{small}, then {degradation}" if degradation else small,
        }


def rules(protocol: str, scale: int) -> Rules:
    """paper: a border of `scale` pixels is left out, as in the paper's tables; full: nothing is.

    Raises:
        UsageError: the protocol is none of the two.
    """
    if protocol not in ("paper", "full"):
        raise UsageError(f"{protocol!r} is not a protocol.", "Choose paper or full.")
    return Rules(protocol, scale, {"paper": scale, "full": 0}[protocol])


def measure(
    names: Collection[str], sr: Tensor, pixels: Pixels, rule: Rules
) -> tuple[dict[str, float], Artefacts | None]:
    """Metrics of one enlarged picture, and its artefacts if one of them is asked for.

    PSNR of equal pictures, which is infinite, is 100 dB, so that means exist.

    Args:
        names: of `paper.ALL_METRICS`.
        sr: 3×H×W uint8.
        pixels: what it was made from, and what it is compared with.
        rule: what is left out.

    Returns:
        Name -> value in the order of the names, without what cannot be told of this picture.

    Raises:
        InputError: the picture is too small for a metric.
    """
    found = find_artefacts(sr, pixels.hr) if set(artefacts.NAMES) & set(names) else None
    values = found.figures() if found else {}
    for name in names:
        if name == "lpips_alex":
            values[name] = metrics.lpips_alex(sr, pixels.hr)
        elif name == "lr_psnr":
            values[name] = min(metrics.psnr(downscale_bicubic(sr, rule.scale), pixels.lr, 0), 100.0)
        elif name not in artefacts.NAMES:
            values[name] = min(getattr(metrics, name)(sr, pixels.hr, rule.crop), 100.0)
    return {name: values[name] for name in names if name in values}, found
