"""How an enlarged picture is measured against its original: what is left out, and each metric by its name.

rule = rules("paper", 2)
measure("psnr_y", sr, pixels, rule)
values, artefacts = measure_all(["psnr_y", "grain"], sr, pixels, rule)
"""

from __future__ import annotations

from collections.abc import Sequence
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


def measure(name: str, sr: Tensor, pixels: Pixels, rule: Rules) -> float:
    """One metric of one enlarged picture; PSNR of equal pictures, which is infinite, is 100 dB, so that means exist.

    Args:
        name: of `paper.ALL_METRICS`, but none of `artefacts.NAMES`.
        sr: 3×H×W uint8.
        pixels: what it was made from, and what it is compared with.
        rule: what is left out.

    Raises:
        InputError: the picture is too small for the metric.
    """
    if name == "lpips_alex":
        return metrics.lpips_alex(sr, pixels.hr)
    if name == "lr_psnr":
        value = metrics.psnr(downscale_bicubic(sr, rule.scale), pixels.lr, 0)
    else:
        value = getattr(metrics, name)(sr, pixels.hr, rule.crop)
    return min(value, 100.0)


def measure_all(
    names: Sequence[str], sr: Tensor, pixels: Pixels, rule: Rules
) -> tuple[dict[str, float], Artefacts | None]:
    """Several metrics of one enlarged picture, and its artefacts if one of them is asked for; otherwise as `measure`.

    Args:
        names: of `paper.ALL_METRICS`.

    Returns:
        Name -> value in the order of the names, without what cannot be told of this picture.
    """
    found = find_artefacts(sr, pixels.hr) if set(artefacts.NAMES) & set(names) else None
    known = found.figures() if found else {}
    values = {name: known.get(name) if name in artefacts.NAMES else measure(name, sr, pixels, rule) for name in names}
    return {name: value for name, value in values.items() if value is not None}, found
