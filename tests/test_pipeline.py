"""SuperResolver on real pictures with the bundled model."""

import dataclasses
import itertools
import json
import math
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import get_type_hints

import pytest
import torch
from conftest import needs_native, psnr, to_tensor
from PIL import Image
from safetensors import safe_open

from bidiffsr_cli import SuperResolver, UpscaleOptions, load_checkpoint
from bidiffsr_cli.checkpoints.files import read_pth_checkpoint
from bidiffsr_cli.configs import TileConfig
from bidiffsr_cli.diffusion.conditioning import condition
from bidiffsr_cli.diffusion.samplers import parameterization, sample_ddim
from bidiffsr_cli.diffusion.schedule import NoiseLevel, noise_levels
from bidiffsr_cli.diffusion.upsampling import Enlarged, upsample_crops
from bidiffsr_cli.errors import BidiffsrError, DeviceError, UsageError
from bidiffsr_cli.options import OptionChanges
from bidiffsr_cli.planning import Plan, Planner
from bidiffsr_cli.runtime import Machine, choose_runtime

SMALL_TILE = {"tile": 64, "tile_overlap": 16}
EVERY_SAMPLER = [{"sampler": "ddim"}, {"sampler": "ddpm"}, {"sampler": "dpmpp-2m"}, {"eta": 0.8}]


def luma(image: Image.Image) -> torch.Tensor:
    weights = torch.tensor([65.481, 128.553, 24.966]).view(3, 1, 1) / 255
    return (to_tensor(image) * weights).sum(0) + 16 / 255


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("picture", ["kodak1", "kodak11"])
@pytest.mark.parametrize(
    "runs_on",
    [
        {"backend": "reference"},
        pytest.param({"backend": "native", "precision": "fp32"}, marks=needs_native),
        pytest.param({"backend": "native", "precision": "bf16"}, marks=needs_native),
    ],
    ids=str,
)
def test_recorded_runs_are_reproduced(golden, picture, scale, steps, runs_on):
    """The whole residual-v family, with packed weights, against the float network of another processor."""
    recorded = load_checkpoint(golden / "residual_v_weights.safetensors")
    diffusion = recorded.config.diffusion
    network = choose_runtime(Machine("cpu", **runs_on)).prepare(recorded)
    with safe_open(golden / "residual_v_cases.safetensors", "pt") as cases:
        low_res, start, out = (
            cases.get_tensor(f"{picture}_x{scale}_steps{steps}.{name}") for name in ("low_res", "start", "out")
        )
    up = upsample_crops(low_res.permute(2, 0, 1)[None] / 255, scale, diffusion, None)[0]
    whole = Enlarged(low_res.permute(2, 0, 1) / 255, scale, *up.shape[1:], diffusion)
    seen = condition(whole.around(0, 0, *up.shape[1:]), scale, diffusion)

    def predict(x: torch.Tensor, level: NoiseLevel) -> torch.Tensor:
        return network(level.alpha * x[None], seen[None], torch.tensor([level.t]))[0]

    levels = noise_levels(diffusion, steps)
    with torch.no_grad():
        residual = sample_ddim(predict, start[0].clone(), levels, parameterization(diffusion), eta=0.0, noise=None)
    result = (up + diffusion.residual_scale[str(scale)] * residual).clamp(0, 1)
    assert psnr(result, out[0]) >= 50


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("picture", ["parrot", "houses", "lighthouse"])
def test_the_bundled_model_beats_bicubic(resolver, pictures, picture, scale):
    with Image.open(pictures / f"{picture}.png") as opened:
        truth = opened.convert("RGB")
    low_res = truth.resize((truth.width // scale, truth.height // scale), Image.Resampling.BICUBIC)
    bicubic = low_res.resize(truth.size, Image.Resampling.BICUBIC)
    ours = resolver.upscale(low_res, scale=scale, steps=1).image
    assert psnr(luma(ours), luma(truth)) > psnr(luma(bicubic), luma(truth)) + 0.3


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (7, 100), (53, 31), (64, 64)])
@pytest.mark.parametrize("scale", [2, 4])
def test_the_result_has_exactly_scale_times_the_size(resolver, size, scale):
    picture = Image.linear_gradient("L").resize(size).convert("RGB")
    result = resolver.upscale(picture, scale=scale, steps=2, **SMALL_TILE)
    assert result.image.size == (size[0] * scale, size[1] * scale) == result.output_size


