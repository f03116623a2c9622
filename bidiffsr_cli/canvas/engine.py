"""A picture's whole way on the native engine: `bidiffsr_enlarge` of its library, from Python."""

from __future__ import annotations

import contextlib
import ctypes
import math
import queue
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from PIL import Image

from ..configs import DiffusionConfig
from ..networks.native_unet import NativeUNet, NativeUpsampler
from ..ops import native
from ..ops.threads import using_threads
from ..runtime import shares_in_rounds
from .diffusion import Diffusion, not_finite

if TYPE_CHECKING:
    from torch import Tensor

FLOATS, LEVELS_8, LEVELS_16 = 0, 1, 2
"""What a result is: planes of float32 in [0, 1], 3×H×W; levels of 255, uint8, H×W×channels; levels of 65535, uint16,
H×W, for grey alone."""
SAMPLERS = {"ddim": 0, "ddpm": 1, "dpmpp-2m": 2}
STOPPED = 5
"""The status that functions here give to the library to end it."""


def run(diffusion: Diffusion, planes: Sequence[Image.Image], kind: int) -> bytearray:
    """The whole reverse diffusion.

    Args:
        diffusion: what it takes; a network that is none of the engine's computes its windows in its place.
        planes: of the small picture, as those of a `Picture`.
        kind: what the result is, `FLOATS` or levels, in which grey is the mean of the three channels that are drawn.

    Returns:
        The result of scale·h by scale·w pixels.

    Raises:
        BidiffsrError: the network predicts something that is no number.
        MemoryError: there is not enough memory.
        BaseException: what the network or `diffusion.advance` raise.
    """
    config, plan, options, grid = diffusion.config, diffusion.plan, diffusion.options, diffusion.plan.grid
    program = diffusion.network.network if isinstance(diffusion.network, NativeUNet) else None
    upsampler, threads = diffusion.upsampler, diffusion.runtime.threads_here
    assert upsampler is None or isinstance(upsampler, NativeUpsampler)
    low_res = b"".join(plane.tobytes() for plane in planes)
    (width, height), channels = planes[0].size, len(planes)
    assert {plane.size for plane in planes} == {(width, height)}
    pixels = plan.scale**2 * height * width
    result = bytearray({FLOATS: 12, LEVELS_8: channels, LEVELS_16: 2}[kind] * pixels)
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

            window = grid.tile_height, grid.tile_width
            seen = [_floats(x_t, (1, 3, *window)), _floats(condition, (1, 3 * len(config.condition), *window))]
            with torch.inference_mode(), using_threads(threads):
                found = diffusion.network(seen[0], seen[1], torch.tensor([t]), t)
                _floats(prediction, (1, 3, *window)).copy_(found)
        except BaseException as error:  # on its way through C it would be lost
            errors.append(error)
            return STOPPED
        return 0

    levels = [_Level(level.t, level.alpha, level.sigma) for level in diffusion.levels]
    shares = shares_in_rounds(threads, len(grid.tiles), plan.concurrent)
    call = _Enlargement(
        threads=threads,
        concurrent=plan.concurrent,
        window_threads=(ctypes.c_int32 * len(grid.tiles))(*shares),
        low_res=ctypes.cast(ctypes.c_char_p(low_res), ctypes.c_void_p),
        low_res_floats=planes[0].mode == "F",
        channels=channels,
        height=height,
        width=width,
        scale=plan.scale,
        canvas_height=grid.height,
        canvas_width=grid.width,
        tile_height=grid.tile_height,
        tile_width=grid.tile_width,
        overlap=grid.overlap,
        row_count=len(grid.tops),
        column_count=len(grid.lefts),
        tops=(ctypes.c_int32 * len(grid.tops))(*grid.tops),
        lefts=(ctypes.c_int32 * len(grid.lefts))(*grid.lefts),
        sampler=SAMPLERS[options.sampler],
        step_count=len(levels) - 1,
        levels=(_Level * len(levels))(*levels),
        eta=options.eta,
        temperature=plan.temperature,
        seed=options.seed % 2**64,
        progress=_PROGRESS(tell),
        match_low_frequencies=options.color_fix == "lowfreq",
        output_kind=kind,
        output=ctypes.addressof(ctypes.c_char.from_buffer(result)),
    )
    if program is None:
        call.predict = _PREDICT(predict)
    handle = None if program is None else program.handle
    described, enlarging = _described(config, plan.scale), None
    if upsampler is not None:
        described.upsampler_radius, enlarging = upsampler.radius, upsampler.program.handle

    def compute() -> int:
        held = low_res, result, diffusion, call  # whatever happens to the caller, as long as it runs
        status: int = native.library().bidiffsr_enlarge(handle, enlarging, ctypes.byref(described), ctypes.byref(call))
        del held
        return status

    with ThreadPoolExecutor(1, thread_name_prefix="enlarge") as pool:
        try:
            running = pool.submit(compute)
            running.add_done_callback(lambda _: events.put(False))
            while _next(events):  # here, and not in C, the main thread hears of signals
                diffusion.advance()
        except BaseException:
            stopping.set()
            raise
    status = running.result()
    if errors:
        raise errors[0]
    if status == native.EngineStatus.NOT_FINITE:
        raise not_finite()
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
        diagonal_gain=(config.diagonal_gain or {}).get(str(scale), 0.0),
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
        *(
            (name, ctypes.c_float)
            for name in ("residual_scale", "noise_by_detail", "residual_by_detail", "diagonal_gain")
        ),
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
