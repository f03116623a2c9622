"""A picture's diffusion on the native engine is that in torch, window by window and value by value."""

import dataclasses
import threading

import pytest
import torch
from conftest import needs_native
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from bidiffsr_cli.canvas import Diffusion, enlarge, reference, values
from bidiffsr_cli.configs import DiffusionConfig, TileConfig, UpsamplerConfig
from bidiffsr_cli.diffusion.conditioning import condition
from bidiffsr_cli.diffusion.upsampling import Enlarged, upsample_crops
from bidiffsr_cli.errors import BidiffsrError
from bidiffsr_cli.images.pixels import to_image
from bidiffsr_cli.networks.blueprint import upsamplers
from bidiffsr_cli.networks.native_unet import native_upsampler
from bidiffsr_cli.networks.upsampler import DeviceUpsampler, Upsampler
from bidiffsr_cli.ops import Array
from bidiffsr_cli.options import UpscaleOptions
from bidiffsr_cli.planning import Plan
from bidiffsr_cli.runtime import Machine, Runtime, choose_runtime
from bidiffsr_cli.tiling import make_grid

RESIDUAL = DiffusionConfig(
    parameterization="v",
    target="residual",
    schedule="angle",
    condition=("low_res", "detail"),
    condition_range=(-1.0, 1.0),
    input_gain="alpha",
    residual_scale={"2": 0.04, "3": 0.05, "4": 0.07},
    upsample="bicubic_075_clipped",
    spacing="trailing",
    clip=None,
    default_steps=2,
    presets={},
)
CONFIGS = {
    "the authors'": DiffusionConfig(presets={}),
    "residual": RESIDUAL,
    "by detail": dataclasses.replace(RESIDUAL, noise_by_detail=0.03, residual_by_detail=0.002),
    "diagonals": dataclasses.replace(RESIDUAL, residual_by_detail=0.002, diagonal_gain={"2": 0.03, "3": 0.25}),
    "clipped": dataclasses.replace(RESIDUAL, clip=(-0.5, 0.75), input_gain="none"),
    "trained": dataclasses.replace(RESIDUAL, trained_steps=(3,)),  # whose steps are short, and then there is a long one
}


BY_MEAN = dataclasses.replace(RESIDUAL, first_step="mean")


class Formula:
    """A network without signs that could flip; it remembers what it saw, and may do something on the way."""

    def __init__(self, on_window=lambda: None) -> None:
        self.seen, self.on_window = [], on_window

    def __call__(self, x, condition, t, step):
        self.on_window()
        self.seen.append((x.clone(), condition.clone(), int(t[0]), step))
        return 0.3 * x + 0.2 * condition[:, :3] + 0.1 * condition[:, -3:].roll(3, -1)


def diffusion(config, low_res, scale=2, steps=3, tile=None, network=None, threads=1, concurrent=1, **options):
    height, width = (scale * side for side in low_res.shape[1:])
    grid = make_grid(height, width, tile, 8)
    chosen = UpscaleOptions(scale=scale, steps=steps, **options)
    temperature = 1.0 if chosen.temperature is None else chosen.temperature
    plan = Plan((width, height), scale, steps, steps - config.free_steps, temperature, 1, grid, concurrent, 0)
    runtime = choose_runtime(Machine("cpu", "fp32", threads=threads))
    return Diffusion(config, network or Formula(), runtime, plan, chosen)


def in_torch(made: Diffusion) -> Diffusion:
    there = Runtime("cpu", "float32", "reference", None, made.runtime.threads)
    return dataclasses.replace(made, runtime=there, network=Formula())


EITHER = [pytest.param(lambda made: made, id="engine", marks=needs_native), pytest.param(in_torch, id="torch")]


def planes(low_res: torch.Tensor) -> list[Image.Image]:
    return [to_image(plane[None], "F") for plane in low_res]


@needs_native
@pytest.mark.parametrize("name", CONFIGS)
@given(
    size=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    scale=st.sampled_from([2, 3, 4]),
    sampler=st.sampled_from(["ddim", "ddpm", "dpmpp-2m"]),
    eta=st.sampled_from([0.0, 0.7]),
    steps=st.integers(1, 6),
    tile=st.sampled_from([None, TileConfig(32, 8), TileConfig(16, 0)]),
    temperature=st.sampled_from([None, 0.0, 0.8]),
    color_fix=st.sampled_from(["none", "lowfreq"]),
)
def test_windows_and_result_are_those_in_torch(name, size, scale, sampler, eta, steps, tile, temperature, color_fix):
    low_res = torch.rand(3, *size)
    if sampler != "ddim":
        eta = 0.0
    options = {"sampler": sampler, "eta": eta, "temperature": temperature, "color_fix": color_fix}
    here = diffusion(CONFIGS[name], low_res, scale, steps, tile, **options)
    there = in_torch(here)
    result, expected = (values(one, planes(low_res)).tensor() for one in (here, there))
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=2e-4)
    assert len(here.network.seen) == len(there.network.seen)
    for (x, beside, *times), (wanted, known, *expected_times) in zip(
        here.network.seen, there.network.seen, strict=True
    ):
        assert times == expected_times
        torch.testing.assert_close(beside, known, rtol=1e-4, atol=2e-4)
        torch.testing.assert_close(x, wanted, rtol=1e-3, atol=1e-2)  # epsilon divides by a small alpha