@pytest.mark.slow
@pytest.mark.parametrize("size", [(7, 1000), (1000, 7), (1, 1), (211, 307)])
def test_odd_sizes_with_the_models_own_window(resolver, size):
    picture = Image.linear_gradient("L").resize(size).convert("RGB")
    for scale in (2, 4):
        assert resolver.upscale(picture, scale=scale, steps=2).image.size == (size[0] * scale, size[1] * scale)


@pytest.mark.parametrize(
    ("backend", "options"),
    [
        *(pytest.param("native", options, marks=needs_native) for options in EVERY_SAMPLER),
        *(pytest.param("reference", options, marks=pytest.mark.slow) for options in EVERY_SAMPLER),
    ],
)
def test_threads_and_memory_do_not_change_a_byte(small, backend, options):
    results = []
    for threads in (1, 2, 5):
        resolver = SuperResolver.from_pretrained("fast", device="cpu", threads=threads, backend=backend)
        result = resolver.upscale(small, steps=3, **SMALL_TILE, **options)
        results.append(result.image.tobytes())
        assert result.tiles.count > 2 and result.tiles.concurrent == min(threads, result.tiles.count)
    plan = resolver.planner.plan(picture_of(small), UpscaleOptions(**SMALL_TILE), resolver.runtime)
    tight = resolver.upscale(small, steps=3, max_memory=plan.memory - 1, **SMALL_TILE, **options)
    results.append(tight.image.tobytes())
    assert len(set(results)) == 1


def test_a_run_that_is_left_early_leaves_no_threads(small):
    resolver = SuperResolver.from_pretrained("fast", device="cpu", threads=2)
    before = torch.get_num_threads()

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as kept:
        resolver.upscale(small, steps=3, progress=stop, **SMALL_TILE)
    assert kept.value is not None  # a traceback that is kept must not keep the run alive
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("window", "enlarge"))]
    assert torch.get_num_threads() == before


@needs_native
def test_less_memory_computes_fewer_windows_at_once(small):
    resolver = SuperResolver.from_pretrained("fast", device="cpu", threads=4)
    picture = picture_of(small)
    plenty = resolver.planner.plan(picture, UpscaleOptions(**SMALL_TILE), resolver.runtime)
    assert plenty.concurrent == 4
    less = resolver.planner.plan(picture, UpscaleOptions(max_memory=plenty.memory - 1, **SMALL_TILE), resolver.runtime)
    assert 1 <= less.concurrent < 4 and less.memory < plenty.memory
    with pytest.raises(DeviceError, match="may be used"):
        resolver.planner.plan(picture, UpscaleOptions(max_memory=1_000_000), resolver.runtime)


def picture_of(image: Image.Image):
    from bidiffsr_cli.images import read_picture

    return read_picture(image)


def test_the_window_order_does_not_change_a_byte(resolver, small, monkeypatch):
    expected = resolver.upscale(small, steps=2, **SMALL_TILE).image.tobytes()
    original = Planner.plan

    def backwards(self, picture, options, runtime) -> Plan:
        plan = original(self, picture, options, runtime)
        plan.grid.__dict__["tiles"] = plan.grid.tiles[::-1]
        return plan

    monkeypatch.setattr(Planner, "plan", backwards)
    assert resolver.upscale(small, steps=2, **SMALL_TILE).image.tobytes() == expected


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(resolver, small):
    first = resolver.upscale(small, steps=2, seed=7).image.tobytes()
    assert resolver.upscale(small, steps=2, seed=7).image.tobytes() == first
    assert resolver.upscale(small, steps=2, seed=8).image.tobytes() != first
    assert resolver.upscale(small, steps=2, seed=7, temperature=0.3).image.tobytes() != first


def test_without_start_noise_the_seed_does_not_matter(resolver, small):
    results = {resolver.upscale(small, steps=2, temperature=0.0, seed=seed).image.tobytes() for seed in (0, 1)}
    assert len(results) == 1


