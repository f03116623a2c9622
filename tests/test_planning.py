"""What a picture will take is known before any weights are."""

from dataclasses import replace

import pytest
from conftest import needs_native

from bidiffsr_cli.checkpoints.header import read_header
from bidiffsr_cli.checkpoints.models import find_model
from bidiffsr_cli.configs import UpsamplerConfig
from bidiffsr_cli.errors import UsageError
from bidiffsr_cli.images import read_picture
from bidiffsr_cli.options import UpscaleOptions
from bidiffsr_cli.planning import Planner
from bidiffsr_cli.runtime import Machine, choose_runtime


@pytest.fixture(scope="module")
def planner():
    return Planner("fast", read_header(find_model("fast").local_path()).config)


@needs_native
def test_a_plan_of_a_picture_that_is_seen_through_several_windows(planner, small):
    runtime = choose_runtime(Machine("cpu", threads=2))
    options = UpscaleOptions(scale=4, steps=3, tile=64, tile_overlap=16)
    plan = planner.plan(read_picture(small), options, runtime)
    assert plan.output_size == (4 * small.width, 4 * small.height)
    assert (plan.scale, plan.steps, plan.passes, plan.concurrent) == (4, 3, 1, 2)
    asked = 3 - planner.config.diffusion.free_steps
    assert plan.evaluations == asked * len(plan.grid.tiles) and len(plan.grid.tiles) > 4
    assert plan.grid == planner.grid(small.size, options)
    clear = small.convert("RGBA")
    clear.putalpha(99)
    twice = planner.plan(read_picture(clear), UpscaleOptions(steps=3, alpha="model"), runtime)
    assert twice.passes == 2


def test_free_steps_ask_no_network(planner, small):
    upsampler = UpsamplerConfig({"2": 1, "4": 1})
    network = replace(planner.config.network, upsampler=upsampler)
    diffusion = replace(planner.config.diffusion, first_step="mean")
    by_mean = Planner("", replace(planner.config, network=network, diffusion=diffusion))
    runtime = choose_runtime(Machine("cpu", threads=1))
    clear = small.convert("RGBA")
    clear.putalpha(99)
    options = UpscaleOptions(steps=3, tile=64, tile_overlap=16, alpha="model")
    plan = by_mean.plan(read_picture(clear), options, runtime)
    windows = len(plan.grid.tiles)
    assert (plan.steps, plan.network_steps, plan.evaluations) == (3, 2, 2 * 2 * windows) and windows > 1
    steps = [plan.step_after(done) for done in range(plan.evaluations + 1)]
    assert steps == [2] * windows + [3] * windows + [5] * windows + [6] * windows + [6]
    at_once = by_mean.plan(read_picture(clear), replace(options, steps=1), runtime)
    assert at_once.evaluations == 0 and at_once.step_after(0) == 2
    drawn = by_mean.plan(read_picture(clear), replace(options, steps=2), runtime)
    assert drawn.memory - at_once.memory >= 12 * plan.grid.height * plan.grid.width  # neither noise nor predictions


def test_small_is_what_the_models_own_window_holds(planner):
    size = planner.config.tile.size // 2
    assert planner.is_small((size, size), UpscaleOptions())
    assert not planner.is_small((size + 1, size), UpscaleOptions())
    assert not planner.is_small((size, size), UpscaleOptions(tile=64))
    assert not planner.is_small((4 * size, size), UpscaleOptions(tile="off"))


def test_steps_are_those_asked_for_of_the_preset_or_of_the_model(planner):
    diffusion = planner.config.diffusion
    assert planner.steps(UpscaleOptions(steps=7)) == 7
    assert planner.steps(UpscaleOptions(preset="best")) == diffusion.presets["best"]
    assert planner.steps(UpscaleOptions()) == diffusion.default_steps
    with pytest.raises(UsageError, match="'fast' does not enlarge x3"):
        planner.steps(UpscaleOptions(scale=3))
