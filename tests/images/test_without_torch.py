"""Pictures are read, prepared and written where there is no torch."""

import struct
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from .samples import P3_PRIMARIES, decoded, encoded, photo, rgb_profile

CODE = """
import sys
sys.modules["torch"] = sys.modules["numpy"] = None
from pathlib import Path
from PIL import Image
from bidiffsr_cli.images import bleed_edges, encode, read_picture, render, resize_alpha

source, target = map(Path, sys.argv[1:])
picture = read_picture(source)
size = tuple(2 * side for side in picture.size)
planes, alpha = picture.planes, None
if picture.alpha is not None:
    planes, alpha = bleed_edges(planes, picture.alpha), resize_alpha(picture.alpha, size)
most = 65535 if picture.bits == 16 else 255
channels = []
for plane in planes:
    levels = plane.point(lambda value: value * most + 0.5) if plane.mode == "F" else plane
    channels.append(levels.resize(size).convert("I").convert("I;16" if picture.bits == 16 else "L"))
colour = channels[0] if picture.grey else Image.merge("RGB", channels)
options = {"quality": None, "picture": picture, "strip_metadata": False, "provenance": {"model": "none"}}
data, notes = encode(render(colour, picture, alpha=alpha), "PNG", **options)
assert not notes and not picture.warnings, (notes, picture.warnings)
target.write_bytes(data)
"""


def cut_out() -> Image.Image:
    image = photo(mode="RGBA")
    image.putalpha(image.getchannel("A").point(lambda level: 0 if level < 100 else level))
    image.paste((0, 255, 0, 255), (0, 0, 4, 4))  # which sRGB does not hold
    return image


SOURCES = {
    "PNG": (encoded(photo(), "PNG"), "RGB"),
    "JPEG": (encoded(photo(), "JPEG"), "RGB"),
    "16-bit grey": (encoded(Image.frombytes("I;16", (2, 2), struct.pack("<4H", 0, 1, 2, 65535)), "PNG"), "I;16"),
    "wide gamut with alpha": (encoded(cut_out(), "PNG", icc_profile=rgb_profile(P3_PRIMARIES, 2.2)), "RGBA"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_picture_goes_through_without_torch(name: str, tmp_path: Path) -> None:
    data, mode = SOURCES[name]
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    subprocess.run([sys.executable, "-c", CODE, source, target], check=True)
    before, after = decoded(data), decoded(target.read_bytes())
    assert (after.mode, after.size) == (mode, (2 * before.width, 2 * before.height))
    assert after.info.get("icc_profile") == before.info.get("icc_profile")
    if mode == "RGBA":
        green = after.getpixel((1, 1))
        assert isinstance(green, tuple) and green[3] == 255
        assert all(abs(a - b) <= 2 for a, b in zip(green, (0, 255, 0, 255), strict=True))
