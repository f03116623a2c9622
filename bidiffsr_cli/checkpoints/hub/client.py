"""huggingface_hub, the library: importing it, keeping it quiet and on guard, and its errors as sentences.

HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_OFFLINE and the proxies' variables are the library's own; it reads most of them
when it is imported.
"""

from __future__ import annotations

import contextlib
import errno
import re
import threading
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from ...errors import BidiffsrError, ModelError
from .names import HubFile

COMMIT = re.compile("[0-9a-f]{40}")
ETAG = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")
"""What content is named by: git's sha1 of small files, sha256 of others."""
LONGEST_SILENCE = 120.0
LONGEST_WAIT = 120
"""Seconds."""
_OF_THE_DISK = ["ENOSPC", "EDQUOT", "EFBIG", "EACCES", "EPERM", "EROFS", "ENOTDIR", "EEXIST", "EISDIR", "ENAMETOOLONG"]
_ALONE = threading.RLock()
"""What the library keeps for the whole process is changed by one thread at a time."""


def hub_library() -> Any:
    """huggingface_hub, which reads the environment when it is imported.

    Raises:
        ModelError: it cannot make anything of the environment.
    """
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
        import huggingface_hub.utils
    except (ImportError, ValueError) as error:
        raise _environment_error(error) from None
    return huggingface_hub


def is_offline() -> bool:
    """Whether the environment forbids the network."""
    return bool(hub_library().is_offline_mode())


def host() -> str:
    """Of the Hub, or of the mirror that HF_ENDPOINT names."""
    endpoint = str(hub_library().constants.ENDPOINT)
    return urlsplit(endpoint).netloc or endpoint


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """For a while without the library's own progress bars and messages, and with bounds.

    Answers are looked at (`_check_answer`), and none is waited for longer than `LONGEST_SILENCE`.
    """
    with _ALONE:
        hub = hub_library()
        session, verbosity = hub.get_session(), hub.logging.get_verbosity()
        hooks, timeout = session.event_hooks, session.timeout
        session.event_hooks = {**hooks, "response": [*hooks.get("response", []), _check_answer]}
        session.timeout = LONGEST_SILENCE
        hub.logging.set_verbosity(hub.logging.CRITICAL)
        try:
            with hub.utils.disable_progress_bars():
                yield
        finally:
            session.event_hooks, session.timeout = hooks, timeout
            hub.logging.set_verbosity(verbosity)


def _check_answer(response: Any) -> None:
    """Refuse what the library takes on trust: names that could leave the cache, and waits of hours."""
    told, status = response.headers, response.status_code
    if response.request.method == "HEAD" and status < 400 and "x-repo-commit" in told:
        etag = (told.get("x-linked-etag") or told.get("etag", "")).lstrip("W/").strip('"')  # as the library does
        if not COMMIT.fullmatch(told["x-repo-commit"]) or (etag and not ETAG.fullmatch(etag)):
            raise no_hub_error()
    if status not in (408, 429, 503):
        return
    asked = re.search(r"\bt=(\d+)", told.get("ratelimit", "")) if status == 429 else None
    after = told.get("retry-after", "").strip()
    seconds = int(asked[1]) if asked else int(after) if after.isdecimal() else 0
    if after and not after.isdecimal():  # a date
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            seconds = round(parsedate_to_datetime(after).timestamp() - time.time())
    if seconds > LONGEST_WAIT:
        raise ModelError(f"{host()} asks to be left alone for {seconds:,} seconds.", "Try again then.")


@contextlib.contextmanager
def hub_errors_explained(name: HubFile) -> Iterator[None]:
    """What the library and the network raise, as one sentence each."""
    errors = hub_library().errors
    try:
        yield
    except BidiffsrError:
        raise
    except errors.HFValidationError:
        raise ModelError(f"'{name.repo}' is not the name of a repository.", "Write it as ORG/REPO.") from None
    except errors.OfflineModeIsEnabled:
        raise offline_error(name) from None
    except errors.RevisionNotFoundError:
        raise ModelError(f"{name.repo} has no revision '{name.revision}'.", "Check the name after the @.") from None
    except errors.LocalEntryNotFoundError as error:  # there was another error, and the cache does not help
        with hub_errors_explained(name):
            raise error.__cause__ or no_hub_error() from None
    except errors.EntryNotFoundError:
        raise ModelError(f"{name.repo} has no file '{name.file}'.", "Name another one after a colon.") from None
    except errors.HfHubHTTPError as error:
        raise _refused(name, error.response.status_code) from None
    except errors.HTTPError as error:  # connecting, timeouts, broken protocol
        raise ModelError(
            f"{host()} cannot be reached ({type(error).__name__}).", "Check network and proxy, and run it again."
        ) from None
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and errno.errorcode.get(error.errno or 0) in _OF_THE_DISK:
            raise ModelError(
                f"The cache of models cannot be used: {error.strerror}.", "HF_HOME names another folder."
            ) from None
        if type(error) is OSError and error.errno is None:  # more or fewer bytes were received than announced
            raise no_hub_error() from None
        raise ModelError(
            f"{name}: the transfer failed ({words(error.__cause__ or error)}).",
            "Check network, proxy and certificates; run it again.",
        ) from None
    except (ImportError, ValueError) as error:
        raise _environment_error(error) from None
    except (KeyError, TypeError, IndexError, AttributeError):  # an answer of another shape
        raise no_hub_error() from None


def no_hub_error() -> ModelError:
    """What answers is something else."""
    return ModelError(f"{host()} does not answer as the Hub does.", "Check HF_ENDPOINT, proxy and firewall.")


def _environment_error(error: Exception) -> ModelError:
    return ModelError(
        f"The Hub's client cannot work like this ({words(error)}).",
        "Check HF_ENDPOINT, HF_TOKEN and the proxy's variables.",
    )


def offline_error(name: HubFile) -> ModelError:
    """The error where a download would be needed and is forbidden."""
    return ModelError(
        f"{name} is not here, and the network may not be used.",
        f"Without --offline and HF_HUB_OFFLINE: bidiffsr models pull {name}",
    )


def missing_error(name: HubFile) -> ModelError:
    """The error where only what is here is looked for."""
    return ModelError(f"{name} is not on this machine.", f"Fetch it: bidiffsr models pull {name}")


def words(error: BaseException) -> str:
    """What a library says, on one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _refused(name: HubFile, status: int) -> ModelError:
    if status in (401, 403):
        return ModelError(
            f"{name.repo} needs a token that may use it, or does not exist ({host()} says {status}).",
            "Set HF_TOKEN, or check the name; there is no such file here, either.",
        )
    if status == 404:
        return ModelError(f"There is no repository {name.repo} at {host()}.", "Check the name.")
    return ModelError(f"{host()} answers {status} for {name}.", "Try again later.")
