"""Profiles: kept, converted, converted back, or dropped with a word."""

import struct

import PIL
import pytest
import torch
from PIL import Image, ImageCms

from bidiffsr_cli.errors import InputError
from bidiffsr_cli.images import Picture, encode, read_picture, render
from bidiffsr_cli.images.pixels import to_levels

from .samples import (
    ADOBE_PRIMARIES,
    P3_PRIMARIES,
    SRGB_PRIMARIES,
    cmyk_profile,
    decoded,
    encoded,
    grey_profile,
    noise,
    photo,
    rgb_profile,
    unenlarged,
)

ADOBE = rgb_profile(ADOBE_PRIMARIES, 2.2)
P3 = rgb_profile(P3_PRIMARIES, 2.2)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def read_with(icc: bytes, image: Image.Image | None = None) -> Picture:
    return read_picture(encoded(image or photo(), "PNG", icc_profile=icc))


def difference(image: Image.Image, other: Image.Image) -> int:
    pixels = zip(image.tobytes(), other.tobytes(), strict=True)
    return max(abs(a - b) for a, b in pixels)


def test_srgb_is_recognised_by_what_it_does() -> None:
    picture = read_with(SRGB)
    assert picture.icc_profile == SRGB and not picture.converted and not picture.warnings
    assert torch.equal((picture.rgb * 255).round().byte(), noise(24, 16))


@pytest.mark.parametrize("icc", [ADOBE, P3], ids=["adobe", "p3"])
def test_other_profiles_become_srgb_and_come_back(icc: bytes) -> None:
    picture = read_with(icc)
    assert picture.converted and picture.icc_profile == icc and not picture.warnings
    # a neutral pixel stays neutral, a saturated one moves
    assert (picture.rgb * 255 - noise(24, 16)).abs().max() > 5
    assert difference(render(unenlarged(picture), picture), photo()) <= 2


def test_the_network_sees_what_a_colour_manager_would_show() -> None:
    picture = read_with(ADOBE, Image.new("RGB", (1, 1), (200, 100, 50)))
    linear = torch.tensor([[200, 100, 50]]).div(255).pow(2.2)
    xyz = linear @ torch.tensor(ADOBE_PRIMARIES)
    srgb = (xyz @ torch.tensor(SRGB_PRIMARIES).inverse()).clamp(0, 1)
    expected = torch.where(srgb > 0.0031308, 1.055 * srgb.pow(1 / 2.4) - 0.055, 12.92 * srgb)
    assert (picture.rgb.flatten() - expected[0]).abs().max() * 255 < 2


@pytest.mark.parametrize("colour", [(255, 0, 0), (0, 255, 0), (0, 255, 255), (255, 255, 0), (3, 2, 1)])
def test_colours_outside_srgb_survive(colour: tuple[int, int, int]) -> None:
    image = Image.new("RGB", (8, 6), colour)
    picture = read_with(P3, image)
    enlarged = unenlarged(picture).resize((24, 18), Image.Resampling.NEAREST)
    assert difference(render(enlarged, picture), image.resize((24, 18))) <= 2