@pytest.mark.parametrize("options", [{"sampler": "ddim"}, {"sampler": "ddpm"}, {"eta": 0.8}], ids=str)
@pytest.mark.parametrize("scale", [2, 4])
def test_noise_by_detail_draws_nothing_where_it_is_flat(fast, small, scale, options):
    diffusion = dataclasses.replace(fast.config.diffusion, noise_by_detail=0.03)
    config = dataclasses.replace(fast.config, diffusion=diffusion)
    resolver = SuperResolver(dataclasses.replace(fast, config=config), choose_runtime(Machine("cpu", threads=1)))
    resolver.network = Replaced(lambda x, condition: torch.zeros_like(x))  # noise stays where it is
    picture = Image.new("RGB", (64, 64), (200, 120, 30))
    picture.paste(small, (0, 0))
    one, two = (to_tensor(resolver.upscale(picture, scale=scale, steps=2, seed=n, **options).image) for n in (0, 1))
    reach = 9 * scale  # of the bicubic, of the detail and of the deviation
    different = (one != two).any(0)
    assert different[: 40 * scale - reach, : 48 * scale - reach].float().mean() > 0.9
    assert not different[40 * scale + reach :].any() and not different[:, 48 * scale + reach :].any()


COLOURS = {
    "black": (0, 0, 0), "white": (255, 255, 255), "grey": (128, 128, 128), "dark": (41, 40, 39), "red": (255, 0, 0),
    "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0), "cyan": (0, 255, 255), "skin": (224, 180, 158),
}  # fmt: skip


@pytest.fixture(scope="module")
def by_detail(fast):
    """The bundled model, which has noise and residual by detail."""
    assert fast.config.diffusion.noise_by_detail and fast.config.diffusion.residual_by_detail
    return SuperResolver(fast, choose_runtime(Machine("cpu")))


@pytest.mark.parametrize("preset", ["fast", "balanced", "best"])  # the old word
@pytest.mark.parametrize("scale", [2, 4])
def test_flat_stays_flat(by_detail, scale, preset):
    """Where a network alone leaves its borders and patterns; windows that see an edge and others agree."""
    for name, colour in COLOURS.items():
        enlarged = to_tensor(by_detail.upscale(Image.new("RGB", (40, 24), colour), scale=scale, preset=preset).image)
        levels = (enlarged * 255).round() - torch.tensor(colour).view(3, 1, 1)
        assert levels.abs().max() <= 1, name
    tiled = by_detail.upscale(Image.new("RGB", (64, 64), COLOURS["skin"]), scale=scale, preset=preset, **SMALL_TILE)
    assert all(low == high for low, high in tiled.image.getextrema())


@pytest.mark.parametrize("preset", ["faithful", "balanced", "best"])
@pytest.mark.parametrize("scale", [2, 4])
def test_a_gradient_stays_smooth(by_detail, scale, preset):
    low_res = (gradient(64, 64) * 255).round() / 255
    up = upsample_crops(low_res[None], scale, by_detail.config.diffusion, None)[0]
    added = to_tensor(by_detail.upscale(low_res, scale=scale, preset=preset).image) - up
    beyond_rounding = (float(added.std()) * 255) ** 2 - 1 / 12  # what rounding to levels alone makes
    assert beyond_rounding < 0.5**2


@pytest.mark.parametrize("options", [{}, {"sampler": "ddpm"}, {"eta": 0.8}], ids=str)
def test_by_detail_threads_and_memory_do_not_change_a_byte(by_detail, small, options):
    results = set()
    for threads in (1, 3):
        runtime = dataclasses.replace(by_detail.runtime, threads=threads)
        resolver = by_detail.elsewhere(runtime)
        results.add(resolver.upscale(small, scale=4, steps=2, **SMALL_TILE, **options).image.tobytes())
    plan = resolver.planner.plan(picture_of(small), UpscaleOptions(scale=4, **SMALL_TILE), resolver.runtime)
    tight = resolver.upscale(small, scale=4, steps=2, max_memory=plan.memory - 1, **SMALL_TILE, **options)
    assert results == {tight.image.tobytes()}


def test_one_step_is_plain_regression(resolver, small):
    """The input gain hides the start noise from the network, and cos(pi/2) = 0 the noise from the result."""
    assert len({resolver.upscale(small, steps=1, seed=seed).image.tobytes() for seed in (0, 1)}) == 1


class Replaced(torch.nn.Module):
    """A network that is a formula."""

    def __init__(self, formula) -> None:
        super().__init__()
        self.formula = formula

    def forward(self, x, condition, t, step):
        return self.formula(x, condition)


