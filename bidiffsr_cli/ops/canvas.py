"""A picture's whole reverse diffusion on the native engine: `bidiffsr_enlarge` of its library, from Python."""

from __future__ import annotations

import contextlib
import ctypes
import math
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..configs import DiffusionConfig
from ..tiling import Grid
from . import native
from .threads import threads, using_threads

if TYPE_CHECKING:
    from torch import Tensor

FLOATS, LEVELS_8, LEVELS_16 = 0, 1, 2
"""What a result is: planes of float32 in [0, 1], 3×H×W; levels of 255, uint8, H×W×channels; levels of 65535, uint16,
H×W, for grey alone."""
SAMPLERS = {"ddim": 0, "ddpm": 1, "dpmpp-2m": 2}
STOPPED = 5
"""The status that functions here give to the library to end it."""
Network = Callable[["Tensor", "Tensor", "Tensor", int], "Tensor"]
"""x_t (B×3×H×W), the condition (B×C×H×W), t (B), t as an index -> the prediction, B×3×H×W. Of the engine's calls B is
1, and the first two lie in its memory and are not to be kept."""


class NotFiniteError(ArithmeticError):
    """The network predicts something that is no number."""


@dataclass(frozen=True)
class NativeUpsampler:
    """What is added to bicubic interpolation, on the engine (`networks/upsampler.py`).

    Attributes:
        program: the small picture, 1×3×h×w as planes -> 1×3×(scale·h)×(scale·w).
        radius: how many pixels from the edges of what it is given its result is of no use.
    """

    program: native.NativeProgram
    radius: int

    def __call__(self, low_res: Tensor) -> Tensor:
        """B×3×h×w in [0, 1] -> B×3×(scale·h)×(scale·w)."""
        return self.program([low_res.contiguous()], [0] * len(low_res), 0, threads())


@dataclass(frozen=True)
class Samples:
    """A small picture, plane by plane.

    Attributes:
        data: channels×height×width numbers: levels of 255 in a byte each, or float32 in [0, 1].
        floats: whether they are float32.
        channels: 1 (grey) or 3.
        height, width: pixels.
    """

    data: bytes
    floats: bool
    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class Enlargement:
    """How one picture is enlarged.

    Attributes:
        diffusion: of the model.
        grid: the windows.
        scale: of enlargement.
        levels: (t, alpha, sigma) of all steps, and of the clean end.
        sampler: ddim, ddpm or dpmpp-2m.
        eta, temperature, seed: as options.
        match_low_frequencies: whether the result is given the low frequencies of the small picture.
        threads: of the CPU, in all.
        concurrent: windows that are computed at once.
        window_threads: of each window, row by row.
    """

    diffusion: DiffusionConfig
    grid: Grid
    scale: int
    levels: Sequence[tuple[int, float, float]]
    sampler: str
    eta: float
    temperature: float
    seed: int
    match_low_frequencies: bool
    threads: int
    concurrent: int
    window_threads: Sequence[int]


def enlarge(
    low_res: Samples,
    how: Enlargement,
    network: native.NativeProgram | Network,
    upsampler: NativeUpsampler | None,
    advance: Callable[[], None],
    kind: int = FLOATS,
) -> bytearray:
    """Run the whole reverse diffusion.

    Args:
        low_res: the small picture.
        how: everything else that the result depends on.
        network: one of the engine, or what computes a window in its place.
        upsampler: of the model, if it has one.
        advance: is called whenever a window is done.
        kind: what the result is, `FLOATS` or levels, in which grey is the mean of the three channels that are drawn.

    Returns:
        The result of scale·h by scale·w pixels.

    Raises:
        NotFiniteError: the network predicts something that is no number.
        MemoryError: there is not enough memory.
        ValueError: the small picture has another number of bytes than its size says.
        BaseException: what `network` or `advance` raise.
    """
    diffusion, grid = how.diffusion, how.grid
    if len(low_res.data) != low_res.channels * low_res.height * low_res.width * (4 if low_res.floats else 1):
        raise ValueError(f"{len(low_res.data)} bytes are not a picture of {low_res.width}×{low_res.height}")
    pixels = how.scale**2 * low_res.height * low_res.width
    result = bytearray({FLOATS: 12, LEVELS_8: low_res.channels, LEVELS_16: 2}[kind] * pixels)
    events: queue.SimpleQueue[bool] = queue.SimpleQueue()
    """True for a window that is done, False at the end."""
    errors: list[BaseException] = []
    stopping = threading.Event()

    def tell(_: object, windows: int) -> int:
        if windows:
            events.put(True)
        return STOPPED if stopping.is_set() else 0

    def predict(_: object, threads: int, x_t: int, condition: int, t: int, prediction: int) -> int:
        try:
            import torch

            assert not isinstance(network, native.NativeProgram)
            window = grid.tile_height, grid.tile_width
            seen = [_floats(x_t, (1, 3, *window)), _floats(condition, (1, 3 * len(diffusion.condition), *window))]
            with torch.inference_mode(), using_threads(threads):
                found = network(seen[0], seen[1], torch.tensor([t]), t)
                _floats(prediction, (1, 3, *window)).copy_(found)
        except BaseException as error:  # on its way through C it would be lost
            errors.append(error)
            return STOPPED
        return 0

    call = _Enlargement(
        threads=how.threads,
        concurrent=how.concurrent,
        window_threads=(ctypes.c_int32 * len(grid.tiles))(*how.window_threads),
        low_res=ctypes.cast(ctypes.c_char_p(low_res.data), ctypes.c_void_p),
        low_res_floats=low_res.floats,
        channels=low_res.channels,
        height=low_res.height,
        width=low_res.width,
        scale=how.scale,
        canvas_height=grid.height,
        canvas_width=grid.width,
        tile_height=grid.tile_height,
        tile_width=grid.tile_width,
        overlap=grid.overlap,
        row_count=len(grid.tops),
        column_count=len(grid.lefts),
        tops=(ctypes.c_int32 * len(grid.tops))(*grid.tops),
        lefts=(ctypes.c_int32 * len(grid.lefts))(*grid.lefts),
        sampler=SAMPLERS[how.sampler],
        step_count=len(how.levels) - 1,
        levels=(_Level * len(how.levels))(*(_Level(*level) for level in how.levels)),
        eta=how.eta,
        temperature=how.temperature,
        seed=how.seed % 2**64,
        progress=_PROGRESS(tell),
        match_low_frequencies=how.match_low_frequencies,
        output_kind=kind,
        output=ctypes.addressof(ctypes.c_char.from_buffer(result)),
    )
    if not isinstance(network, native.NativeProgram):
        call.predict = _PREDICT(predict)
    handle = network.handle if isinstance(network, native.NativeProgram) else None
    described, enlarging = _described(diffusion, how.scale), None
    if upsampler is not None:
        described.upsampler_radius, enlarging = upsampler.radius, upsampler.program.handle

    def run() -> int:
        held = low_res, result, network, upsampler, call  # whatever happens to the caller, as long as it runs
        status: int = native.library().bidiffsr_enlarge(handle, enlarging, ctypes.byref(described), ctypes.byref(call))
        del held
        return status

    with ThreadPoolExecutor(1, thread_name_prefix="enlarge") as pool:
        try:
            running = pool.submit(run)
            running.add_done_callback(lambda _: events.put(False))
            while _next(events):  # here, and not in C, the main thread hears of signals
                advance()
        except BaseException:
            stopping.set()
            raise
    status = running.result()
    if errors:
        raise errors[0]
    if status == native.EngineStatus.NOT_FINITE:
        raise NotFiniteError
    native.check_status(status)
    return result