def upsampled(made: Diffusion, bias: float | None = None) -> Diffusion:
    """The same with an upsampler of random weights, in the form that suits the place; its last biases may be given."""
    torch.manual_seed(0)
    (plan,) = upsamplers(UpsamplerConfig({str(made.plan.scale): 1}, 5))
    upsampler = Upsampler(plan)
    upsampler.tail.reset_parameters()  # which is all zeros
    if bias is not None:
        torch.nn.init.constant_(upsampler.tail.bias, bias)
    state = {f"upsamplers.{plan.scale}.{name}": x.detach() for name, x in upsampler.state_dict().items()}
    if made.runtime.isa is None:
        return dataclasses.replace(made, upsampler=DeviceUpsampler(plan, state, "cpu"))
    arrays = {name: Array.of(x) for name, x in state.items()}
    return dataclasses.replace(made, upsampler=native_upsampler(plan, arrays, made.runtime.isa))


@needs_native
@pytest.mark.parametrize(
    "config",
    [BY_MEAN, dataclasses.replace(RESIDUAL, upsample="bicubic_075"), CONFIGS["by detail"], CONFIGS["the authors'"]],
    ids=["mean", "not clipped", "by detail", "mirrored"],
)
@pytest.mark.parametrize("size", [(3, 2), (40, 150), (131, 140)], ids=str)
@pytest.mark.parametrize("steps", [1, 3])
def test_an_upsamplers_result_is_what_the_diffusion_adds_to(config, size, steps):
    low_res = torch.rand(3, *size)
    here = diffusion(config, low_res, 2, steps, TileConfig(64, 16), color_fix="lowfreq")
    there = in_torch(here)
    result, expected, without = (
        values(one, planes(low_res)).tensor() for one in (upsampled(here), upsampled(there), in_torch(here))
    )
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=2e-4)
    assert config.target == "image" or float((result - without).abs().max()) > 1e-3
    for (x, beside, *_), (wanted, known, *_) in zip(here.network.seen, there.network.seen, strict=True):
        torch.testing.assert_close(beside, known, rtol=1e-4, atol=2e-4)
        torch.testing.assert_close(x, wanted, rtol=1e-3, atol=1e-2)


@needs_native
def test_threads_do_not_change_what_an_upsampler_makes():
    low_res = torch.rand(3, 140, 150)
    made = diffusion(BY_MEAN, low_res, 2, 2, TileConfig(64, 16))
    several = diffusion(BY_MEAN, low_res, 2, 2, TileConfig(64, 16), threads=3, concurrent=2)
    one, other = (values(upsampled(each), planes(low_res)).tensor() for each in (made, several))
    assert torch.equal(one, other)


@pytest.mark.parametrize("place", EITHER)
@pytest.mark.parametrize("bias", [float("nan"), float("inf")])
@pytest.mark.parametrize("steps", [1, 2])
def test_an_upsampler_that_overflows_is_an_error(place, bias, steps):
    made = upsampled(place(diffusion(BY_MEAN, torch.rand(3, 12, 16), 2, steps)), bias)
    with pytest.raises(BidiffsrError, match="not finite"):
        values(made, planes(torch.rand(3, 12, 16)))


@pytest.mark.parametrize("place", EITHER)
@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpmpp-2m"])
def test_the_mean_takes_the_first_step(place, sampler):
    low_res = torch.rand(3, 12, 16)
    for steps in (1, 3):
        made = place(diffusion(BY_MEAN, low_res, 2, steps, sampler=sampler))
        result = values(made, planes(low_res)).tensor()
        levels = [level.t for level in made.levels[:-1]]
        assert [t for _, _, t, _ in made.network.seen] == levels[1:] and levels[0] == BY_MEAN.total_steps - 1
        if steps == 1:
            expected = upsample_crops(low_res[None], 2, BY_MEAN, None)[0]
            torch.testing.assert_close(result, expected, rtol=0, atol=1e-6)


@needs_native
@given(height=st.integers(20, 40), width=st.integers(20, 40), threads=st.integers(1, 5), concurrent=st.integers(1, 7))
def test_threads_and_windows_at_once_do_not_change_a_byte(height, width, threads, concurrent):
    low_res = torch.rand(3, height, width)
    config, tile = CONFIGS["by detail"], TileConfig(48, 12)
    results = [
        values(diffusion(config, low_res, 4, tile=tile, eta=0.5, threads=count, concurrent=windows), planes(low_res))
        for count, windows in ((1, 1), (threads, concurrent))
    ]
    assert torch.equal(*(result.tensor() for result in results))


