"""Kinds of files that are rare, large or odd: read right, or refused with the truth."""

import base64
import contextlib
import io
import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import ExifTags, Image, TiffImagePlugin

from bidiffsr_cli.errors import DeviceError, InputError
from bidiffsr_cli.images import encode, picture_size, read_picture, render, tiff, webp
from bidiffsr_cli.images import jpeg as jpeg_survey
from bidiffsr_cli.images import png as png_survey
from bidiffsr_cli.images.metadata import _Text, read_resolution
from bidiffsr_cli.images.png import LONGEST_TEXT

from .samples import ADOBE_PRIMARIES, chunk, decoded, encoded, noise, photo, png, profile, unenlarged


@pytest.mark.parametrize(("depth", "key", "other"), [(1, 1, 0), (1, 0, 1), (2, 3, 1), (2, 1, 2), (4, 15, 4), (8, 7, 9)])
def test_the_transparent_level_of_a_grey_png_counts_in_its_own_levels(depth: int, key: int, other: int) -> None:
    per_row = 8 // depth
    values = [key] * (per_row // 2) + [other] * (per_row - per_row // 2)
    row = sum(value << (8 - depth * (i + 1)) for i, value in enumerate(values))
    extra = chunk(b"tRNS", struct.pack(">H", key))
    picture = read_picture(png(per_row, 2, depth, 0, bytes((0, row, 0, row)), extra))
    assert picture.alpha is not None and picture.grey
    assert list(picture.alpha.tobytes()) == [255 * (value != key) for value in values] * 2
    assert picture.rgb[0, 0, -1].item() == pytest.approx(values[-1] / (2**depth - 1), abs=1e-6)


def text(kind: bytes, size: int) -> bytes:
    words = b"x" * size
    packed = zlib.compress(words)
    body = {
        b"tEXt": b"parameters\0" + words,
        b"zTXt": b"parameters\0\0" + packed,
        b"iTXt": b"parameters\0\1\0\0\0" + packed,
        b"": b"parameters\0\0\0\0\0" + words,  # iTXt, not packed
    }[kind]
    return chunk(kind or b"iTXt", body)


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b""])
def test_long_texts_of_a_png_do_not_matter(kind: bytes) -> None:
    whole = encoded(photo(), "PNG")
    for place in (33, len(whole) - 12):  # before and behind the pixels
        for chunks in ([text(kind, LONGEST_TEXT + 100)], [text(kind, 3 << 20)] * 30):
            data = whole[:place] + b"".join(chunks) + whole[place:]
            picture = read_picture(data)
            assert torch.equal(picture.rgb, read_picture(whole).rgb) and not picture.warnings
            assert picture_size(data) == (24, 16)