def _next(events: queue.SimpleQueue[bool]) -> bool:
    """The next event; waits in short turns, as a long one would not hear of Ctrl-C on Windows."""
    while True:
        with contextlib.suppress(queue.Empty):
            return events.get(timeout=0.2)


def _described(config: DiffusionConfig, scale: int) -> _Diffusion:
    return _Diffusion(
        epsilon=config.parameterization == "epsilon",
        residual=config.target == "residual",
        input_gain=config.input_gain == "alpha",
        up_clipped=config.upsample == "bicubic_075_clipped",
        clips=config.clip is not None,
        clip=(ctypes.c_float * 2)(*(config.clip or (0, 0))),
        condition_range=(ctypes.c_float * 2)(*config.condition_range),
        detail="detail" in config.condition,
        residual_scale=(config.residual_scale or {}).get(str(scale), 1.0),
        noise_by_detail=config.noise_by_detail or 0.0,
        residual_by_detail=config.residual_by_detail or 0.0,
        first_by_mean=config.first_step == "mean",
    )


def _floats(address: int, shape: tuple[int, ...]) -> Tensor:
    """The floats at an address, as a tensor that does not own them."""
    import torch

    count = math.prod(shape)
    return torch.frombuffer((ctypes.c_float * count).from_address(address), dtype=torch.float32).view(shape)


class _Diffusion(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("epsilon", "residual", "input_gain", "up_clipped", "clips")),
        ("clip", ctypes.c_float * 2),
        ("condition_range", ctypes.c_float * 2),
        ("detail", ctypes.c_int32),
        *((name, ctypes.c_float) for name in ("residual_scale", "noise_by_detail", "residual_by_detail")),
        *((name, ctypes.c_int32) for name in ("first_by_mean", "upsampler_radius")),
    ]


class _Level(ctypes.Structure):
    _fields_ = [("t", ctypes.c_int32), ("alpha", ctypes.c_double), ("sigma", ctypes.c_double)]


_POINTER = ctypes.c_void_p
_PREDICT = ctypes.CFUNCTYPE(ctypes.c_int32, _POINTER, ctypes.c_int32, _POINTER, _POINTER, ctypes.c_int32, _POINTER)
_PROGRESS = ctypes.CFUNCTYPE(ctypes.c_int32, _POINTER, ctypes.c_int32)


class _Enlargement(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("threads", "concurrent")),
        ("window_threads", ctypes.POINTER(ctypes.c_int32)),
        ("low_res", _POINTER),
        *((name, ctypes.c_int32) for name in ("low_res_floats", "channels", "height", "width", "scale")),
        *((name, ctypes.c_int32) for name in ("canvas_height", "canvas_width")),
        *((name, ctypes.c_int32) for name in ("tile_height", "tile_width", "overlap", "row_count", "column_count")),
        *((name, ctypes.POINTER(ctypes.c_int32)) for name in ("tops", "lefts")),
        *((name, ctypes.c_int32) for name in ("sampler", "step_count")),
        ("levels", ctypes.POINTER(_Level)),
        *((name, ctypes.c_double) for name in ("eta", "temperature")),
        ("seed", ctypes.c_uint64),
        ("predict", _PREDICT),
        ("progress", _PROGRESS),
        ("context", _POINTER),
        *((name, ctypes.c_int32) for name in ("match_low_frequencies", "output_kind")),
        ("output", _POINTER),
    ]