@needs_native
def test_windows_are_computed_at_once():
    both = threading.Barrier(2, timeout=60)
    low_res = torch.rand(3, 32, 56)
    network = Formula(on_window=both.wait)
    made = diffusion(RESIDUAL, low_res, tile=TileConfig(64, 16), network=network, threads=2, concurrent=2)
    assert len(made.plan.grid.tiles) % 2 == 0
    enlarge(made, planes(low_res))
    assert len(network.seen) == made.plan.evaluations


@needs_native
@pytest.mark.parametrize("concurrent", [1, 3])
@pytest.mark.parametrize("error", [ValueError("three"), KeyboardInterrupt(), MemoryError()])
def test_what_a_window_raises_ends_it(error, concurrent):
    low_res, looks = torch.rand(3, 64, 64), []

    def fail():
        looks.append(1)
        if len(looks) == 3:
            raise error

    network = Formula(on_window=fail)
    made = diffusion(RESIDUAL, low_res, tile=TileConfig(32, 8), network=network, threads=3, concurrent=concurrent)
    with pytest.raises(type(error)):
        enlarge(made, planes(low_res))
    assert len(looks) < 3 + concurrent < made.plan.evaluations


@needs_native
def test_what_progress_raises_ends_it():
    low_res, done = torch.rand(3, 64, 64), []

    def advance():
        done.append(1)
        if len(done) == 2:
            raise KeyboardInterrupt

    made = dataclasses.replace(diffusion(RESIDUAL, low_res, tile=TileConfig(32, 8)), advance=advance)
    with pytest.raises(KeyboardInterrupt):
        enlarge(made, planes(low_res))
    assert len(done) == 2


@needs_native
def test_progress_counts_every_window_of_every_step():
    low_res, done = torch.rand(3, 40, 40), []
    made = diffusion(RESIDUAL, low_res, tile=TileConfig(32, 8))
    enlarge(dataclasses.replace(made, advance=lambda: done.append(1)), planes(low_res))
    assert len(done) == made.plan.evaluations > 6


@pytest.mark.parametrize("where", EITHER)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(where, value):
    low_res = torch.rand(3, 16, 16)

    def network(x, condition, t, step):
        return torch.full_like(x, value if step > 1000 else 0.0)

    made = where(diffusion(CONFIGS["clipped"], low_res))
    with pytest.raises(BidiffsrError, match="not finite"):
        enlarge(dataclasses.replace(made, network=network), planes(low_res))


@pytest.mark.parametrize("where", EITHER)
@pytest.mark.parametrize(("channels", "bits", "mode"), [(3, 8, "RGB"), (1, 8, "L"), (1, 16, "I;16")])
def test_pictures_are_the_rounded_values(where, channels, bits, mode):
    """Values beyond the range are clamped before; of grey it is the mean of what is drawn."""
    low_res = torch.rand(3, 17, 23)
    made = where(diffusion(RESIDUAL, low_res, scale=3))
    small = planes(low_res)[:channels]
    image, drawn = enlarge(made, small, bits=bits), values(made, small).tensor()
    assert image.mode == mode and image.size == (69, 51) and float(drawn.min()) >= 0 and float(drawn.max()) <= 1
    wanted = (drawn if channels == 3 else drawn.mean(0, keepdim=True)) * (2**bits - 1)
    levels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8 if bits == 8 else torch.uint16).double()
    off = (levels.view(51, 69, channels).permute(2, 0, 1) - wanted).abs()
    assert float(off.max()) <= 0.5 + 1e-2 and len(set(levels.tolist())) > 100


@pytest.mark.parametrize("where", EITHER)
def test_levels_are_read_as_the_floats_that_they_stand_for(where):
    levels = [Image.effect_noise((20, 14), 60) for _ in range(3)]
    floats = [plane.convert("F").point(lambda value: value / 255) for plane in levels]
    made = where(diffusion(CONFIGS["by detail"], torch.rand(3, 14, 20)))
    assert torch.allclose(values(made, levels).tensor(), values(made, floats).tensor(), atol=1e-5)


def test_the_conditions_of_the_canvas_are_those_of_its_windows():
    grid = make_grid(300, 150, TileConfig(64, 16), multiple_of=8)
    up = Enlarged(torch.rand(3, 150, 75), 2, 300, 150, RESIDUAL)
    whole = reference.canvas_condition(up, grid)
    for tile in grid.tiles:
        alone = condition(up.around(tile.top, tile.left, grid.tile_height, grid.tile_width), 2, RESIDUAL)
        torch.testing.assert_close(grid.crop(whole, tile), alone, rtol=1e-5, atol=1e-5)
