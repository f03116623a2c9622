"""Pictures: reading them into tensors, turning tensors into pictures, and writing files.

`read_picture` → `Picture` → (enlarge `picture.rgb`, `resize_alpha`) → `render` → `encode` → `write_atomic`.
"""

from .metadata import read_provenance
from .picture import Picture
from .reading import read_picture
from .rendering import bleed_edges, render, resample, resize_alpha
from .writing import check_output, check_size, choose_format, encode, write_atomic

__all__ = [
    "Picture",
    "bleed_edges",
    "check_output",
    "check_size",
    "choose_format",
    "encode",
    "read_picture",
    "read_provenance",
    "render",
    "resample",
    "resize_alpha",
    "write_atomic",
]
