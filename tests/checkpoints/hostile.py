"""Read damaged checkpoint files, which Hypothesis makes of a sound one, in little memory.

    python tests/checkpoints/hostile.py COUNT

Prints how many files were refused and read. Ends with Hypothesis's smallest example if reading raises anything but a
CheckpointError, if what is read is more than the file holds, or takes more than MEMORY; and is ended by the system
after SECONDS of the processor's time. The same COUNT reads the same files.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cli.support import tiny_checkpoint

from bidiffsr_cli.checkpoints.files import read_checkpoint
from bidiffsr_cli.checkpoints.header import read_header
from bidiffsr_cli.configs import UpsamplerConfig
from bidiffsr_cli.errors import CheckpointError

MEMORY, SECONDS = 64 << 20, 240
FILE = tiny_checkpoint(upsampler=UpsamplerConfig({"2": 1, "4": 0}, channels=4))
LENGTH = int.from_bytes(FILE[:8], "little")
BODY = FILE[8 + LENGTH :]
DEEP = "[" * 100_000 + "]" * 100_000  # breaks a parser that recurses

STRANGE = st.sampled_from([
    -1, 0, 1, 3, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63), 10**400, 1e308, "", "x" * 100_000, "\0", "\ud800",
    [], [[]], {}, [0] * 1000, "F32", "F64", "U8", "BF16", "C64", [2**40, 2**40],
])  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
VALUE = STRANGE | JSON
Draw = Callable[..., Any]


class Damaged(NamedTuple):
    """A file, and what was done to it."""

    what: str
    file: bytes

    def __repr__(self) -> str:
        return self.what[:300]


def header_of_file() -> dict[str, Any]:
    """A header to change."""
    return json.loads(FILE[8 : 8 + LENGTH])


def with_header(header: Any, body: bytes = BODY) -> bytes:
    """A file of a header and the tensors' bytes."""
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return len(text).to_bytes(8, "little") + text + body


@st.composite
def bytes_changed(draw: Draw) -> Damaged:
    """Some bytes are others, most of them in the header."""
    octets = st.integers(0, 255)
    places = st.sampled_from((8, 2000, len(FILE))).flatmap(lambda end: st.integers(0, end - 1))
    changes = draw(st.dictionaries(places, octets, min_size=1, max_size=8))
    return Damaged(f"bytes changed: {changes}", bytes(changes.get(i, octet) for i, octet in enumerate(FILE)))


@st.composite
def cut(draw: Draw) -> Damaged:
    """Something is missing, or too much, in the middle or at the end."""
    start = draw(st.integers(0, len(FILE)))
    end = draw(st.just(len(FILE)) | st.integers(start, min(len(FILE), start + 64)))
    instead = draw(st.binary(max_size=8))
    return Damaged(f"bytes {start} to {end} are {instead!r}", FILE[:start] + instead + FILE[end:])


@st.composite
def length_changed(draw: Draw) -> Damaged:
    """The header says another length of itself."""
    length = draw(st.sampled_from((0, 1, len(FILE), 2**32, 2**63, 2**64 - 1)) | st.integers(0, len(FILE)))
    return Damaged(f"header of {length} bytes", length.to_bytes(8, "little") + FILE[8:])


@st.composite
def tensor_changed(draw: Draw) -> Damaged:
    """A tensor's type, shape or place is another."""
    header = header_of_file()
    name = draw(st.sampled_from([name for name in header if name != "__metadata__"]))
    tensor = header[name]
    field = draw(st.sampled_from(("dtype", "shape", "data_offsets")))
    if isinstance(tensor[field], list) and draw(st.booleans()):
        tensor[field][draw(st.integers(0, len(tensor[field]) - 1))] = draw(VALUE)
    else:
        tensor[field] = draw(VALUE)
    return Damaged(f"{field} of {name}: {tensor[field]!r}", with_header(header))


@st.composite
def config_changed(draw: Draw) -> Damaged:
    """A field of the config, at any depth, is something strange."""
    header = header_of_file()
    config = place = json.loads(header["__metadata__"]["config"])
    key = draw(st.sampled_from(list(place)))
    while isinstance(place[key], dict) and place[key] and draw(st.integers(0, 4)):
        place = place[key]
        key = draw(st.sampled_from(list(place)))
    place[key] = draw(VALUE)
    header["__metadata__"]["config"] = json.dumps(config)
    return Damaged(f"config's {key}: {place[key]!r}", with_header(header))


@st.composite
def metadata_changed(draw: Draw) -> Damaged:
    """What the file says of itself is something strange, or nested deep enough to break a parser."""
    header = header_of_file()
    key = draw(st.sampled_from([*header["__metadata__"], "__metadata__", "new"]))
    value = draw(VALUE | st.just(DEEP))
    (header if key == "__metadata__" else header["__metadata__"])[key] = value
    return Damaged(f"metadata's {key}: {value!r}", with_header(header))


@st.composite
def numbers_changed(draw: Draw) -> Damaged:
    """Some of the tensors' bytes are ones, zeros, infinities or noise."""
    start, count = draw(st.integers(0, len(BODY) - 1)), draw(st.integers(1, 4096))
    octets = (draw(st.sampled_from((b"\xff", b"\0", b"\x00\x7c")) | st.binary(min_size=1, max_size=16)) * count)[:4096]
    body = (BODY[:start] + octets + BODY[start + len(octets) :])[: len(BODY)]
    return Damaged(f"numbers from {start} on: {octets!r}", with_header(header_of_file(), body))


FILES = st.one_of(
    bytes_changed(), cut(), length_changed(), tensor_changed(), config_changed(), metadata_changed(), numbers_changed()
)


@contextlib.contextmanager
def little_memory() -> Iterator[None]:
    """Until the block ends, no more than MEMORY can be taken on top of what is taken now."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def read(file: bytes, path: Path) -> str:
    """Read a file: what became of it, which must be nothing bad."""
    path.write_bytes(file)
    with contextlib.suppress(CheckpointError), little_memory():
        read_header(path)
    try:
        with little_memory():
            checkpoint = read_checkpoint(path)
            network = checkpoint.build_packed()
    except CheckpointError as error:
        assert error.message.startswith(path.name) and len(error.message) < 1000, error.message[:300]
        return "refused"
    tensors = network.state_dict().values()
    assert sum(tensor.nbytes for tensor in tensors) < 2 * len(file)  # float16 has become float32
    assert all(bool(tensor.isfinite().all()) for tensor in tensors)
    assert len(checkpoint.license + checkpoint.origin) < len(file)
    return "read"


def main(count: int) -> None:
    """Read `count` damaged files."""
    results: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        path.write_bytes(FILE)
        read_checkpoint(path).build_packed()  # what is imported late is no part of the memory that is counted
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))

        @settings(max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=HealthCheck)
        @given(FILES)
        def nothing_bad_happens(damaged: Damaged) -> None:
            results[read(damaged.file, path)] += 1

        nothing_bad_happens()
    print(json.dumps(results))


if __name__ == "__main__":
    main(int(sys.argv[1]))
