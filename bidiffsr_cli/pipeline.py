"""SuperResolver: a picture is enlarged by interpolation, and the diffusion draws what that lacks (`canvas`)."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from PIL import Image

from . import canvas
from . import runtime as runtimes
from .canvas import Diffusion, Network
from .checkpoints.files import Checkpoint
from .checkpoints.models import load_checkpoint
from .images import Picture, bleed_edges, read_picture, render, resize_alpha
from .options import OptionChanges, UpscaleOptions
from .planning import Plan, Planner
from .results import ModelInfo, PeakMemory, Progress, Seconds, TileInfo, UpscaleResult
from .runtime import Backend, Machine, Precision, Runtime, choose_runtime
from .tiling import Grid

if TYPE_CHECKING:
    import os

    from torch import Tensor


class SuperResolver:
    """A model that is ready to enlarge pictures.

    Attributes:
        model: Which weights these are.
        config: Network, diffusion, scales and window.
        planner: Says what a picture will take.
        runtime: Where they run.
        network: Their inference form.
        upsamplers: Those of the model, by their scales.
        seconds_to_load: How long it took to get here.

    Example:
        >>> result = SuperResolver.from_pretrained("fast").upscale("photo.jpg", scale=2)
        >>> result.image.save("big.png")
    """

    def __init__(self, checkpoint: Checkpoint, runtime: Runtime | None = None) -> None:
        started = time.perf_counter()
        self.model = ModelInfo(checkpoint.name, checkpoint.revision, checkpoint.sha256)
        self.config = checkpoint.config
        self.planner = Planner(self.model.name, self.config)
        self.runtime = runtime or choose_runtime(Machine(), **checkpoint.runtime_facts)
        self.network: Network = self.runtime.prepare(checkpoint)
        self.upsamplers = self.runtime.prepare_upsamplers(checkpoint)
        self.seconds_to_load = time.perf_counter() - started

    def __repr__(self) -> str:
        return f"<SuperResolver {self.model.name}: {self.runtime}>"

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = "fast",
        *,
        device: str = "auto",
        precision: Precision = "auto",
        backend: Backend = "auto",
        threads: int | None = None,
        offline: bool = False,
        on_download: Progress = lambda *_: None,
    ) -> SuperResolver:
        """Load a model.

        Args:
            model: a name of the catalog, ORG/REPO[@REV][:FILE] on the Hugging Face Hub, or the path of a file.
            device, precision, backend, threads: where and how it runs; see `Machine`.
            offline: never use the network, which a model that is not on this machine needs once.
            on_download: is told (bytes here, bytes in all).

        Raises:
            ModelError: there is no such model, it cannot be fetched, or its file is damaged.
            DeviceError: the device is not there.
        """
        started = time.perf_counter()
        checkpoint = load_checkpoint(model, offline=offline, progress=on_download)
        machine = Machine(device, precision, backend, threads)
        resolver = cls(checkpoint, choose_runtime(machine, **checkpoint.runtime_facts))
        del checkpoint  # of which the network has what it needs
        runtimes.return_freed_memory()
        resolver.seconds_to_load = time.perf_counter() - started
        return resolver

    def upscale(
        self,
        image: str | os.PathLike[str] | bytes | Image.Image | Tensor | Picture | Any,
        options: UpscaleOptions | None = None,
        *,
        progress: Progress | None = None,
        **changes: Unpack[OptionChanges],
    ) -> UpscaleResult:
        """Enlarge one picture.

        Args:
            image: a path, encoded bytes, a PIL image, a tensor (C×H×W, or N×C×H×W with N = 1), an array of numpy's
                interface (H×W, H×W×C or C×H×W, which may begin with an N of 1), or a `Picture`. C is 1 to 4: grey,
                grey and alpha, RGB, RGBA; values are uint8, uint16, or floats in [0, 1].
            options: how; see `UpscaleOptions`.
            progress: called whenever a window is done.
            **changes: single options, such as `scale=4`, that replace those of `options`.

        Returns:
            The picture (`image`, `tensor` or `array`), and how it came about.

        Raises:
            InputError: the picture is missing or cannot be read.
            UsageError: an option is unknown, or does not suit this model.
            DeviceError: memory does not suffice.
        """
        started = time.perf_counter()
        options = (options or UpscaleOptions()).changed(**changes)

        def check(size: tuple[int, int]) -> None:
            runtimes.require_memory(runtimes.BYTES_TO_DECODE * size[0] * size[1], options.max_memory)

        picture = image if isinstance(image, Picture) else read_picture(image, check=check)
        runtimes.return_freed_memory()  # what decoding left behind
        plan = self.planner.plan(picture, options, self.runtime)
        decoded = time.perf_counter()
        result = self.carry_out(plan, picture, options, progress)
        result.seconds.add("decode", decoded - started)
        return result

    def carry_out(
        self, plan: Plan, picture: Picture, options: UpscaleOptions, progress: Progress | None = None
    ) -> UpscaleResult:
        """Enlarge a picture whose plan has been made with the same options; as `upscale`."""
        counter, seconds = itertools.count(1), Seconds()

        def advance() -> None:
            if progress is not None:
                progress(next(counter), plan.evaluations)

        diffusion = self._diffusion(plan, options, advance)
        with runtimes.out_of_memory_explained(), self.runtime.threads_bound():
            with seconds.measured("sample"):
                colour, alpha = _enlarged(diffusion, picture)
            with seconds.measured("encode"):
                runtimes.return_freed_memory()
                image = render(colour, picture, alpha=alpha)
        seconds.per_step = seconds.sample / plan.steps
        return self.describe(picture, plan, options, seconds, image)

    def elsewhere(self, runtime: Runtime, network: Network | None = None) -> SuperResolver:
        """The same model with its windows computed in another place; everything else stays in this process.

        Args:
            runtime: of that place: how many windows at once, and what each takes of the memory here.
            network: what computes them, if not the same; it is called from several threads at once.
        """
        twin = copy.copy(self)
        twin.runtime, twin.network = runtime, network or self.network
        return twin

    def estimate(self, plan: Plan) -> float:
        """About how many seconds carrying out a plan will take, by computing a row of `plan.concurrent` windows."""
        high, wide, count = plan.grid.tile_height, plan.grid.tile_width, plan.concurrent
        row = Grid(high, count * wide, high, wide, 0)
        size = row.width // plan.scale, row.height // plan.scale
        area = plan.scale * size[0], plan.scale * size[1]

        def seconds(steps: int) -> float:
            sample = dataclasses.replace(plan, output_size=area, grid=row, steps=steps)
            diffusion, started = self._diffusion(sample, UpscaleOptions()), 0.0
            with self.runtime.threads_bound():
                for _ in range(2):  # the first round warms up
                    started = time.perf_counter()
                    canvas.enlarge(diffusion, [Image.new("L", size)] * 3)
            return time.perf_counter() - started

        free = self.config.diffusion.free_steps
        once = seconds(free) if free else 0.0
        look = max(0.0, seconds(free + 1) - once) / count if plan.evaluations else 0.0
        whole = math.prod(plan.output_size) / math.prod(area)
        return plan.passes * whole * once + plan.evaluations * look

    def _diffusion(self, plan: Plan, options: UpscaleOptions, advance: Callable[[], None] = lambda: None) -> Diffusion:
        upsampler = self.upsamplers.get(plan.scale)
        return Diffusion(self.config.diffusion, self.network, self.runtime, plan, options, advance, upsampler)

    def describe(
        self,
        picture: Picture,
        plan: Plan,
        options: UpscaleOptions,
        seconds: Seconds | None = None,
        image: Image.Image | None = None,
    ) -> UpscaleResult:
        """What carrying out a plan came to, or would."""
        grid, runtime = plan.grid, self.runtime
        return UpscaleResult(
            input_size=picture.size,
            output_size=plan.output_size,
            scale=plan.scale,
            model=self.model,
            steps=plan.steps,
            sampler=options.sampler,
            eta=options.eta,
            temperature=plan.temperature,
            seed=options.seed,
            device=runtime.device,
            dtype=runtime.dtype,
            backend=runtime.backend,
            isa=runtime.isa,
            threads=runtime.threads,
            tiles=TileInfo((grid.tile_width, grid.tile_height), grid.overlap, len(grid.tiles), plan.concurrent),
            environment=runtimes.environment(),
            seconds=seconds or Seconds(),
            peak_memory_bytes=PeakMemory(runtimes.peak_memory(), runtimes.device_peak_memory(runtime.device)),
            warnings=list(picture.warnings),
            input_quality=picture.quality,
            picture=image,
        )


def _enlarged(diffusion: Diffusion, picture: Picture) -> tuple[Image.Image, Image.Image | None]:
    """The enlarged colour, in sRGB, and transparency, in levels."""
    treatment = diffusion.options.alpha
    if picture.alpha is None or treatment == "drop":
        return canvas.enlarge(diffusion, picture.planes, bits=picture.bits), None
    colour = canvas.enlarge(diffusion, bleed_edges(picture.planes, picture.alpha))
    if treatment == "model":
        return colour, canvas.enlarge(diffusion, [picture.alpha])
    return colour, resize_alpha(picture.alpha, diffusion.plan.output_size)
