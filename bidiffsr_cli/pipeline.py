"""SuperResolver: a picture is enlarged by bicubic interpolation, and the diffusion draws what that lacks (`canvas`)."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from . import runtime as runtimes
from .canvas import Diffusion, Network
from .checkpoints.files import Checkpoint
from .checkpoints.models import load_checkpoint
from .configs import PRESET_WORDS, TileConfig, UpscaleOptions
from .errors import DeviceError, UsageError
from .images import Picture, bleed_edges, read_picture, render, resize_alpha
from .planning import Plan
from .results import ModelInfo, PeakMemory, Seconds, TileInfo, UpscaleResult
from .runtime import Runtime, choose_runtime
from .tiling import Grid, make_grid

Progress = Callable[[int, int], None]
"""(windows done, windows in all), over all steps; of a download (bytes here, bytes in all)."""


class SuperResolver:
    """A model that is ready to enlarge pictures.

    Attributes:
        model: Which weights these are.
        config: Network, diffusion, scales and window.
        runtime: Where they run.
        network: Their inference form.
        seconds_to_load: How long it took to get here.

    Example:
        >>> result = SuperResolver.from_pretrained("fast").upscale("photo.jpg", scale=2)
        >>> result.image.save("big.png")
    """

    def __init__(self, checkpoint: Checkpoint, runtime: Runtime | None = None) -> None:
        started = time.perf_counter()
        self.model = ModelInfo(checkpoint.name, checkpoint.revision, checkpoint.sha256)
        self.config = checkpoint.config
        self.runtime = runtime or choose_runtime(**checkpoint.runtime_facts)
        self.network: Network = self.runtime.prepare(checkpoint)
        self.seconds_to_load = time.perf_counter() - started

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = "fast",
        *,
        offline: bool = False,
        on_download: Progress = lambda *_: None,
        **runtime: Any,
    ) -> SuperResolver:
        """Load a model.

        Args:
            model: a name of the catalog, ORG/REPO[@REV][:FILE] on the Hugging Face Hub, or the path of a file.
            offline: never use the network, which a model that is not on this machine needs once.
            on_download: is told (bytes here, bytes in all).
            **runtime: device, precision, backend and threads, as for `choose_runtime`.

        Raises:
            ModelError: there is no such model, it cannot be fetched, or its file is damaged.
            DeviceError: the device is not there.
        """
        started = time.perf_counter()
        checkpoint = load_checkpoint(model, offline=offline, progress=on_download)
        resolver = cls(checkpoint, choose_runtime(**runtime, **checkpoint.runtime_facts))
        runtimes.return_freed_memory()
        resolver.seconds_to_load = time.perf_counter() - started
        return resolver

    def upscale(
        self, image: Any, options: UpscaleOptions | None = None, *, progress: Progress | None = None, **changes: Any
    ) -> UpscaleResult:
        """Enlarge one picture.

        Args:
            image: a path, a PIL image, encoded bytes, an array (H×W or H×W×C) or a `Picture`.
            options: how; see `UpscaleOptions`.
            progress: called whenever a window is done.
            **changes: single options, such as `scale=4`, that replace those of `options`.

        Returns:
            The result, with the picture as a PIL image in `image`.

        Raises:
            InputError: the picture is missing or cannot be read.
            UsageError: an option does not suit this model.
            DeviceError: memory does not suffice.
        """
        started = time.perf_counter()
        options = dataclasses.replace(options or UpscaleOptions(), **changes)

        def check(size: tuple[int, int]) -> None:
            needed = runtimes.resident_memory() + runtimes.BYTES_TO_DECODE * size[0] * size[1]
            runtimes.require_memory(needed, options.max_memory)

        picture = image if isinstance(image, Picture) else read_picture(image, check=check)
        runtimes.return_freed_memory()  # what decoding left behind
        plan = self.plan(picture, options)
        decoded = time.perf_counter()
        with runtimes.out_of_memory_explained(), self.runtime.threads_bound():
            colour, alpha = self._enlarge(picture, plan, options, progress)
            sampled = time.perf_counter()
            runtimes.return_freed_memory()
            enlarged = render(colour, picture, alpha=alpha)
        ended = time.perf_counter()
        seconds = Seconds(
            total=ended - started,
            decode=decoded - started,
            sample=sampled - decoded,
            encode=ended - sampled,
            per_step=(sampled - decoded) / plan.steps,
        )
        return self.describe(picture, plan, options, seconds, enlarged)

    def plan(self, picture: Picture, options: UpscaleOptions) -> Plan:
        """Work out sizes, windows and memory, without computing anything.

        Raises:
            UsageError: the model does not enlarge by that scale, or has no such preset.
            DeviceError: `options.max_memory`, or what is free, does not suffice for a single window.
        """
        steps, diffusion = self.steps_for(options), self.config.diffusion
        width, height = (side * options.scale for side in picture.size)
        grid = self.grid(picture.size, options)
        window = self.runtime.window_memory(self.config.network, grid.tile_height, grid.tile_width)
        canvas = self._canvas_memory(grid, options)
        concurrent, memory = self.runtime.share_memory(canvas, window, len(grid.tiles), options.max_memory)
        temperature = diffusion.temperature if options.temperature is None else options.temperature
        passes = 2 if picture.alpha is not None and options.alpha == "model" else 1
        return Plan((width, height), options.scale, steps, temperature, passes, grid, concurrent, memory)

    def grid(self, size: tuple[int, int], options: UpscaleOptions) -> Grid:
        """The windows of a picture of `size` (width, height), pixels before it is enlarged.

        Raises:
            UsageError: the model cannot have the window that is asked for.
        """
        width, height = (side * options.scale for side in size)
        return make_grid(height, width, self._window(options), self.config.network.multiple_of)

    def is_small(self, size: tuple[int, int], options: UpscaleOptions) -> bool:
        """Whether a picture of `size` is seen whole, through a window that is no larger than the model's own."""
        grid = self.grid(size, options)
        return len(grid.tiles) == 1 and max(grid.tile_width, grid.tile_height) <= self.config.tile.size

    def side_by_side(self, options: UpscaleOptions, most: int) -> list[SuperResolver]:
        """The model for several small pictures at once, each with its share of the threads of a CPU.

        Args:
            options: how they will be enlarged; their `max_memory` limits how many there are.
            most: how many are of use.

        Returns:
            One for each picture, all with the same weights; a single one where several do not pay or fit.
        """
        if self.runtime.kind != "cpu":
            return [self]
        size = self.config.tile.size
        grid = make_grid(size, size, None, self.config.network.multiple_of)
        each = self.runtime.window_memory(self.config.network, size, size) + self._canvas_memory(grid, options)
        try:
            count, _ = self.runtime.share_memory(0, each, most, options.max_memory)
        except DeviceError:
            count = 1
        shares = runtimes.shares(self.runtime.threads, count)
        return [self.elsewhere(dataclasses.replace(self.runtime, threads=threads), self.network) for threads in shares]

    def elsewhere(self, runtime: Runtime, network: Network) -> SuperResolver:
        """The same model with its windows computed in another place; everything else stays in this process.

        Args:
            runtime: of that place: how many windows at once, and what each takes of the memory here.
            network: what computes them; it is called from several threads at once.
        """
        twin = copy.copy(self)
        twin.runtime, twin.network = runtime, network
        return twin

    def steps_for(self, options: UpscaleOptions) -> int:
        """How many steps it will be.

        Raises:
            UsageError: the model does not enlarge by that scale, has no such preset or not so many steps.
        """
        if options.scale not in self.config.scales:
            able = " and ".join(f"x{scale}" for scale in self.config.scales)
            raise UsageError(f"Model {self.model.name!r} does not enlarge x{options.scale}.", f"It enlarges {able}.")
        steps = options.steps or self._steps_of_preset(options.preset)
        if steps > self.config.diffusion.total_steps:
            raise UsageError(f"{steps} steps are not possible.", f"Choose 1 to {self.config.diffusion.total_steps}.")
        return steps

    def seconds_per_window(self, plan: Plan) -> float:
        """Measure how long one window takes, `plan.concurrent` at a time: what an estimate rests on."""
        high, wide, count = plan.grid.tile_height, plan.grid.tile_width, plan.concurrent
        row = Grid(high, count * wide, high, wide, 0)
        size = row.width // plan.scale, row.height // plan.scale
        sample = dataclasses.replace(plan, output_size=(plan.scale * size[0], plan.scale * size[1]), grid=row, steps=1)
        diffusion = Diffusion(self.config.diffusion, self.network, self.runtime, sample, UpscaleOptions())
        started = 0.0
        with self.runtime.threads_bound():
            for _ in range(2):  # the first round warms up
                started = time.perf_counter()
                diffusion.run([Image.new("L", size)] * 3)
        return (time.perf_counter() - started) / count

    def _window(self, options: UpscaleOptions) -> TileConfig | None:
        if options.tile == "off":
            return None
        size = self.config.tile.size if options.tile == "auto" else int(options.tile)
        overlap = min(self.config.tile.overlap, size // 4) if options.tile_overlap is None else options.tile_overlap
        multiple = self.config.network.multiple_of
        if size % multiple or overlap > size // 4:
            raise UsageError(
                f"Tile {size} with overlap {overlap} is not possible with this model.",
                f"The tile must be a multiple of {multiple}, and the overlap at most a quarter of it.",
            )
        return TileConfig(size, overlap)

    def _steps_of_preset(self, preset: str | None) -> int:
        diffusion = self.config.diffusion
        if preset is None:
            return diffusion.default_steps
        name = PRESET_WORDS.get(preset, preset)
        if name not in diffusion.presets:
            raise UsageError(f"Model {self.model.name!r} has no preset {preset!r}.", "Give --steps instead.")
        return diffusion.presets[name]

    def _canvas_memory(self, grid: Grid, options: UpscaleOptions) -> int:
        """Bytes of everything that is as large as the result: canvases, a row of windows, and the finished picture."""
        canvases = 2  # x_t and the prediction
        canvases += options.sampler != "ddim" or options.eta > 0  # fresh noise, or the x_0 before
        canvases += options.color_fix == "lowfreq" and self.runtime.isa is None  # the correction
        pictures = 2 + (options.alpha == "model")  # levels and the image of them; colours wait for the transparency
        return (12 * (canvases * grid.height + 2 * grid.tile_height) + 4 * pictures * grid.height) * grid.width

    def _enlarge(
        self, picture: Picture, plan: Plan, options: UpscaleOptions, progress: Progress | None
    ) -> tuple[Image.Image, Image.Image | None]:
        """The enlarged colour, in sRGB, and transparency, in levels."""
        counter = itertools.count(1)

        def advance() -> None:
            if progress is not None:
                progress(next(counter), plan.evaluations)

        diffusion = Diffusion(self.config.diffusion, self.network, self.runtime, plan, options, advance)
        if picture.alpha is None or options.alpha == "drop":
            return diffusion.run(picture.planes, bits=picture.bits), None
        colour = diffusion.run(bleed_edges(picture.planes, picture.alpha))
        if options.alpha == "model":
            return colour, diffusion.run([picture.alpha])
        return colour, resize_alpha(picture.alpha, plan.output_size)

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
            image=image,
        )
