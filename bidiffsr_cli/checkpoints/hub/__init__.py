"""The Hugging Face Hub, through huggingface_hub and the cache that all of its tools share.

    name = HubFile.parse("org/repo@v2:big.safetensors")
    path = cached_file(name) or download(name)

`names` is how users name files there, `client` the library and its errors, `files` the way here, there and out again.
"""

from .client import is_offline, missing_error
from .files import CachedModel, cached_file, cached_models, check_cached, commit_of, download, remove, upload
from .names import DEFAULT_FILE, DEFAULT_REVISION, HubFile

__all__ = [
    "DEFAULT_FILE",
    "DEFAULT_REVISION",
    "CachedModel",
    "HubFile",
    "cached_file",
    "cached_models",
    "check_cached",
    "commit_of",
    "download",
    "is_offline",
    "missing_error",
    "remove",
    "upload",
]