@pytest.mark.parametrize(("steps", "temperature"), [(1, 1.0), (1, 0.0), (2, 0.0), (5, 0.0)])
@pytest.mark.parametrize("scale", [2, 4])
def test_a_zero_network_returns_the_bicubic_picture(small, steps, temperature, scale):
    resolver = SuperResolver.from_pretrained("fast", device="cpu")
    resolver.network, resolver.upsamplers = Replaced(lambda x, condition: torch.zeros_like(x)), {}
    result = resolver.upscale(small, scale=scale, steps=steps, temperature=temperature, **SMALL_TILE)
    up = upsample_crops(to_tensor(small)[None], scale, resolver.config.diffusion, None)[0]
    assert (to_tensor(result.image) - up).abs().max() * 255 < 0.5001  # rounded, and a half either way


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_network_that_overflows_is_an_error_and_not_a_black_picture(small, value):
    resolver = SuperResolver.from_pretrained("fast", device="cpu")
    resolver.network = Replaced(lambda x, condition: torch.where(torch.arange(x.shape[-1]) == 9, value, x))
    with pytest.raises(BidiffsrError, match="not finite"):
        resolver.upscale(small, steps=2)


def gradient(width: int, height: int) -> torch.Tensor:
    """A flat slope from left to right and from top to bottom, 3×height×width."""
    across, down = torch.linspace(0.0, 0.4, width), torch.linspace(0.0, 0.2, height)
    return (0.2 + across + down[:, None]).expand(3, -1, -1).contiguous()


def largest_jump(image: Image.Image, axis: int) -> float:
    """The largest difference between neighbouring columns (or rows) of a slope, averaged along them, in levels."""
    profile = to_tensor(image).mean(0).mean(1 - axis) * 255
    return float((profile.diff() - profile.diff().mean()).abs().max())


@pytest.mark.parametrize("color_fix", ["none", "lowfreq"])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpmpp-2m"])
def test_a_step_by_the_mean_is_up_whatever_the_noise(resolver, small, sampler, color_fix):
    assert resolver.config.diffusion.free_steps == 1
    options = {"steps": 1, "sampler": sampler, "color_fix": color_fix}
    one, other = (resolver.upscale(small, seed=seed, **options).image for seed in (0, 1))
    assert one.tobytes() == other.tobytes()
    assert len(one.getcolors(one.width * one.height)) > 100
    plain = resolver.upscale(small, **options, temperature=0.0).image
    assert one.tobytes() == plain.tobytes()
    if color_fix == "none":
        low_res = to_tensor(small)
        up = Enlarged(low_res, 2, 2 * small.height, 2 * small.width, resolver.config.diffusion, resolver.upsamplers[2])
        expected = up.crop(0, 0, 2 * small.height, 2 * small.width)
        assert (to_tensor(one) - expected).abs().max() <= 0.51 / 255


def test_windows_that_disagree_give_way_smoothly(fast):
    """Where neighbours differ by d, the steepest step is that of a raised cosine, pi/2 d/overlap, and not d."""
    diffusion = dataclasses.replace(fast.config.diffusion, residual_by_detail=None)  # else flat stays flat
    config = dataclasses.replace(fast.config, diffusion=diffusion)
    resolver = SuperResolver(dataclasses.replace(fast, config=config), choose_runtime(Machine("cpu", threads=1)))
    calls = itertools.count()
    resolver.network = Replaced(lambda x, condition: torch.full_like(x, 3.0 * (next(calls) % 2)))
    resolver.upsamplers, overlap = {}, 32
    flat = torch.full((3, 64, 160), 0.5)
    result = resolver.upscale(flat, steps=1 + diffusion.free_steps, tile=128, tile_overlap=overlap)
    assert result.tiles.count == 3
    levels = to_tensor(result.image).mean(0).mul(255)
    d, jump = float(levels.max() - levels.min()), float(levels.diff(dim=1).abs().max())
    assert d > 15 and jump <= math.pi / 2 * d / overlap + 1


@pytest.mark.slow
@pytest.mark.parametrize("steps", [2, 5])
def test_no_seam_on_a_flat_gradient(resolver, steps):
    """Several of the model's own windows are as smooth as a single one is, across and down."""
    single = resolver.upscale(gradient(256, 256), steps=steps)
    several = resolver.upscale(gradient(400, 400), steps=steps)
    assert single.tiles.count == 1 and several.tiles.count == 4
    for axis in (0, 1):
        assert largest_jump(several.image, axis) <= largest_jump(single.image, axis) + 0.5


