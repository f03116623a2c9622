"""What files of pictures are called: one list for reading, and one for writing. Nothing heavy is imported here."""

WRITTEN = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".webp": "WEBP",
    ".avif": "AVIF",
    ".tiff": "TIFF",
    ".tif": "TIFF",
}
"""Suffix of a result -> Pillow's name of its format."""
READ = frozenset((*WRITTEN, ".apng", ".mpo", ".avifs", ".bmp", ".gif"))
"""Suffixes of files that are looked at in a folder; what a file is, its content tells."""


def own(suffix: str) -> str:
    """The suffix of a result that keeps its input's format: the same, or .png where that cannot be written."""
    return suffix if suffix.lower() in WRITTEN else ".png"