def test_texts_are_not_unpacked_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are, no more than some megabytes are unpacked."""
    whole = encoded(photo(), "PNG")
    unpacked, sizes = png_survey._unpacked, list[int]()

    def counted(packed: bytes, limit: int) -> bytes:
        sizes.append(len(found := unpacked(packed, limit)))
        return found

    monkeypatch.setattr("bidiffsr_cli.images.png._unpacked", counted)
    many = text(b"zTXt", 1 << 20) * 200
    assert picture_size(whole[:33] + many + whole[33:]) == (24, 16)
    assert 16 << 20 <= sum(sizes) <= 18 << 20


def test_a_short_text_stays_where_pillow_finds_the_orientation() -> None:
    whole = encoded(photo(), "PNG")
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    small = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)
    data = whole[:33] + text(b"zTXt", 2 << 20) + small + whole[33:]
    assert read_picture(data).size == (16, 24)


def test_a_long_profile_of_a_png_is_kept() -> None:
    padding = torch.randint(0, 256, (3 << 20,), generator=torch.Generator().manual_seed(0)).byte()
    tags = {name + b"XYZ": values for name, values in _columns(ADOBE_PRIMARIES).items()}
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, 563) + b"\0\0"
    tags |= {name + b"TRC": curve for name in (b"r", b"g", b"b")} | {b"long": bytes(padding.tolist())}
    icc = profile(b"RGB ", tags)
    picture = read_picture(encoded(photo(), "PNG", icc_profile=icc))
    assert picture.icc_profile == icc and picture.converted and not picture.warnings
    written = encode(
        render(unenlarged(picture), picture),
        "PNG",
        quality=None,
        picture=picture,
        strip_metadata=False,
        provenance=None,
    )[0]
    assert read_picture(written).icc_profile == icc


def _columns(primaries: tuple[tuple[float, ...], ...]) -> dict[bytes, bytes]:
    return {
        name: b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in values))
        for name, values in zip((b"r", b"g", b"b"), primaries, strict=True)
    }


def tiff_file(pixels: bytes, order: str = "<", **tags: Any) -> bytes:
    """A TIFF of one strip, or one strip a plane; tags by their numbers as t258=(16, 16, 16)."""
    entries = {int(name[1:]): value if isinstance(value, tuple) else (value,) for name, value in tags.items()}
    planes = entries[277][0] if entries.get(284) == (2,) else 1
    size = len(pixels) // planes
    entries |= {273: (0,) * planes, 278: entries[257], 279: (size,) * planes}
    start = 8 + 2 + 12 * len(entries) + 4
    extra = b""
    table = struct.pack(order + "H", len(entries))
    strips_at = start + sum(4 * len(value) for value in entries.values() if len(value) > 1)
    entries[273] = tuple(strips_at + size * i for i in range(planes))
    for tag, values in sorted(entries.items()):
        if len(values) > 1:
            table += struct.pack(order + "HHII", tag, 4, len(values), start + len(extra))
            extra += struct.pack(f"{order}{len(values)}I", *values)
        else:
            table += struct.pack(order + "HHII", tag, 4, 1, values[0])
    magic = b"II*\0" if order == "<" else b"MM\0*"
    return magic + struct.pack(order + "I", 8) + table + b"\0" * 4 + extra + pixels


def levels16(channels: int, height: int = 6, width: int = 8) -> torch.Tensor:
    return noise(width, height, channels).to(torch.int32) * 257


def test_planes_of_8_bits_are_read() -> None:
    values = noise(8, 6)
    data = tiff_file(bytes(values.flatten().tolist()), t256=8, t257=6, t258=(8, 8, 8), t259=1, t262=2, t277=3, t284=2)
    assert torch.equal((read_picture(data).rgb * 255).round().to(torch.uint8), values)


KINDS = {
    "planes of 16 bits": {"t258": (16, 16, 16), "t262": 2, "t277": 3, "t284": 2},
    "planes of 16 bits with alpha": {"t258": (16,) * 4, "t262": 2, "t277": 4, "t284": 2, "t338": 2},
    "planes of grey and alpha": {"t258": (8, 8), "t262": 1, "t277": 2, "t284": 2, "t338": 2},
    "planes of Lab": {"t258": (8, 8, 8), "t262": 8, "t277": 3, "t284": 2},
    "signed bytes": {"t258": 8, "t262": 1, "t277": 1, "t339": 2},
    "floats": {"t258": (32, 32, 32), "t262": 2, "t277": 3, "t339": (3, 3, 3)},
    "halves": {"t258": 16, "t262": 1, "t277": 1, "t339": 3},
    "doubles": {"t258": 64, "t262": 1, "t277": 1, "t339": 3},
    "five channels": {"t258": (8,) * 5, "t262": 1, "t277": 5},
    "grey and alpha of 16 bits": {"t258": (16, 16), "t262": 1, "t277": 2, "t338": 2},
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_tiff_that_pillow_reads_wrongly_are_named(kind: str, order: str) -> None:
    tags = KINDS[kind]
    bits = tags["t258"] if isinstance(tags["t258"], tuple) else (tags["t258"],)
    pixels = bytes(noise(8, 6, sum(bits) // 8).flatten().tolist())
    with pytest.raises(InputError) as refused:
        read_picture(tiff_file(pixels, order, t256=8, t257=6, t259=1, **tags))
    words = f"TIFF of {len(bits)} channel{'s' if len(bits) > 1 else ''} of {bits[0]}-bit"
    assert words in refused.value.message and "amaged" not in refused.value.message
    assert ("planes" in kind) == ("in separate planes" in refused.value.message)


def test_compressed_big_endian_floats_are_refused_and_others_read() -> None:
    values = torch.linspace(0, 1, 48)
    for order in "<>":
        packed = struct.pack(f"{order}48f", *values.tolist())
        tags = {"t256": 8, "t257": 6, "t258": 32, "t262": 1, "t277": 1, "t339": 3}
        plain = read_picture(tiff_file(packed, order, t259=1, **tags))
        assert torch.allclose(plain.rgb[0].flatten(), values, atol=1e-4)
        compressed = tiff_file(zlib.compress(packed), order, t259=8, **tags)
        if order == "<":
            assert torch.allclose(read_picture(compressed).rgb[0].flatten(), values, atol=1e-4)
        else:
            with pytest.raises(InputError, match="32-bit floats, compressed by adobe_deflate"):
                read_picture(compressed)


METHODS = {name: number for number, name in TiffImagePlugin.COMPRESSION_INFO.items()}


@pytest.mark.parametrize("name", ["tiff_lzw", "jpeg", "lzma", "zstd", "webp"])
def test_a_compression_that_libtiff_is_built_without_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(tiff, "_has_codec", lambda compression: asked.append(compression))
    tags = {"t256": 16, "t257": 8, "t258": (8, 8, 8), "t262": 2, "t277": 3}
    kind = f"TIFF of 3 channels of 8-bit integers, compressed by {name.removeprefix('tiff_')}"
    with pytest.raises(InputError, match=kind):
        read_picture(tiff_file(b"RIFF", t259=METHODS[name], **tags))
    assert read_picture(encoded(photo(), "TIFF", compression="raw")).rgb.shape[0] == 3
    assert asked == [METHODS[name]]


@pytest.mark.parametrize("name", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "lzma", "zstd", "webp"])
def test_a_compression_is_read_where_libtiff_has_it(name: str) -> None:
    if not tiff._has_codec(METHODS[name]):  # then Pillow's own attempts may end the process
        pytest.skip("libtiff was built without it")
    assert read_picture(encoded(photo(), "TIFF", compression=name)).rgb.shape == (3, photo().height, photo().width)


def test_other_kinds_that_cannot_be_read_are_not_called_damaged() -> None:
    bmp64 = b"BM" + struct.pack("<IIIIiiHHIIiiII", 62, 0, 54, 40, 1, 1, 1, 64, 0, 8, 0, 0, 0, 0) + b"\0" * 8
    for data in (b"MM\0+\0\x08\0\0" + b"\0" * 30, bmp64):
        with pytest.raises(InputError) as refused:
            read_picture(data)
        assert "cannot be read" in refused.value.message and "amaged" not in refused.value.message


def test_a_pointer_of_git_lfs_is_called_so() -> None:
    with pytest.raises(InputError, match="Git LFS pointer") as refused:
        read_picture(b"version https://git-lfs.github.com/spec/v1\noid sha256:01\nsize 5\n")
    assert "git lfs pull" in refused.value.hint


def test_a_later_page_or_frame_is_not_looked_at() -> None:
    data = bytearray(tiff_file(b"\x80" * 48, t256=8, t257=6, t258=8, t259=1, t262=1, t277=1))
    next_directory = 8 + 2 + 12 * 9
    for second in (struct.pack("<H", 1) + struct.pack("<HHII", 259, 3, 1, 34712) + b"\0" * 4, b"rubbish"):
        struct.pack_into("<I", data, next_directory, len(data))
        picture = read_picture(bytes(data) + second)
        assert picture.size == (8, 6) and "only the first" in picture.warnings[0]
    endless = bytearray(data)
    struct.pack_into("<I", endless, next_directory, 8)  # the second page is the first again
    assert read_picture(bytes(endless)).size == (8, 6)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "GIF", "WEBP", "AVIF", "TIFF", "BMP"])
def test_the_size_is_told_before_anything_is_decoded(format: str) -> None:
    data = encoded(photo(), format)
    told: list[tuple[int, int]] = []

    def check(size: tuple[int, int]) -> None:
        told.append(size)
        raise DeviceError("Too much.")

    with pytest.raises(DeviceError, match="Too much"):
        read_picture(data[: len(data) - 40] if format not in ("WEBP", "AVIF", "TIFF") else data, check=check)
    assert told == [(24, 16)]


def test_the_tiles_of_a_tiff_count_as_pixels() -> None:
    tags = {"t256": 8, "t257": 6, "t258": 8, "t259": 1, "t262": 1, "t277": 1, "t322": 1 << 15, "t323": 1 << 15}
    told: list[tuple[int, int]] = []
    with contextlib.suppress(InputError):
        read_picture(tiff_file(b"\0" * 48, **tags), check=told.append)
    assert told == [(1 << 15, 1 << 15)]


ODD_TAGS: dict[str, tuple[int, Any]] = {
    "Software": (305, 7),
    "Artist": (315, (1, 2)),
    "DocumentName": (269, 3),
    "Make": (271, b"\1\2"),
    "Copyright": (33432, 1.5),
    "Rating": (18246, "five"),
    "XPTitle": (40091, "words"),
}


def exif_bytes(entries: dict[int, tuple[int, bytes]]) -> bytes:
    """An EXIF block of a main directory alone, with types as they are given: {tag: (type, value of four bytes)}."""
    body = b"".join(struct.pack("<HHI", tag, kind, 1) + value for tag, (kind, value) in sorted(entries.items()))
    return b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + b"\0" * 4


FORMATS = ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"]


def written(data: bytes, format: str) -> tuple[Image.Image, list[str]]:
    picture = read_picture(data)
    image = render(unenlarged(picture), picture)
    made = encode(image, format, quality=None, picture=picture, strip_metadata=False, provenance={"model": "m"})[0]
    return decoded(made), picture.warnings


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", [1, 3, 4, 6, 8, 9, 11])  # bytes, whole numbers, signed ones, floats
def test_texts_that_are_numbers_are_left_out(format: str, kind: int) -> None:
    texts = [269, 270, 271, 272, 305, 306, 315, 316, 33432]
    data = encoded(photo(), "PNG", exif=exif_bytes(dict.fromkeys(texts, (kind, b"\x10\x00\x00\x00"))))
    image, warnings = written(data, format)
    assert image.size == (24, 16) and len(warnings) == 1 and "odd kind" in warnings[0] and "4 more" in warnings[0]
    assert not {271, 272, 306, 315, 33432} & set(image.getexif())


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("tag", [18246, 18249, 40091])
def test_numbers_that_are_texts_are_left_out(format: str, tag: int) -> None:
    data = encoded(photo(), "PNG", exif=exif_bytes({tag: (2, b"abc\0")}))
    image, warnings = written(data, format)
    assert tag not in image.getexif() and "odd kind" in warnings[0]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dpi", [4294967295, 109_000_000, 70_000])
def test_an_unbelievable_resolution_is_left_out(format: str, dpi: int) -> None:
    exif = Image.Exif()
    exif[282] = exif[283] = float(dpi)
    exif[296] = 2
    image, warnings = written(encoded(photo(), "JPEG", exif=exif), format)
    assert read_resolution(image) == (None, "")
    assert "not believable" in warnings[0]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(("unit", "stated"), [(2, 300.0), (3, 300.0 / 2.54), (None, 300.0), (9, 300.0)])
def test_a_resolution_that_exif_alone_states_is_kept(format: str, unit: int | None, stated: float) -> None:
    exif = Image.Exif()
    exif[282] = exif[283] = stated
    if unit is not None:
        exif[296] = unit
    data = encoded(photo(), "WEBP", exif=exif, lossless=True)
    image, _ = written(data, format)
    dpi = image.info["dpi"][0] if "dpi" in image.info else image.getexif()[282]
    assert float(dpi) == pytest.approx(300, abs=0.1)


@pytest.mark.parametrize("format", FORMATS)
def test_letters_beyond_ascii_are_kept_as_they_were(format: str) -> None:
    """Pillow alone writes a question mark for each."""
    name = "José Ångström".encode()  # as UTF-8, which is what cameras and editors write
    exif = Image.Exif()
    exif[315] = name
    lens = "Objektiv für Nähe".encode()
    exif.get_ifd(ExifTags.IFD.Exif)[42036] = _Text(lens.decode("latin-1"))  # LensModel
    image, warnings = written(encoded(photo(), "JPEG", exif=exif), format)
    assert not warnings
    assert image.getexif()[315].encode("latin-1") == name
    assert image.getexif().get_ifd(ExifTags.IFD.Exif)[42036].encode("latin-1") == lens


def test_a_result_has_no_empty_directories() -> None:
    exif = Image.Exif()
    exif[271] = "Camera"
    image, _ = written(encoded(photo(), "JPEG", exif=exif), "JPEG")
    assert ExifTags.IFD.GPSInfo not in image.getexif()


def test_tags_are_added_to_large_tiffs_too() -> None:
    for big in (False, True):
        data = encoded(photo(), "TIFF", big_tiff=big)
        more = tiff.add_tags(data, {271: "Camera"}, {ExifTags.IFD.Exif: {37510: b"remark"}, ExifTags.IFD.GPSInfo: {}})
        image = Image.open(io.BytesIO(more))
        assert image.tag_v2[271] == "Camera" and image.tobytes() == photo().tobytes()
        assert image.getexif().get_ifd(ExifTags.IFD.Exif)[37510] == b"remark"


def jpeg(**options: Any) -> bytes:
    return encoded(photo().resize((160, 120)), "JPEG", **options)


JPEGS = {
    "baseline": jpeg(),
    "full colour": jpeg(subsampling=0, quality=95),
    "restart markers": jpeg(restart_marker_blocks=4),
    "progressive": jpeg(progressive=True),
    "with a thumbnail": jpeg(exif=b"Exif\0\0" + jpeg(quality=10)),
    "of several pictures": encoded(
        photo().resize((160, 120)), "MPO", save_all=True, append_images=[photo().resize((80, 60))]
    ),
}


@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_whose_data_end_early(name: str) -> None:
    whole = JPEGS[name]
    assert read_picture(whole).warnings == (
        ["The file holds several frames or pages: only the first was read."] if "several" in name else []
    )
    begin = whole.rindex(b"\xff\xda", 0, jpeg_survey._end(whole))
    for part in (0.3, 0.6, 0.9):
        if name == "progressive" and part > 0.3:
            continue  # a whole scan at the end is missing, or a little of it: a picture of less quality
        kept = whole[: begin + 20 + round(part * (jpeg_survey._end(whole) - begin - 20))].rstrip(b"\xff")
        cut = kept + b"\xff\xd9"
        assert (
            "The file ends early: a part of the picture, mostly the lowest, is missing." in read_picture(cut).warnings
        )


ARITHMETIC = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1tdhbWGkJ6jq62rZ4C8ybqm"
    "x5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKT/yQARCABAAEAD"
    "ASIAAhEBAxEB/8wACgAQEAUBEBEF/9oADAMBAAIRAxEAPwD9njxKqJVVrpYqey+GXv1Gm3xqpNuKvXWfnpKJnD5WUTIu8CWnGP/Z"
)
"""Of libjpeg-turbo: 64x64, below the twentieth row flat, so that the coder left zeros out at the end."""


def test_a_jpeg_of_arithmetic_coding_may_end_early() -> None:
    picture = read_picture(base64.b64decode(ARITHMETIC))
    assert picture.size == (64, 64) and not picture.warnings


@pytest.mark.parametrize("quality", [5, 30, 50, 75, 90, 98])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_the_quality_of_a_jpeg(quality: int, options: dict[str, Any]) -> None:
    for mode in ("RGB", "L", "CMYK"):
        assert read_picture(encoded(photo(mode=mode), "JPEG", quality=quality, **options)).quality == quality


@pytest.mark.parametrize("quality", [5, 30, 50, 75, 90, 98])
@pytest.mark.parametrize("method", [0, 4, 6])
def test_the_quality_of_a_webp(quality: int, method: int, pictures: Path) -> None:
    """Its parts have more and less of it, so that the mean is near what was asked for, and below."""
    with Image.open(pictures / "parrot.png") as image:
        found = read_picture(encoded(image, "WEBP", quality=quality, method=method)).quality
    assert found is not None and quality - 11 <= found <= quality + 2


def test_the_quality_of_others() -> None:
    for format, options in {"PNG": {}, "WEBP": {"lossless": True}, "BMP": {}, "GIF": {}, "TIFF": {}}.items():
        assert read_picture(encoded(photo(), format, **options)).quality is None
    several = encoded(photo(), "WEBP", quality=50, save_all=True, append_images=[photo(seed=1)])
    with_alpha = encoded(photo(mode="RGBA"), "WEBP", quality=50, exif=b"Exif\0\0" + encoded(photo(), "TIFF")[:8])
    for data in (several, with_alpha):
        found = read_picture(data).quality
        assert found is not None and 30 <= found <= 60
    whole = encoded(photo(), "WEBP", quality=50)
    for end in range(12, 60):  # whatever is there of it
        webp.quality(io.BytesIO(whole[:end]))


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_what_follows_a_picture_is_not_read_without_end(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    with Image.open(io.BytesIO(jpeg())) as image:
        image.save(path)
    with path.open("r+b") as file:
        file.truncate(20 << 30)  # a file of gigabytes that takes no room
    tracemalloc.start()
    try:
        assert read_picture(path).size == (160, 120)
        assert tracemalloc.get_traced_memory()[1] < 3 * jpeg_survey.LONGEST
    finally:
        tracemalloc.stop()