def test_windows_agree_with_the_whole_picture(resolver, pictures):
    with Image.open(pictures / "houses.png") as opened:
        low_res = opened.convert("RGB").resize((128, 128), Image.Resampling.BICUBIC)
    whole = resolver.upscale(low_res, steps=2, tile="off").image
    tiled = resolver.upscale(low_res, steps=2, tile=128, tile_overlap=32).image
    assert psnr(to_tensor(tiled), to_tensor(whole)) > 30  # signs that tip add up where texture is drawn


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 2])
@needs_native
def test_4096x4096_takes_less_than_a_gigabyte(tmp_path, steps):
    """The whole command in a fresh process, reading and writing included; later steps need what the second needs."""
    Image.linear_gradient("L").resize((2048, 2048)).convert("RGB").save(tmp_path / "in.png")
    command = [sys.executable, "-m", "bidiffsr_cli", "upscale", "in.png", "out.png", "--threads", "2", "--json"]
    done = subprocess.run([*command, "--steps", str(steps)], capture_output=True, check=True, cwd=tmp_path)
    report = json.loads(done.stdout)
    assert report["output_size"] == [4096, 4096]
    assert report["peak_memory_bytes"]["host"] < 1_000_000_000


def test_transparency(resolver):
    picture = Image.new("RGBA", (24, 24), (200, 30, 30, 0))
    picture.paste((200, 30, 30, 255), (6, 6, 18, 18))
    kept = resolver.upscale(picture, steps=1).image
    modelled = resolver.upscale(picture, steps=1, alpha="model").image
    dropped = resolver.upscale(picture, steps=1, alpha="drop").image
    assert kept.mode == modelled.mode == "RGBA" and dropped.mode == "RGB"
    assert kept.getpixel((24, 24))[3] == modelled.getpixel((24, 24))[3] == 255
    assert kept.getpixel((0, 0))[3] == 0 and modelled.getpixel((2, 2))[3] < 10


def test_grey_stays_grey_and_sixteen_bits_stay_sixteen(resolver):
    assert resolver.upscale(Image.linear_gradient("L").resize((16, 16)), steps=1).image.mode == "L"
    deep = Image.new("I;16", (8, 8), 30000)
    result = resolver.upscale(deep, steps=1).image
    assert result.mode == "I;16" and abs(result.getpixel((8, 8)) - 30000) < 600


def test_color_fix_brings_the_low_frequencies_closer(small):
    resolver = SuperResolver.from_pretrained("fast", device="cpu")
    resolver.network = Replaced(lambda x, condition: torch.full_like(x, -1.0))  # a drift of colour

    def drift(image: Image.Image) -> float:
        return float((to_tensor(image).mean((1, 2)) - to_tensor(small).mean((1, 2))).abs().max())

    assert drift(resolver.upscale(small, steps=2, temperature=0.0).image) > 0.01
    assert drift(resolver.upscale(small, steps=2, temperature=0.0, color_fix="lowfreq").image) < 0.002


def test_anything_that_is_a_picture_can_be_given(resolver, small, tmp_path):
    small.save(tmp_path / "small.png")
    expected = resolver.upscale(small, steps=1).image.tobytes()
    for image in (
        tmp_path / "small.png",
        str(tmp_path / "small.png"),
        (tmp_path / "small.png").read_bytes(),
        to_tensor(small),
        to_tensor(small)[None],
    ):
        assert resolver.upscale(image, steps=1).image.tobytes() == expected


def test_the_result_is_a_picture_a_tensor_and_an_array(resolver, small):
    result = resolver.upscale(small, steps=1)
    assert result.tensor.shape == (3, 80, 96) and torch.equal(result.tensor, to_tensor(result.image))
    numpy = pytest.importorskip("numpy")
    assert result.array.shape == (80, 96, 3) and result.array.tobytes() == result.image.tobytes()
    assert resolver.upscale(result.array[:20, :20], steps=1).output_size == (40, 40)
    deep = resolver.upscale(numpy.full((8, 9), 30000, "uint16"), steps=1)
    assert deep.array.dtype == numpy.uint16 and torch.allclose(
        deep.tensor[0], torch.from_numpy(deep.array / 65535).float()
    )


