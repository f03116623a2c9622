"""Colours that a file states otherwise than by an ICC profile: the result must look as the source does."""

import contextlib
import io
import struct

import pytest
import torch
from PIL import ExifTags, Image, ImageCms

from bidiffsr_cli.errors import InputError
from bidiffsr_cli.images import avif, encode, read_picture, render
from bidiffsr_cli.images.spaces import Coding, adobe_rgb, from_cicp, from_gamma, from_primaries, from_xyz

from .samples import ADOBE_PRIMARIES, P3_PRIMARIES, SRGB_PRIMARIES, chunk, encoded, png, rgb_profile, unenlarged

GREEN = (60, 200, 80)
SRGB_PLACES = [0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06]
P3_PLACES = [0.3127, 0.3290, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06]


def shown(data: bytes) -> tuple[int, ...]:
    """The sRGB colour of the first pixel, as a colour-managed viewer shows it."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    if icc := image.info.get("icc_profile"):
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if profile.profile.xcolor_space == "GRAY":
            image = image.convert("L")
        image = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), 1, "RGB")
    return image.getpixel((0, 0))


def by(profile: bytes, colour: tuple[int, ...] = GREEN) -> tuple[int, ...]:
    return shown(encoded(Image.new("RGB", (4, 4), colour), "PNG", icc_profile=profile))


def result(data: bytes, format: str = "PNG") -> bytes:
    """A file written again as it is."""
    picture = read_picture(data)
    image = render(unenlarged(picture), picture, alpha=picture.alpha)
    return encode(image, format, quality=None, picture=picture, strip_metadata=False, provenance=None)[0]


def close(a: tuple[int, ...], b: tuple[int, ...], most: int = 3) -> bool:
    return all(abs(x - y) <= most for x, y in zip(a, b, strict=True))


def flat_png(*chunks: bytes, colour: tuple[int, int, int] = GREEN) -> bytes:
    return png(4, 4, 8, 2, (b"\0" + bytes(colour) * 4) * 4, b"".join(chunks))


def flat_grey(level: int, *chunks: bytes) -> bytes:
    return png(4, 4, 8, 0, (b"\0" + bytes([level]) * 4) * 4, b"".join(chunks))


def gamma(value: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(value * 100_000)))


def places(numbers: list[float]) -> bytes:
    return chunk(b"cHRM", struct.pack(">8I", *(round(number * 100_000) for number in numbers)))


def cicp(primaries: int, transfer: int) -> bytes:
    return chunk(b"cICP", bytes((primaries, transfer, 0, 1)))


@pytest.mark.parametrize(
    ("coding", "columns"),
    [
        (from_cicp(12, 13), P3_PRIMARIES),
        (adobe_rgb(), ADOBE_PRIMARIES),
        (from_gamma(1.0, SRGB_PLACES), SRGB_PRIMARIES),
        (from_primaries(P3_PLACES), P3_PRIMARIES),
    ],
)
def test_the_columns_of_a_profile_are_those_of_the_standards(coding: Coding, columns: tuple) -> None:
    profile = coding.profile(grey=False)
    assert profile is not None
    read = ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile
    found = [read.red_colorant[0], read.green_colorant[0], read.blue_colorant[0]]
    assert torch.allclose(torch.tensor(found), torch.tensor(columns), atol=2e-4)


def test_what_means_srgb_needs_no_profile() -> None:
    assert from_cicp(1, 13) is from_cicp(2, 2) is from_cicp(1, 2) is None
    assert from_gamma(0.45455, None) is from_gamma(0.45455, SRGB_PLACES) is from_gamma(None, SRGB_PLACES) is None
    assert from_xyz([0.4124, 0.2126, 0.0193, 0.3576, 0.7152, 0.1192, 0.1805, 0.0722, 0.9505], 2.2) is None
    for data in (flat_png(gamma(0.45455), places(SRGB_PLACES)), flat_png(gamma(1.0), chunk(b"sRGB", b"\0"))):
        picture = read_picture(data)
        assert picture.icc_profile is None and not picture.converted and not picture.warnings


@pytest.mark.parametrize(
    "data",
    [
        flat_png(cicp(12, 13)),
        flat_png(gamma(0.45455), places(P3_PLACES)),
        flat_png(cicp(12, 13), chunk(b"sRGB", b"\0"), gamma(1.0)),
    ],
)
def test_png_of_a_wide_space(data: bytes) -> None:
    for format in ("PNG", "TIFF"):
        assert close(shown(result(data, format)), by(rgb_profile(P3_PRIMARIES, 2.2)), 5)
    assert Image.open(io.BytesIO(result(data))).getpixel((0, 0)) == GREEN  # the numbers stay, and say what they mean


@pytest.mark.parametrize(("value", "level", "right"), [(1.0, 55, 128), (1 / 1.8, 100, 119), (0.3, 100, 59)])
def test_png_with_a_gamma(value: float, level: int, right: int) -> None:
    linear = (level / 255) ** (1 / value)
    srgb = 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
    assert abs(255 * srgb - right) < 1
    for data in (flat_png(gamma(value), colour=(level,) * 3), flat_grey(level, gamma(value))):
        picture = read_picture(data)
        assert close(shown(result(data)), (right,) * 3, 2), picture.icc_profile
        assert picture.converted == (not picture.grey)


def test_an_icc_profile_counts_before_gamma_and_after_code_points() -> None:
    adobe = rgb_profile(ADOBE_PRIMARIES, 2.19921875)
    image = Image.new("RGB", (4, 4), GREEN)
    data = encoded(image, "PNG", icc_profile=adobe)
    head, rest = data[:33], data[33:]
    assert read_picture(head + gamma(1.0) + rest).icc_profile == adobe
    assert read_picture(head + cicp(12, 13) + rest).icc_profile == from_cicp(12, 13).profile(grey=False)
    assert read_picture(head + cicp(1, 13) + rest).icc_profile == adobe


@pytest.mark.parametrize("transfer", [16, 18])
def test_high_dynamic_range_is_named(transfer: int) -> None:
    (warning,) = read_picture(flat_png(cicp(9, transfer))).warnings
    assert {16: "PQ", 18: "HLG"}[transfer] in warning


@pytest.mark.parametrize(
    "chunks",
    [
        [gamma(0.001)],
        [gamma(0)],
        [places([0.3] * 8)],
        [places([0.3127, 0.329, 0.15, 0.06, 0.30, 0.60, 0.64, 0.33])],
        [cicp(77, 13)],
        [cicp(1, 99)],
        [cicp(1, 1)],
        [places([0.2, 0.6, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06])],  # a white that no mixture makes
    ],
)
def test_what_is_not_understood_is_said(chunks: list[bytes]) -> None:
    picture = read_picture(flat_png(*chunks))
    assert len(picture.warnings) == 1 and "sRGB" in picture.warnings[0]
    assert picture.icc_profile is None and (picture.rgb[:, 0, 0] * 255).round().tolist() == list(GREEN)


def test_chunks_of_the_wrong_length_are_left_alone() -> None:
    broken = (chunk(b"cICP", b"\1"), chunk(b"cICP", b"\x0c\x0d\0\1\0"))
    for data in broken:
        assert read_picture(flat_png(data)).icc_profile is None


def exif_of(space: int | None, index: str | None) -> Image.Exif:
    exif = Image.Exif()
    details = {} if space is None else {int(ExifTags.Base.ColorSpace): space}
    if index is not None:
        details[int(ExifTags.IFD.Interop)] = {1: index}
    exif.get_ifd(ExifTags.IFD.Exif).update(details)
    exif[ExifTags.IFD.Exif] = exif.get_ifd(ExifTags.IFD.Exif)
    return exif


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "PNG"])
@pytest.mark.parametrize(("space", "index"), [(65535, "R03"), (2, None)])
def test_adobe_rgb_that_exif_alone_states(format: str, space: int, index: str | None) -> None:
    options = {"JPEG": {"quality": 100, "subsampling": 0}, "WEBP": {"lossless": True}}
    exif = exif_of(space, index)
    data = encoded(Image.new("RGB", (16, 16), GREEN), format, exif=exif, **options.get(format, {}))
    assert close(shown(result(data)), by(rgb_profile(ADOBE_PRIMARIES, 2.19921875)), 5)


@pytest.mark.parametrize(("space", "index"), [(1, "R98"), (65535, None), (65535, "THM"), (None, None)])
def test_exif_that_states_srgb_or_nothing(space: int | None, index: str | None) -> None:
    data = encoded(Image.new("RGB", (16, 16), GREEN), "JPEG", exif=exif_of(space, index))
    assert read_picture(data).icc_profile is None


def test_what_the_file_itself_states_counts_before_exif() -> None:
    exif = exif_of(2, "R03")
    image = Image.new("RGB", (16, 16), GREEN)
    data = encoded(image, "PNG", exif=exif)
    for says_srgb in (chunk(b"sRGB", b"\0"), cicp(1, 13), gamma(0.45455)):
        assert read_picture(data[:33] + says_srgb + data[33:]).icc_profile is None
    assert read_picture(encoded(image, "AVIF", exif=exif, quality=90)).icc_profile is None  # Pillow writes 1 and 13


def test_a_result_says_nothing_else_than_its_profile() -> None:
    data = encoded(Image.new("L", (16, 16), 77), "JPEG", exif=exif_of(2, "R03"))
    again = read_picture(result(data, "WEBP"))
    assert again.icc_profile is None and abs(again.rgb.mean().item() * 255 - read_picture(data).rgb.mean() * 255) < 3


def bmp(space: int, ends: list[float], gammas: tuple[float, float, float], profile: bytes = b"") -> bytes:
    """One green pixel with a header of version 5."""
    pixels = bytes((*GREEN[::-1], 0))
    header = struct.pack("<IiiHHIIiiII", 124, 1, 1, 1, 24, 0, 4, 0, 0, 0, 0) + b"\0" * 16 + struct.pack("<I", space)
    header += struct.pack("<9i", *(round(value * (1 << 30)) for value in ends))
    header += struct.pack("<3I", *(round(value * 65536) for value in gammas))
    header += struct.pack("<IIII", 4, 124 + len(pixels), len(profile), 0)
    return b"BM" + struct.pack("<IHHI", 138 + 4 + len(profile), 0, 0, 138) + header + pixels + profile


def test_bmps_with_a_profile_or_end_points() -> None:
    adobe = rgb_profile(ADOBE_PRIMARIES, 2.19921875)
    assert read_picture(bmp(0x4D424544, [0] * 9, (0, 0, 0), adobe)).icc_profile == adobe
    d65_p3 = [0.4866, 0.2290, 0.0, 0.2657, 0.6917, 0.0451, 0.1982, 0.0793, 1.0439]
    data = bmp(0, d65_p3, (2.2, 2.2, 2.2))
    assert close(shown(result(data)), by(rgb_profile(P3_PRIMARIES, 2.2)), 5)
    for space in (0, 0x73524742, 0x57696E20):  # nothing stated, sRGB, Windows
        assert read_picture(bmp(space, [0] * 9, (0, 0, 0))).icc_profile is None
    assert read_picture(bmp(0x4D424544, [0] * 9, (0, 0, 0), b"rubbish")).icc_profile is None


def test_tiff_with_primaries() -> None:
    places_of_p3 = tuple(P3_PLACES)
    image = Image.new("RGB", (4, 4), GREEN)
    data = encoded(image, "TIFF", tiffinfo={318: places_of_p3[:2], 319: places_of_p3[2:]})
    assert close(shown(result(data)), by(rgb_profile(P3_PRIMARIES, 2.2)), 5)
    usual = encoded(image, "TIFF", tiffinfo={318: (0.3127, 0.329), 319: tuple(SRGB_PLACES[2:])})
    assert read_picture(usual).icc_profile is None


def boxes(kind: bytes, *contents: bytes) -> bytes:
    data = b"".join(contents)
    return struct.pack(">I4s", 8 + len(data), kind) + data


def avif_with(*properties: bytes, image: Image.Image | None = None) -> bytes:
    """An AVIF to whose picture properties are added; all that lies behind them moves, and the offsets with it."""
    data = encoded(image or Image.new("RGB", (16, 16), GREEN), "AVIF", quality=100, subsampling="4:4:4")
    added = b"".join(properties)
    ipco, ipma = data.index(b"ipco") - 4, data.index(b"ipma") - 4
    (ipco_size,), (ipma_size,) = struct.unpack_from(">I", data, ipco), struct.unpack_from(">I", data, ipma)
    known = 0
    at = ipco + 8
    while at < ipco + ipco_size:
        at += struct.unpack_from(">I", data, at)[0]
        known += 1
    count = data[ipma + 18]
    numbers = bytes(0x80 | known + 1 + i for i in range(len(properties)))  # essential, or libavif refuses it
    new_ipma = data[ipma : ipma + 18] + bytes([count + len(properties)]) + data[ipma + 19 : ipma + ipma_size] + numbers
    grown = len(added) + len(numbers)
    result = bytearray(data[: ipco + ipco_size] + added + new_ipma + data[ipma + ipma_size :])
    end = ipco + ipco_size + len(added)
    for name, place in ((b"ipco", ipco), (b"ipma", end), (b"iprp", ipco - 8), (b"meta", data.index(b"meta") - 4)):
        assert result[place + 4 : place + 8] == name
        more = {b"ipco": len(added), b"ipma": len(numbers)}.get(name, grown)
        struct.pack_into(">I", result, place, struct.unpack_from(">I", result, place)[0] + more)
    iloc = data.index(b"iloc") - 4  # version 0: one item of one extent
    offset = iloc + 12 + 4 + 2 + 2 + 2
    struct.pack_into(">I", result, offset, struct.unpack_from(">I", result, offset)[0] + grown)
    return bytes(result)


def avif_coded(primaries: int, transfer: int) -> bytes:
    """An AVIF of one colour with these code points; Pillow writes 1 and 13."""
    data = encoded(Image.new("RGB", (16, 16), GREEN), "AVIF", quality=100, subsampling="4:4:4")
    assert data.count(b"nclx\0\x01\0\x0d") == 1
    return data.replace(b"nclx\0\x01\0\x0d", b"nclx" + struct.pack(">HH", primaries, transfer))


def test_avif_with_code_points() -> None:
    assert close(shown(result(avif_coded(12, 13))), by(rgb_profile(P3_PRIMARIES, 2.2)), 5)
    assert read_picture(avif_coded(1, 13)).icc_profile is None
    assert "HLG" in read_picture(avif_coded(9, 18)).warnings[0]
    adobe = rgb_profile(ADOBE_PRIMARIES, 2.19921875)
    both = encoded(Image.new("RGB", (16, 16), GREEN), "AVIF", icc_profile=adobe)
    assert read_picture(both).icc_profile == adobe


def aperture(width: int, height: int, across: tuple[int, int], down: tuple[int, int]) -> bytes:
    """The middle of what is seen lies `across` and `down`, fractions, from the middle of what is stored."""
    return boxes(b"clap", struct.pack(">IIIIiIiI", width, 1, height, 1, *across, *down))


def test_the_facts_of_an_avif_may_stand_behind_its_pixels_but_not_behind_boxes_without_end() -> None:
    whole = avif_coded(12, 13)
    far = io.BytesIO(struct.pack(">I4s", (40 << 20) + 8, b"free") + bytes(40 << 20) + whole)
    assert avif._meta(far) == avif._meta(io.BytesIO(whole)) != b""
    endless = io.BytesIO(struct.pack(">I4s", 8, b"free") * 10**5)
    assert avif._meta(endless) == b"" and endless.tell() < 10**5


def test_the_clean_aperture_of_an_avif_is_what_is_read() -> None:
    image = Image.new("RGB", (32, 16), "blue")
    image.paste("magenta", (20, 4, 28, 12))
    picture = read_picture(avif_with(aperture(8, 8, (8, 1), (0, 1)), image=image))
    assert picture.size == (8, 8) and not picture.warnings
    assert picture.rgb.mean((1, 2)).tolist() == pytest.approx([1, 0, 1], abs=0.02)
    assert read_picture(avif_with(aperture(31, 15, (1, 2), (-1, 2)), image=image)).size == (31, 15)


@pytest.mark.parametrize(
    "box",
    [
        aperture(8, 8, (1, 3), (0, 1)),  # not whole pixels
        aperture(40, 8, (0, 1), (0, 1)),  # larger than the picture
        aperture(8, 8, (100, 1), (0, 1)),  # beside it
        aperture(0, 0, (0, 1), (0, 1)),
    ],
)
def test_an_impossible_aperture_is_said_and_ignored(box: bytes) -> None:
    picture = read_picture(avif_with(box))
    assert picture.size == (16, 16) and "aperture" in picture.warnings[0]


@pytest.mark.parametrize("seed", range(40))
def test_damaged_boxes_and_chunks_raise_nothing_unexpected(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    whole = (avif_with(aperture(8, 8, (0, 1), (0, 1))), flat_png(gamma(1.0), places(P3_PLACES), cicp(12, 13)))
    for data in whole:
        damaged = bytearray(data)
        for at in torch.randint(8, min(len(data), 320), (6,), generator=generator).tolist():
            damaged[at] = int(torch.randint(0, 256, (1,), generator=generator))
        with contextlib.suppress(InputError):
            read_picture(bytes(damaged))
