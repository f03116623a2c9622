"""The Hugging Face Hub, through huggingface_hub and the cache that all of its tools share.

    name = HubFile.parse("org/repo@v2:big.safetensors")
    path = cached_file(name) or download(name)

`names` is how users name files there, `client` the library and its errors, `cache` what is here, `transfer` the way.
"""

from .cache import CachedModel, cached_file, cached_models, check_cached, commit_of, remove, remove_remains
from .client import is_offline, missing_error, offline_error
from .names import DEFAULT_FILE, DEFAULT_REVISION, HubFile
from .transfer import Progress, download, upload

__all__ = [
    "DEFAULT_FILE",
    "DEFAULT_REVISION",
    "CachedModel",
    "HubFile",
    "Progress",
    "cached_file",
    "cached_models",
    "check_cached",
    "commit_of",
    "download",
    "is_offline",
    "missing_error",
    "offline_error",
    "remove",
    "remove_remains",
    "upload",
]