def test_results_and_models_say_what_they_are(resolver, small):
    result = resolver.upscale(small, steps=2)
    assert re.fullmatch(
        r"<UpscaleResult 48×40 -> 96×80: fast, 2 steps of ddim, on cpu, done in \d+\.\d\d s>", repr(result)
    )
    assert re.fullmatch(r"<SuperResolver fast: cpu, \d+ threads?, (native \w+|reference), (fp32|bf16)>", repr(resolver))
    result.picture = None
    with pytest.raises(UsageError, match="no picture"):
        result.image.save("never.png")


def test_an_unknown_option_is_named(resolver, small):
    with pytest.raises(UsageError, match="no option 'scael'") as caught:
        resolver.upscale(small, scael=2)
    assert caught.value.hint == "Did you mean scale?"
    with pytest.raises(UsageError, match="no option 'zzz'"):
        UpscaleOptions().changed(zzz=1)


def test_options_and_their_changes_have_the_same_types():
    assert get_type_hints(OptionChanges) == get_type_hints(UpscaleOptions)


def test_a_checkpoint_of_the_authors_runs_the_whole_upstream_diffusion(golden, small):
    checkpoint = read_pth_checkpoint(golden / "tiny_official_format.pth", scales=(2,))
    config = dataclasses.replace(checkpoint.config, tile=TileConfig(64, 16))
    resolver = SuperResolver(dataclasses.replace(checkpoint, config=config), choose_runtime(Machine("cpu")))
    result = resolver.upscale(small, preset="fast", sampler="ddpm")
    assert result.image.size == (96, 80) and result.steps == 10


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"scale": 3}, "does not enlarge x3"),
        ({"steps": 2001}, "2001 steps are not possible"),
        ({"tile": 100}, "Tile 100"),
        ({"tile": 64, "tile_overlap": 40}, "overlap 40"),
    ],
)
def test_what_the_model_cannot_do_is_a_usage_error(resolver, small, options, sentence):
    with pytest.raises(UsageError, match=sentence) as caught:
        resolver.upscale(small, **options)
    assert caught.value.hint


def test_progress_counts_every_window_of_every_step(resolver, small):
    seen = []
    resolver.upscale(small, steps=3, progress=lambda done, total: seen.append((done, total)), **SMALL_TILE)
    total, asked = seen[0][1], 3 - resolver.config.diffusion.free_steps
    assert seen == [(index + 1, total) for index in range(total)] and total % asked == 0 and total > asked


def test_progress_counts_both_passes_of_a_modelled_transparency(resolver):
    seen = []
    picture = Image.new("RGBA", (16, 16), (9, 9, 9, 99))
    steps = 2 + resolver.config.diffusion.free_steps
    resolver.upscale(picture, steps=steps, alpha="model", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_the_models_overlap_yields_to_a_small_window(resolver, small):
    assert resolver.upscale(small, steps=1, tile=64).tiles.overlap == 16


def test_the_result_says_what_was_done(resolver, small):
    result = resolver.upscale(small, preset="balanced", seed=3)
    plain = result.to_dict()
    assert plain["schema"] == "bidiffsr/1" and "image" not in plain
    assert plain["steps"] == 2 and plain["seed"] == 3 and plain["sampler"] == "ddim"
    assert plain["model"]["sha256"] == load_checkpoint("fast").sha256
    assert plain["input_size"] == (48, 40) and plain["output_size"] == (96, 80)
    assert plain["seconds"]["total"] >= plain["seconds"]["sample"] > 0
    assert plain["peak_memory_bytes"]["host"] > 50_000_000


@pytest.mark.parametrize("precision", [pytest.param("bf16", marks=needs_native), "fp16"])
def test_reduced_precision_stays_close(resolver, small, precision):
    expected = to_tensor(resolver.upscale(small, steps=2).image)
    reduced = SuperResolver.from_pretrained("fast", device="cpu", precision=precision)
    assert psnr(to_tensor(reduced.upscale(small, steps=2).image), expected) > 38


def test_the_package_imports_without_torch():
    code = "import sys, bidiffsr_cli; assert 'torch' not in sys.modules; print(bidiffsr_cli.__version__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path("/"))
    assert done.stdout.strip()
