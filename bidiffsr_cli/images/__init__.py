"""Pictures: reading them, bringing enlarged ones back to the source's kind, and encoding those.

`read_picture` → `Picture` → (enlarge `picture.planes`, `resize_alpha`) → `render` → `encode`. None of it needs torch;
`pixels`, `degrading` and `resizing` are for those who have it.
"""

from .metadata import read_provenance
from .picture import Picture
from .reading import LONGEST_FILE, made_here, picture_size, read_bounded, read_picture
from .rendering import as_seen, bleed_edges, render, resample, resampled_size, resize_alpha
from .writing import check_size, choose_format, encode

__all__ = [
    "LONGEST_FILE",
    "Picture",
    "as_seen",
    "bleed_edges",
    "check_size",
    "choose_format",
    "encode",
    "made_here",
    "picture_size",
    "read_bounded",
    "read_picture",
    "read_provenance",
    "render",
    "resample",
    "resampled_size",
    "resize_alpha",
]