def test_outside_colours_are_the_same_in_every_band(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = read_with(P3, photo(40, 30))
    assert picture.colour_rest is not None
    enlarged = unenlarged(picture).resize((160, 120), Image.Resampling.BICUBIC)
    whole = render(enlarged, picture)
    monkeypatch.setattr("bidiffsr_cli.images.planes.BAND_PIXELS", 1000)
    assert difference(render(enlarged, picture), whole) <= 1


def test_a_transparent_pixel_passes_no_rest_on() -> None:
    image = Image.new("RGBA", (2, 1), (0, 255, 0, 255))
    image.putpixel((1, 0), (255, 0, 0, 0))
    picture = read_with(P3, image)
    assert picture.colour_rest is not None
    rest = torch.cat([to_levels(plane) for plane in picture.colour_rest])
    assert rest[:, 0, 0].abs().max() > 0 and rest[:, 0, 1].abs().max() == 0


def test_the_sum_of_colour_and_rest_is_rounded_and_clamped() -> None:
    picture = read_with(P3, Image.new("RGB", (5, 1)))
    image = Image.new("RGB", (5, 1), (128, 128, 128))
    plain = render(image, picture).getchannel("R").getextrema()[0]
    assert picture.converted and picture.colour_rest is None and isinstance(plain, int)
    added = [0.4999, 0.5001, -0.4999, -300, 300]
    picture.colour_rest = (Image.frombytes("F", (5, 1), struct.pack("5f", *added)),) * 3
    assert list(render(image, picture).getchannel("R").tobytes()) == [plain, plain + 1, plain, 0, 255]


def test_a_colour_profile_that_opens_and_cannot_convert_is_told_of_grey_as_of_colour() -> None:
    damaged = SRGB.replace(b"rTRC", b"rXXX", 1)
    for image in (photo(), photo().convert("L")):
        picture = read_picture(encoded(image, "JPEG", icc_profile=damaged))
        assert picture.icc_profile is None and "damaged" in picture.warnings[0]


@pytest.mark.parametrize("icc", [b"rubbish", SRGB[:200], cmyk_profile((100, 128, 128)), grey_profile(2.2)])
def test_profiles_that_do_not_fit_are_dropped_with_a_warning(icc: bytes) -> None:
    picture = read_with(icc)
    assert picture.icc_profile is None and not picture.converted
    assert len(picture.warnings) == 1 and "taken as sRGB" in picture.warnings[0]
    assert torch.equal((picture.rgb * 255).round().byte(), noise(24, 16))


def test_cmyk_goes_by_its_profile() -> None:
    image = Image.new("CMYK", (8, 8), (10, 200, 30, 0))
    picture = read_picture(encoded(image, "JPEG", icc_profile=cmyk_profile((255, 128, 128))))  # Lab: white
    assert picture.rgb.min() > 0.99 and picture.icc_profile is None and not picture.grey
    assert picture.warnings == ["CMYK was converted to sRGB by its colour profile."]


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_without_profile(format: str) -> None:
    picture = read_picture(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), format))
    assert picture.rgb[:, 0, 0].tolist() == pytest.approx([1, 0, 0], abs=0.02)
    assert "CMYK was converted to sRGB without a colour profile" in picture.warnings[0]


def test_lab_and_ycbcr() -> None:
    lab = ImageCms.profileToProfile(
        photo(), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    assert lab is not None
    if int(PIL.__version__.partition(".")[0]) < 13:
        for image in (lab, photo().convert("YCbCr")):
            with pytest.raises(
                InputError, match=r"is a (Lab|YCbCr) TIFF of 3 channels of 8-bit integers, which cannot be read"
            ):
                read_picture(encoded(image, "TIFF"))
        return
    picture = read_picture(encoded(lab, "TIFF"))
    assert (picture.rgb * 255 - noise(24, 16)).abs().mean() < 3 and "Lab was converted" in picture.warnings[0]
    picture = read_picture(encoded(photo().convert("YCbCr"), "TIFF"))
    assert (picture.rgb * 255 - noise(24, 16)).abs().max() < 4 and not picture.warnings


def test_grey_with_a_colour_profile_becomes_srgb_grey() -> None:
    linear = rgb_profile(SRGB_PRIMARIES, 1.0)
    picture = read_with(linear, Image.new("L", (2, 2), 55))
    assert picture.grey and picture.icc_profile is None and not picture.warnings
    assert picture.rgb[0, 0, 0].item() * 255 == pytest.approx(128, abs=2)
    assert read_with(SRGB, Image.new("L", (2, 2), 55)).rgb[0, 0, 0].item() * 255 == pytest.approx(55)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("mode", ["L", "LA"])
def test_a_grey_profile_means_the_same_colours_in_every_format(format: str, mode: str) -> None:
    icc = grey_profile(1.0)
    image = Image.new(mode, (16, 16), 55 if mode == "L" else (55, 255))
    picture = read_with(icc, image)
    data, _ = encode(
        render(unenlarged(picture), picture, alpha=picture.alpha),
        format,
        quality=None,
        picture=picture,
        strip_metadata=True,
        provenance=None,
    )
    written = decoded(data)
    value = written.convert("RGB").getpixel((8, 8))
    kept = written.info.get("icc_profile")
    assert isinstance(value, tuple) and value[0] == pytest.approx(55 if kept else 128, abs=3)
    assert kept in (None, icc) and (kept is None or written.mode in ("L", "LA"))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
def test_the_profile_is_in_every_format(format: str) -> None:
    picture = read_with(ADOBE)
    data, notes = encode(
        render(unenlarged(picture), picture),
        format,
        quality=None,
        picture=picture,
        strip_metadata=True,
        provenance=None,
    )
    assert decoded(data).info["icc_profile"] == ADOBE and not notes
