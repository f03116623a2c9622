"""read_picture: every format and mode, and every way in which a file can be wrong."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from bidiffsr_cli.errors import InputError
from bidiffsr_cli.images import Picture, avif, picture_size, read_picture
from bidiffsr_cli.images.decoding import UPRIGHT

from .samples import chunk, encoded, grey_profile, image_of, noise, photo, png, png16


def levels(picture: Picture) -> torch.Tensor:
    return (picture.rgb * 255).round().to(torch.uint8)


LOSSLESS = {"PNG": {}, "TIFF": {}, "BMP": {}, "WEBP": {"lossless": True}}


@pytest.mark.parametrize("format", LOSSLESS)
def test_lossless_formats_give_every_pixel(format: str, tmp_path: Path) -> None:
    path = tmp_path / "looks-like.txt"  # the suffix must not matter
    photo().save(path, format, **LOSSLESS[format])
    picture = read_picture(path)
    assert torch.equal(levels(picture), noise(24, 16))
    assert (picture.size, picture.format, picture.bits, picture.warnings) == ((24, 16), format, 8, [])
    assert not picture.grey and picture.alpha is None


@pytest.mark.parametrize("format", ["JPEG", "AVIF", "GIF"])
def test_lossy_formats_give_nearly_every_pixel(format: str) -> None:
    picture = read_picture(encoded(photo(), format))
    assert picture.format == format
    assert (picture.rgb * 255 - noise(24, 16)).abs().mean() < 12


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_has_one_plane_and_three_equal_channels(mode: str) -> None:
    image = photo(mode="L").convert(mode)
    picture = read_picture(encoded(image, "PNG"))
    assert picture.grey and [plane.mode for plane in picture.planes] == ["L"]
    assert torch.equal(
        levels(picture), torch.tensor(list(image.convert("L").tobytes())).view(1, 16, 24).expand(3, -1, -1)
    )


def test_16_bit_grey_is_exact() -> None:
    values = list(range(0, 65536, 257 * 5 + 2))
    image = Image.frombytes("I;16", (len(values), 1), struct.pack(f"<{len(values)}H", *values))
    for source in (encoded(image, "PNG"), encoded(image, "TIFF"), image, image.convert("I")):
        picture = read_picture(source)
        assert (picture.bits, picture.grey, picture.warnings) == (16, True, [])
        assert picture.planes[0].mode == "F"
        assert (picture.rgb[0, 0] * 65535).round().tolist() == values


def test_big_endian_and_inverted_16_bit_tiffs() -> None:
    big = Image.frombytes("I;16B", (2, 1), b"\x12\x34\xff\xff")
    assert (read_picture(encoded(big, "TIFF")).rgb[0, 0] * 65535).round().tolist() == [0x1234, 0xFFFF]
    white_is_zero = encoded(Image.frombytes("I;16", (2, 1), b"\x34\x12\xff\xff"), "TIFF", tiffinfo={262: 0})
    assert (read_picture(white_is_zero).rgb[0, 0] * 65535).round().tolist() == [0xFFFF - 0x1234, 0]


def test_float_tiff_in_the_unit_range_is_read_and_others_are_refused() -> None:
    image = Image.new("F", (2, 1), 0.25)
    picture = read_picture(encoded(image, "TIFF"))
    assert picture.rgb.flatten().tolist() == pytest.approx([0.25] * 6) and len(picture.warnings) == 1
    for value in (3.5, -1.0, float("nan")):
        image = Image.new("F", (2, 1), value)
        image.putpixel((0, 0), 0.5)
        with pytest.raises(InputError, match="floating point values from"):
            read_picture(image)


def test_whole_numbers_beyond_16_bits_are_refused() -> None:
    with pytest.raises(InputError, match="from 70000 to 70000"):
        read_picture(Image.new("I", (2, 1), 70000))


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_16_bit_colour_png_is_read_as_8_bit_with_a_warning(colour_type: int, channels: int) -> None:
    picture = read_picture(png16([[(0x1234,) * channels]], colour_type))
    assert picture.bits == 8 and picture.rgb[0, 0, 0].item() == pytest.approx(0x12 / 255)
    kind = "grey" if channels == 2 else "colour"
    assert picture.warnings == [f"16-bit {kind} was cut to 8 bits, the most that can be kept here."]
    assert picture.grey == (channels == 2) and (picture.alpha is not None) == (channels != 3)


def tiff(bits: int, samples: int, photometric: int, pixels: bytes) -> bytes:
    """A little-endian TIFF of one row and one strip."""
    width = len(pixels) * 8 // (bits * samples)
    tags = [(256, 3, 1, width), (257, 3, 1, 1), (258, 3, samples, bits if samples == 1 else 122), (259, 3, 1, 1)]
    tags += [(262, 3, 1, photometric), (273, 4, 1, 128), (277, 3, 1, samples), (278, 3, 1, 1), (279, 4, 1, len(pixels))]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + b"\0" * 4
    return (b"II*\0" + struct.pack("<I", 8) + directory).ljust(122, b"\0") + struct.pack("<3H", *[bits] * 3) + pixels


def test_16_bit_colour_tiff_warns() -> None:
    picture = read_picture(tiff(16, 3, 2, struct.pack("<3H", 0x1234, 0, 0xFFFF)))
    assert picture.warnings == ["16-bit colour was cut to 8 bits, the most that can be kept here."]


def test_12_bit_grey_is_stretched() -> None:
    picture = read_picture(tiff(12, 1, 1, b"\xff\xf8\x00"))
    assert picture.bits == 16 and picture.rgb[0, 0].tolist() == pytest.approx([1, 0x800 / 0xFFF], abs=1e-4)


def test_16_bit_bmps_hold_five_bits_per_channel_and_lose_nothing() -> None:
    header = b"BM" + struct.pack("<IIIIiiHHIIiiII", 58, 0, 54, 40, 2, 1, 1, 16, 0, 4, 0, 0, 0, 0)
    picture = read_picture(header + struct.pack("<2H", 0x7C00, 0x001F))
    assert picture.rgb[:, 0].tolist() == [[1, 0], [0, 0], [0, 1]] and not picture.warnings


def test_deep_avif_warns() -> None:
    data = bytearray(encoded(photo(), "AVIF"))
    assert avif.survey(io.BytesIO(data)).depth == 8
    data[data.find(b"av1C") + 6] |= 0x40  # the high_bitdepth flag; the decoder may refuse the lie afterwards
    assert avif.survey(io.BytesIO(data)).depth == 10


def test_palettes() -> None:
    image = photo().quantize(16)
    assert torch.equal(levels(read_picture(image)), levels(read_picture(image.convert("RGB"))))
    data = encoded(image, "PNG", transparency=3)
    picture = read_picture(data)
    assert picture.alpha is not None
    assert list(picture.alpha.tobytes()) == [255 * (index != 3) for index in image.tobytes()]


@pytest.mark.parametrize(("mode", "key"), [("L", 7), ("RGB", (1, 2, 3)), ("1", 0)])
def test_transparent_colour_of_a_png(mode: str, key: Any) -> None:
    image = Image.new(mode, (2, 1), key)
    image.putpixel((1, 0), 1 if mode == "1" else 200 if mode == "L" else (9, 9, 9))
    picture = read_picture(encoded(image, "PNG", transparency=key))
    assert picture.alpha is not None and list(picture.alpha.tobytes()) == [0, 255]
    assert picture.grey == (mode != "RGB")


def test_transparent_colour_of_16_bit_pngs() -> None:
    grey = read_picture(png16([[(300,), (400,)]], 0, chunk(b"tRNS", struct.pack(">H", 300))))
    assert grey.alpha is not None and list(grey.alpha.tobytes()) == [0, 255]
    assert grey.bits == 8 and "16-bit grey with transparency" in grey.warnings[0]
    rgb = read_picture(png16([[(300, 1, 2), (999, 1, 2)]], 2, chunk(b"tRNS", struct.pack(">3H", 300, 1, 2))))
    assert rgb.alpha is not None and list(rgb.alpha.tobytes()) == [0, 255]


@pytest.mark.parametrize("mode", ["LA", "RGBA", "La", "RGBa", "PA"])
def test_alpha_modes(mode: str) -> None:
    straight = Image.new(
        "LA" if mode in ("LA", "La") else "RGBA", (2, 2), (200, 128) if "L" in mode else (200, 100, 0, 128)
    )
    picture = read_picture(
        straight.convert(mode) if mode != "PA" else straight.convert("RGB").quantize(4).convert("PA")
    )
    assert picture.alpha is not None
    assert picture.rgb[0, 0, 0].item() == pytest.approx(200 / 255, abs=3 / 255)


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF", "PNG"])
def test_first_frame_of_many_with_a_warning(format: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
    picture = read_picture(data)
    assert "several frames" in picture.warnings[0]
    assert picture.rgb.mean((1, 2)).tolist() == pytest.approx([1, 0, 0], abs=0.02)


BACK = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_all_orientations_give_the_same_picture(orientation: int, format: str) -> None:
    upright = photo()
    stored = upright.transpose(UPRIGHT[BACK[orientation]]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[274], exif[271] = orientation, "Camera"
    picture = read_picture(encoded(stored, format, exif=exif, **LOSSLESS[format]))
    assert torch.equal(levels(picture), noise(24, 16))
    assert picture.exif is not None and picture.exif[274] == 1 and picture.exif[271] == "Camera"


@pytest.mark.parametrize("format", ["JPEG", "TIFF", "PNG"])
def test_a_quarter_turn_swaps_the_resolution(format: str) -> None:
    exif = Image.Exif()
    exif[274] = 6
    dpi = read_picture(encoded(photo(), format, exif=exif, dpi=(300, 150))).dpi
    assert dpi == pytest.approx((150, 300), abs=0.02)  # PNG counts per metre


@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "P", "I", "F"])
def test_planes_are_their_own_and_carry_no_tags(mode: str) -> None:
    image = Image.new(mode, (2, 2))
    image.info["comment"] = "words"
    picture = read_picture(image)
    for plane in (*picture.planes, *([picture.alpha] if picture.alpha else [])):
        assert plane is not image and not plane.info
    assert image.info == {"comment": "words"}


def test_a_pillow_image_is_not_modified() -> None:
    image = photo(mode="RGBA")
    image.getexif()[274] = 6
    before = image.tobytes()
    assert read_picture(image).size == (16, 24)
    assert (image.tobytes(), image.size, image.getexif()[274], image.mode) == (before, (24, 16), 6, "RGBA")


# Arrays and tensors


class Array:
    """What numpy arrays look like from outside."""

    def __init__(self, shape: tuple[int, ...], typestr: str, data: bytes) -> None:
        self.__array_interface__ = {"shape": shape, "typestr": typestr, "version": 3}
        self._data = data

    def tobytes(self) -> bytes:
        return self._data


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 3, 2), (2, 3, 3), (2, 3, 4)])
def test_arrays_of_bytes(shape: tuple[int, ...]) -> None:
    channels = shape[2] if len(shape) == 3 else 1
    picture = read_picture(Array(shape, "|u1", bytes(range(6 * channels))))
    assert (
        picture.size == (3, 2)
        and picture.grey == (channels < 3)
        and (picture.alpha is not None) == (channels in (2, 4))
    )
    assert levels(picture)[0].flatten().tolist() == list(range(0, 6 * channels, channels))


@pytest.mark.parametrize(("typestr", "code"), [("<u2", "<2H"), (">u2", ">2H")])
def test_arrays_of_16_bits(typestr: str, code: str) -> None:
    picture = read_picture(Array((1, 2), typestr, struct.pack(code, 0x1234, 65535)))
    assert picture.bits == 16 and (picture.rgb[0, 0] * 65535).round().tolist() == [0x1234, 65535]


@pytest.mark.parametrize("channels", [3, 4])
def test_arrays_of_16_bit_colour_keep_it_until_it_is_written(channels: int) -> None:
    values = [0x1234, 0x2345, 65535, 0x8000][:channels]
    picture = read_picture(Array((1, 1, channels), "<u2", struct.pack(f"<{channels}H", *values)))
    assert picture.bits == 8 and "16-bit colour" in picture.warnings[0]
    assert (picture.rgb.flatten() * 65535).round().tolist() == values[:3]
    if channels == 4:
        assert picture.alpha is not None and picture.alpha.getextrema() == pytest.approx((0x8000 / 65535,) * 2)


@pytest.mark.parametrize(("typestr", "code"), [("<f2", "<6e"), (">f2", ">6e"), (">f4", ">6f"), ("<f8", "<6d")])
def test_arrays_of_floats_of_any_length(typestr: str, code: str) -> None:
    values = [0, 0.125, 0.25, 0.5, 0.75, 1]
    picture = read_picture(Array((1, 2, 3), typestr, struct.pack(code, *values)))
    assert picture.rgb.permute(1, 2, 0).flatten().tolist() == values


def test_arrays_of_floats() -> None:
    assert read_picture(Array((1, 2), "<f4", struct.pack("<2f", -0.0005, 1.0005))).rgb[0, 0].tolist() == [0, 1]
    assert read_picture(Array((1, 2), "<f8", struct.pack("<2d", 0.5, 1))).rgb[1, 0].tolist() == [0.5, 1]
    with pytest.raises(InputError, match=r"from 0\.5 to 255") as caught:
        read_picture(Array((1, 2), "<f4", struct.pack("<2f", 0.5, 255)))
    assert "255" in caught.value.hint


@pytest.mark.parametrize(("typestr", "code"), [("|u1", "B"), ("<u2", "H"), ("<f4", "f")])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_arrays_with_the_channels_first(channels: int, typestr: str, code: str) -> None:
    """As if they came last; what could be read either way has them last."""
    planes = [[9 * plane + index for index in range(10)] for plane in range(channels)]
    if code == "f":
        planes = [[value / 99 for value in plane] for plane in planes]
    mixed = [value for pixel in zip(*planes, strict=True) for value in pixel]
    pack = f"<{10 * channels}{code}"
    last = read_picture(Array((2, 5, channels), typestr, struct.pack(pack, *mixed)))
    for shape in ((channels, 2, 5), (1, channels, 2, 5)):
        first = read_picture(Array(shape, typestr, struct.pack(pack, *(value for plane in planes for value in plane))))
        assert first.size == (5, 2) and torch.equal(first.rgb, last.rgb)
        assert (first.alpha and first.alpha.tobytes()) == (last.alpha and last.alpha.tobytes())
    assert read_picture(Array((3, 2, 4), "|u1", bytes(24))).size == (2, 3)


def test_several_arrays_are_refused() -> None:
    with pytest.raises(InputError, match="holds 5 pictures"):
        read_picture(Array((5, 4, 4, 3), "|u1", bytes(240)))


@pytest.mark.parametrize(
    "array", [Array((3,), "|u1", b"abc"), Array((1, 1), "<i8", bytes(8)), Array((0, 3), "|u1", b"")]
)
def test_arrays_that_are_no_pictures(array: Array) -> None:
    with pytest.raises(InputError, match="not a picture"):
        read_picture(array)


def test_tensors() -> None:
    values = torch.rand(3, 4, 5)
    picture = read_picture(values)
    assert torch.equal(picture.rgb, values) and picture.size == (5, 4) and not picture.grey
    assert read_picture(values[:1]).grey
    assert torch.equal(read_picture(values.transpose(1, 2)).rgb, values.transpose(1, 2))
    assert torch.equal(read_picture(values.to(torch.bfloat16)).rgb, values.to(torch.bfloat16).float())
    assert torch.equal(levels(read_picture(noise(6, 4))), noise(6, 4))
    assert torch.equal(read_picture(values[None]).rgb, values)
    with pytest.raises(InputError, match="holds 2 pictures") as caught:
        read_picture(torch.rand(2, 3, 4, 4))
    assert "one after the other" in caught.value.hint
    for wrong in (
        torch.rand(5, 4, 4),
        torch.rand(1, 5, 4, 4),
        torch.rand(1, 1, 3, 4, 4),
        torch.full((3, 2, 2), float("nan")),
        torch.ones(3, 2, 2).long(),
    ):
        with pytest.raises(InputError):
            read_picture(wrong)


def test_other_objects_are_refused() -> None:
    with pytest.raises(InputError, match="type dict"):
        read_picture({})


# Files that are wrong


def refusal(source: Any) -> str:
    with pytest.raises(InputError) as caught:
        read_picture(source)
    assert caught.value.hint and caught.value.exit_code == 4
    if isinstance(source, Path):
        assert str(source) in caught.value.message
    return caught.value.message


def test_missing_folder_and_empty(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none.png")
    assert "is a folder" in refusal(tmp_path)
    (tmp_path / "empty.png").touch()
    assert "is empty" in refusal(tmp_path / "empty.png")
    assert "cannot be opened" in refusal("a\0b.png")
    assert "cannot be opened" in refusal(tmp_path / ("x" * 300))


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.png"
    photo().save(path)
    path.chmod(0)
    if os.name != "posix" or os.geteuid() == 0:  # root may read everything
        monkeypatch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert "permission denied" in refusal(path)


def test_a_picture_in_a_folder_that_may_not_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    for name in ("open", "stat", "is_dir"):
        monkeypatch.setattr(Path, name, denied)
    assert "permission denied" in refusal(tmp_path / "in.png")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"just a text", "is not a picture"),
        (b"\x89PNG\r\n\x1a\nrubbish", "damaged or incomplete PNG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1", "is a HEIC file"),
        (b"\n  <svg xmlns='x'/>", "is a SVG file"),
        (b"%PDF-1.7", "is a PDF file"),
        (encoded(Image.new("RGB", (4, 4)), "PPM"), "is not a picture"),
        (encoded(Image.new("RGB", (4, 4)), "JPEG2000"), "is a JPEG 2000 file"),
    ],
)
def test_not_a_picture_we_read(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "named.png"
    path.write_bytes(content)
    assert said in refusal(path)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_truncated_files_are_never_padded(format: str, part: float, tmp_path: Path) -> None:
    data = encoded(photo(64, 48), format)
    path = tmp_path / f"cut.{format}"
    path.write_bytes(data[: int(len(data) * part)])
    assert "damaged or incomplete" in refusal(path)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "AVIF", "BMP", "GIF"])
def test_damaged_files_raise_nothing_else(format: str) -> None:
    data = encoded(photo(), format)
    generator = torch.Generator().manual_seed(1)
    for _ in range(60):
        where = torch.randint(min(len(data), 300), (3,), generator=generator).tolist()
        damaged = bytearray(data)
        for at in where:
            damaged[at] ^= 0x55
        try:
            read_picture(bytes(damaged))
        except InputError as error:
            assert error.message and error.hint


def test_bombs_are_refused_before_they_are_unpacked() -> None:
    rows = zlib.compress(b"")
    assert "more than 178 million pixels" in refusal(png(50_000, 50_000, 8, 2, rows))


def test_large_pictures_below_the_limit_raise_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 24 * 16 - 1)
    assert read_picture(encoded(photo(), "PNG")).size == (24, 16)


def test_zero_size_is_refused() -> None:
    assert "damaged" in refusal(png(0, 5, 8, 2, b""))
    assert "no pixels" in refusal(Image.new("RGB", (0, 5)))


def test_damaged_exif_costs_only_the_exif() -> None:
    picture = read_picture(encoded(photo(), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff"))
    assert picture.size == (24, 16) and picture.exif is None


def test_grey_profile_is_kept_without_conversion() -> None:
    icc = grey_profile(1.8)
    picture = read_picture(encoded(photo(mode="L"), "PNG", icc_profile=icc))
    assert picture.icc_profile == icc and not picture.converted
    assert torch.equal(levels(picture)[:1], noise(24, 16, 1))


def test_a_pipe_can_be_read() -> None:
    code = "import sys; from bidiffsr_cli.images import read_picture; print(read_picture('/dev/stdin').size)"
    if not Path("/dev/stdin").exists():
        pytest.skip("no /dev/stdin here")
    data = encoded(image_of(noise(7, 3), "RGB"), "PNG")
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert done.stdout.split() == [b"(7,", b"3)"]


@pytest.mark.parametrize("format", ["PNG", "JPEG", "AVIF", "WEBP"])
def test_the_size_is_told_by_the_beginning(format: str, tmp_path: Path) -> None:
    path = tmp_path / "photo"
    path.write_bytes(encoded(photo(), format))
    assert picture_size(path) == (24, 16)
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match="is not a picture"):
        picture_size(path)
    with pytest.raises(InputError, match="does not exist"):
        picture_size(tmp_path / "none")
