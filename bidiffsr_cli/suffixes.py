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
