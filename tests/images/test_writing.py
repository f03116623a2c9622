"""choose_format and encode: the right format, what it keeps, and what it says about what it cannot keep."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import ExifTags, Image, ImageFile

from bidiffsr_cli.errors import OutputError, UsageError
from bidiffsr_cli.images import Picture, check_size, choose_format, encode, read_picture, read_provenance, writing

from .samples import decoded, encoded, photo

FORMATS = ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"]
PROVENANCE = {"model": "fast", "steps": "8", "note": "ü×"}


def plain(width: int = 24, height: int = 16) -> Picture:
    return Picture((Image.new("L", (width, height)),) * 3)


def write(image: Image.Image, format: str, picture: Picture | None = None, **options: Any) -> tuple[bytes, list[str]]:
    options = {"quality": None, "strip_metadata": False, "provenance": None, **options}
    return encode(image, format, picture=picture or plain(), **options)


def camera_picture(**more: Any) -> Picture:
    exif = Image.Exif()
    exif[271], exif[306], exif[274], exif[256] = "Camera", "2024:01:02 03:04:05", 6, 24
    exif.get_ifd(ExifTags.IFD.Exif).update({40962: 24, 40963: 16, 33437: 2.8, **more.pop("details", {})})
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (1.0, 2.0, 3.0)})
    for tag, value in more.pop("main", {}).items():
        exif[tag] = value
    return read_picture(encoded(photo(), "JPEG", exif=exif, dpi=(300, 150)))


@pytest.mark.parametrize(
    ("requested", "target", "format"),
    [
        ("auto", None, "PNG"),
        ("auto", "a", "PNG"),
        ("auto", "a.JPG", "JPEG"),
        ("auto", "a.b.tif", "TIFF"),
        ("auto", "a.webp", "WEBP"),
        ("jpg", None, "JPEG"),
        ("jpg", "a.jpeg", "JPEG"),
        ("avif", "a.tmp", "AVIF"),
        ("tiff", "a", "TIFF"),
    ],
)
def test_the_format_is_chosen(requested: str, target: str | None, format: str) -> None:
    assert choose_format(requested, Path(target) if target else None) == format


@pytest.mark.parametrize(
    ("requested", "target"), [("auto", "a.xyz"), ("auto", "a.gif"), ("gif", "a.gif"), ("jpg", "a.png")]
)
def test_formats_that_cannot_be(requested: str, target: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_format(requested, Path(target))
    assert caught.value.hint


def test_unknown_suffixes_name_the_known_ones() -> None:
    with pytest.raises(UsageError) as caught:
        choose_format("auto", Path("a.xyz"))
    assert all(name in caught.value.hint for name in (".png", ".jpg", ".webp", ".avif", ".tiff"))


@pytest.mark.parametrize(("format", "side"), [("JPEG", 65500), ("WEBP", 16383), ("AVIF", 32768)])
def test_size_limits_are_those_of_the_encoders(format: str, side: int) -> None:
    data, _ = write(Image.new("L", (side, 1)), format)
    assert decoded(data).size == (side, 1)
    with pytest.raises(OutputError, match=str(side)) as caught:
        check_size(format, (1, side + 1))
    assert "PNG" in caught.value.hint
    with pytest.raises(OutputError):
        write(Image.new("L", (side + 1, 1)), format)
    check_size("PNG", (side + 1, side + 1))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("mode", ["L", "I;16", "LA", "RGB", "RGBA"])
def test_every_mode_in_every_format(format: str, mode: str) -> None:
    image = Image.new("I;16", (24, 16), 30000) if mode == "I;16" else photo(mode=mode)
    data, notes = write(image, format)
    written = decoded(data)
    assert written.format == format and written.size == (24, 16)
    keeps_16, keeps_alpha = format in ("PNG", "TIFF"), format != "JPEG"
    assert ("16-bit grey was rounded" in " ".join(notes)) == (mode == "I;16" and not keeps_16)
    assert ("laid on white" in " ".join(notes)) == ("A" in mode and not keeps_alpha)
    assert len(notes) <= 1
    if format in ("PNG", "TIFF"):
        assert (written.mode, written.tobytes()) == (mode, image.tobytes())
    elif format in ("JPEG", "AVIF") and mode in ("L", "I;16"):
        assert written.mode == "L"
    if mode == "I;16" and not keeps_16:
        low, high = written.convert("L").getextrema()
        assert abs(low - 117) <= 1 and abs(high - 117) <= 1  # type: ignore[operator]  # 30000 / 257 = 116.7


def test_16_bits_are_rounded_to_the_nearest_of_8() -> None:
    image = Image.frombytes("I;16", (4, 1), b"".join(v.to_bytes(2, "little") for v in (128, 129, 65406, 65407)))
    from bidiffsr_cli.images.writing import _to_8_bits

    assert list(_to_8_bits(image).tobytes()) == [0, 1, 254, 255]


def test_transparency_on_white() -> None:
    data, _ = write(Image.new("RGBA", (16, 16), (0, 0, 0, 0)), "JPEG")
    assert decoded(data).getextrema() == ((255, 255),) * 3
    _, notes = write(Image.new("RGBA", (16, 16), (9, 9, 9, 255)), "JPEG")
    assert not notes  # nothing was transparent: nothing was lost


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF"])
def test_quality_changes_the_size(format: str) -> None:
    image = Image.effect_noise((64, 64), 80).convert("RGB")
    sizes = [len(write(image, format, quality=quality)[0]) for quality in (10, 60, 100)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[2] / 2


@pytest.mark.parametrize("quality", [0, 101, -5])
def test_quality_out_of_range(quality: int) -> None:
    with pytest.raises(UsageError):
        write(photo(), "JPEG", quality=quality)


def test_quality_of_lossless_formats_is_remarked_on() -> None:
    assert "no effect" in write(photo(), "PNG", quality=50)[1][0]


def test_jpeg_keeps_full_colour_resolution() -> None:
    written = decoded(write(photo(), "JPEG")[0])
    assert [layer[1:3] for layer in written.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("quality", [95, 100])
def test_jpeg_of_pure_noise_is_written(quality: int, capfd: pytest.CaptureFixture[str]) -> None:
    levels = torch.randint(256, (512 * 512 * 3,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    image = Image.frombytes("RGB", (512, 512), bytes(levels.tolist()))
    assert decoded(write(image, "JPEG", quality=quality)[0]).size == (512, 512)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("format", FORMATS)
def test_metadata_is_kept_and_brought_up_to_date(format: str) -> None:
    data, notes = write(photo(48, 32), format, camera_picture())
    written = decoded(data)
    exif = written.getexif()
    details = exif.get_ifd(ExifTags.IFD.Exif)
    assert not notes
    assert exif[271] == "Camera" and exif.get(274, 1) == 1
    assert (details[40962], details[40963], float(details[33437])) == (48, 32, pytest.approx(2.8))
    assert exif.get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"
    assert exif.get_ifd(ExifTags.IFD.IFD1) == {}
    dpi = written.info["dpi"] if "dpi" in written.info else (exif[282], exif[283])
    assert [float(value) for value in dpi] == pytest.approx([150, 300], abs=0.02)  # PNG counts per metre
    assert read_picture(data).size == (48, 32)


@pytest.mark.parametrize("format", FORMATS)
def test_stripping_leaves_provenance_only(format: str) -> None:
    data, _ = write(photo(), format, camera_picture(), strip_metadata=True, provenance=PROVENANCE)
    written = decoded(data)
    assert b"Camera" not in data and 271 not in written.getexif()
    assert not written.getexif().get_ifd(ExifTags.IFD.GPSInfo)
    assert read_provenance(written) == PROVENANCE
    data, _ = write(photo(), format, camera_picture(), strip_metadata=True)
    assert read_provenance(decoded(data)) is None and b"bidiffsr" not in data


def test_png_provenance_is_a_text_chunk() -> None:
    written = decoded(write(photo(), "PNG", provenance=PROVENANCE)[0])
    assert json.loads(written.info["bidiffsr"]) == PROVENANCE


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "AVIF", "TIFF"])
def test_provenance_never_overwrites_the_users_words(format: str) -> None:
    comment = b"ASCII\0\0\0my own words"
    for details, main in (({37510: comment}, {}), ({}, {270: "title"}), ({37510: comment}, {270: "title"})):
        data, _ = write(photo(), format, camera_picture(details=details, main=main), provenance=PROVENANCE)
        exif = decoded(data).getexif()
        assert read_provenance(decoded(data)) == PROVENANCE
        assert 37510 not in details or exif.get_ifd(ExifTags.IFD.Exif)[37510] == comment
        assert 270 not in main or exif[270] == "title"


def test_provenance_of_an_earlier_run_is_replaced() -> None:
    first, _ = write(photo(), "JPEG", provenance={"model": "old"})
    second, _ = write(photo(), "JPEG", read_picture(first), provenance={"model": "new"})
    assert read_provenance(decoded(second)) == {"model": "new"} and b"old" not in second


@pytest.mark.parametrize("format", FORMATS)
def test_provenance_of_an_earlier_run_does_not_travel(format: str) -> None:
    source, _ = write(photo(), "JPEG", camera_picture(), provenance={"model": "old"})
    for provenance in (None, {"model": "new"}):
        data, _ = write(photo(), format, read_picture(source), provenance=provenance)
        assert read_provenance(decoded(data)) == provenance and b"old" not in data
        assert decoded(data).getexif()[271] == "Camera"


def test_tags_too_long_for_jpeg() -> None:
    picture = camera_picture()
    assert picture.exif is not None
    picture.exif.get_ifd(ExifTags.IFD.Exif)[37500] = b"x" * 70_000
    data, notes = write(photo(), "JPEG", picture)
    assert "too long" in notes[0] and decoded(data).getexif()[271] == "Camera"
    picture.exif[270] = "y" * 70_000
    data, notes = write(photo(), "JPEG", picture)
    assert "left out" in notes[0] and len(notes) == 1 and 271 not in decoded(data).getexif()


def test_tags_of_a_tiff_that_describe_its_layout_do_not_travel() -> None:
    source = encoded(photo(), "TIFF", tiffinfo={270: "title", 305: "editor"}, compression="tiff_lzw")
    picture = read_picture(source)
    assert picture.exif is not None and set(picture.exif) <= {270, 274, 305}
    written = decoded(write(photo(48, 32), "TIFF", picture)[0])
    assert written.size == (48, 32) and written.getexif()[270] == "title"


def test_encoding_is_repeatable() -> None:
    for format in FORMATS:
        assert (
            write(photo(), format, camera_picture(), provenance=PROVENANCE)[0]
            == write(photo(), format, camera_picture(), provenance=PROVENANCE)[0]
        )


def test_buffers_of_encoders_at_work_are_as_large_as_the_largest() -> None:
    before = ImageFile.MAXBLOCK
    one, other = writing._buffer_of(10**8), writing._buffer_of(10**7)
    one.__enter__()
    other.__enter__()
    assert ImageFile.MAXBLOCK == 10**8
    one.__exit__(None, None, None)  # which began first
    assert ImageFile.MAXBLOCK == 10**7
    other.__exit__(None, None, None)
    assert before == ImageFile.MAXBLOCK
