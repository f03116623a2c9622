"""Read damaged checkpoint files, many of them, in a process that may take little memory and time.

    python tests/checkpoints/hostile.py SEED COUNT

Prints how many files were refused and read. Ends with a traceback if reading raises anything but a ModelError, and is
ended by the system if it takes more than MEMORY on top of what the first reading took, or TIME seconds.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cli.support import tiny_checkpoint

from bidiffsr_cli.checkpoints.files import read_checkpoint, read_header
from bidiffsr_cli.errors import ModelError

MEMORY, SECONDS = 64 << 20, 120
STRANGE: list[Any] = [
    None, True, -1, 0, 1, 3, 7, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63), 10**400, 1e308, float("nan"), float("inf"),
    "", "x", "x" * 100_000, "\0", "\ud800", [], [[]], {}, [0] * 1000, "F32", "F64", "U8", "BF16", "C64", [2**40, 2**40],
]  # fmt: skip


def split(file: bytes) -> tuple[Any, bytes]:
    length = int.from_bytes(file[:8], "little")
    return json.loads(file[8 : 8 + length]), file[8 + length :]


def join(header: Any, body: bytes) -> bytes:
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return len(text).to_bytes(8, "little") + text + body


def bytes_changed(file: bytes, draw: random.Random) -> bytes:
    """Some bytes are others, most of them in the header."""
    data = bytearray(file)
    for _ in range(draw.choice((1, 1, 2, 8))):
        data[draw.randrange(draw.choice((8, 2000, len(data))))] = draw.randrange(256)
    return bytes(data)


def cut(file: bytes, draw: random.Random) -> bytes:
    """Something is missing, or too much, in the middle or at the end."""
    start = draw.randrange(len(file))
    end = draw.choice((len(file), min(len(file), start + draw.randrange(64))))
    return file[:start] + draw.randbytes(draw.choice((0, 0, 5))) + file[end:]


def length_changed(file: bytes, draw: random.Random) -> bytes:
    """The header says another length of itself."""
    length = draw.choice((0, 1, len(file), 2**32, 2**63, 2**64 - 1, draw.randrange(len(file))))
    return length.to_bytes(8, "little") + file[8:]


def tensor_changed(file: bytes, draw: random.Random) -> bytes:
    """A tensor's type, shape or place is another."""
    header, body = split(file)
    name = draw.choice([key for key in header if key != "__metadata__"])
    field = draw.choice(("dtype", "shape", "data_offsets"))
    if field == "dtype" or draw.random() < 0.3:
        header[name][field] = draw.choice(STRANGE)
    else:
        index = draw.randrange(len(header[name][field]))
        header[name][field][index] = draw.choice(STRANGE)
    return join(header, body)


def config_changed(file: bytes, draw: random.Random) -> bytes:
    """A field of the config, at any depth, is something strange."""
    header, body = split(file)
    config = json.loads(header["__metadata__"]["config"])
    place = config
    while True:
        key = draw.choice(list(place))
        if not isinstance(place[key], dict) or not place[key] or draw.random() < 0.2:
            break
        place = place[key]
    place[key] = draw.choice(STRANGE)
    header["__metadata__"]["config"] = json.dumps(config)
    return join(header, body)


def metadata_changed(file: bytes, draw: random.Random) -> bytes:
    """What the file says of itself is something strange, or nested deep enough to break a parser."""
    header, body = split(file)
    key = draw.choice([*header["__metadata__"], "__metadata__", "new"])
    deep = "[" * 100_000 + "]" * 100_000
    value = draw.choice([*STRANGE, deep])
    if key == "__metadata__":
        header[key] = value
    else:
        header["__metadata__"][key] = value
    return join(header, body)


def numbers_changed(file: bytes, draw: random.Random) -> bytes:
    """The tensors' bytes are ones, zeros or noise."""
    header, body = split(file)
    start, count = draw.randrange(len(body)), draw.randrange(1, 4096)
    octets = draw.choice((b"\xff" * count, bytes(count), draw.randbytes(count), b"\x00\x7c" * count))
    return join(header, (body[:start] + octets + body[start + len(octets) :])[: len(body)])


MUTATIONS = (
    bytes_changed, cut, length_changed, tensor_changed, config_changed, metadata_changed, numbers_changed,
)  # fmt: skip


def main(seed: int, count: int) -> None:
    """Read `count` damaged files."""
    draw, file = random.Random(seed), tiny_checkpoint()
    refused = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        path.write_bytes(file)
        read_checkpoint(path).build_packed()
        pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else 0
        if pages:
            resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY,) * 2)
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        for index in range(count):
            path.write_bytes(MUTATIONS[index % len(MUTATIONS)](file, draw))
            try:
                read_checkpoint(path).build_packed()
                read_header(path)
            except ModelError as error:
                assert error.message and len(error.message) < 1000, error.message[:300]
                refused += 1
    print(json.dumps({"refused": refused, "read": count - refused}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
