"""What enlarging one picture will take: steps, windows and memory. It needs a model's config, not its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .configs import PRESET_WORDS, ModelConfig, TileConfig
from .errors import DeviceError, UsageError
from .images import Picture
from .options import UpscaleOptions
from .runtime import Runtime, shares
from .text import scales_in_words
from .tiling import Grid, make_grid


@dataclass(frozen=True)
class Plan:
    """What enlarging one picture will take.

    Attributes:
        output_size: (width, height) of the result.
        scale, steps, temperature: as they will be used.
        network_steps: how many of the steps ask the network.
        passes: 2 where the model enlarges transparency too, else 1.
        grid: the windows.
        concurrent: how many windows are computed at once.
        memory: about how many bytes the process will have resident at the peak.
    """

    output_size: tuple[int, int]
    scale: int
    steps: int
    network_steps: int
    temperature: float
    passes: int
    grid: Grid
    concurrent: int
    memory: int

    @property
    def evaluations(self) -> int:
        """How often the network looks at a window."""
        return self.passes * self.network_steps * len(self.grid.tiles)

    def step_after(self, done: int) -> int:
        """Which step is under way when so many of the evaluations are done: 1 to passes · steps."""
        if not self.network_steps:
            return self.passes * self.steps
        passed, in_pass = divmod(done, self.network_steps * len(self.grid.tiles))
        step = self.steps - self.network_steps + in_pass // len(self.grid.tiles) + 1
        return min(passed * self.steps + step, self.passes * self.steps)


@dataclass(frozen=True)
class Planner:
    """Plans for one model.

    Attributes:
        name: of the model, as errors call it.
        config: its network, diffusion, scales and window.
    """

    name: str
    config: ModelConfig

    def plan(self, picture: Picture, options: UpscaleOptions, runtime: Runtime) -> Plan:
        """Work out steps, windows and memory, without computing anything.

        Args:
            picture: what is to be enlarged.
            options: how.
            runtime: where.

        Raises:
            UsageError: the model cannot do what `options` ask for.
            DeviceError: `options.max_memory`, or what is free, does not suffice for a single window.
        """
        steps, grid = self.steps(options), self.grid(picture.size, options)
        width, height = (side * options.scale for side in picture.size)
        window = runtime.window_memory(self.config.network, grid.tile_height, grid.tile_width)
        canvas = self._canvas_memory(grid, options, runtime)
        concurrent, memory = runtime.share_memory(canvas, window, len(grid.tiles), options.max_memory)
        temperature = self.config.diffusion.temperature if options.temperature is None else options.temperature
        passes = 2 if picture.alpha is not None and options.alpha == "model" else 1
        asked = steps - self.config.diffusion.free_steps
        return Plan((width, height), options.scale, steps, asked, temperature, passes, grid, concurrent, memory)

    def check(self, options: UpscaleOptions) -> None:
        """Raise UsageError if the model cannot do what `options` ask for, whatever the picture."""
        self.steps(options)
        self.grid((1, 1), options)

    def steps(self, options: UpscaleOptions) -> int:
        """How many steps it will be.

        Raises:
            UsageError: the model does not enlarge by that scale, has no such preset or not so many steps.
        """
        if options.scale not in self.config.scales:
            able = scales_in_words(self.config.scales)
            raise UsageError(f"Model {self.name!r} does not enlarge x{options.scale}.", f"It enlarges {able}.")
        diffusion = self.config.diffusion
        steps = options.steps or diffusion.default_steps
        if options.preset is not None:
            preset = PRESET_WORDS.get(options.preset, options.preset)
            if preset not in diffusion.presets:
                raise UsageError(f"Model {self.name!r} has no preset {options.preset!r}.", "Give --steps instead.")
            steps = diffusion.presets[preset]
        if steps > diffusion.total_steps:
            raise UsageError(f"{steps} steps are not possible.", f"Choose 1 to {diffusion.total_steps}.")
        return steps

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

    def side_by_side(self, options: UpscaleOptions, runtime: Runtime, most: int) -> Sequence[Runtime]:
        """Where several small pictures can be enlarged at once: parts of a CPU, each with its share of the threads.

        Args:
            options: how they will be enlarged; their `max_memory` limits how many there are.
            runtime: the whole.
            most: how many are of use.

        Returns:
            One for each picture; the whole alone where several do not pay or fit.
        """
        if runtime.kind != "cpu":
            return [runtime]
        size = self.config.tile.size
        grid = make_grid(size, size, None, self.config.network.multiple_of)
        each = runtime.window_memory(self.config.network, size, size) + self._canvas_memory(grid, options, runtime)
        try:
            count, _ = runtime.share_memory(0, each, most, options.max_memory)
        except DeviceError:
            count = 1
        return [replace(runtime, threads=threads) for threads in shares(runtime.threads, count)]

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

    def _canvas_memory(self, grid: Grid, options: UpscaleOptions, runtime: Runtime) -> int:
        """Bytes of everything that is as large as the result: canvases, a row of windows, and the finished picture."""
        drawn = self.steps(options) > self.config.diffusion.free_steps
        canvases = 2 if drawn else 0  # x_t and the prediction
        canvases += self.config.network.upsampler is not None  # what it made
        canvases += drawn and (options.sampler != "ddim" or options.eta > 0)  # fresh noise, or the x_0 before
        canvases += runtime.isa is None and not drawn  # zeros
        canvases += options.color_fix == "lowfreq" and (runtime.isa is None or not drawn)  # the correction
        pictures = 2 + (options.alpha == "model")  # levels and the image of them; colours wait for the transparency
        return (12 * (canvases * grid.height + 2 * grid.tile_height) + 4 * pictures * grid.height) * grid.width
