"""Configs: what travels in a file's header is read back exactly, or refused."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidiffsr_cli.configs import DiffusionConfig, ModelConfig, TileConfig, UNetConfig, UpsamplerConfig
from bidiffsr_cli.errors import CheckpointError, UsageError
from bidiffsr_cli.options import UpscaleOptions

RESIDUAL = DiffusionConfig(
    parameterization="v",
    target="residual",
    schedule="angle",
    condition=("low_res", "detail"),
    condition_range=(-1.0, 1.0),
    input_gain="alpha",
    residual_scale={"2": 0.04, "4": 0.07},
    upsample="bicubic_075_clipped",
    spacing="trailing",
    clip=None,
    default_steps=5,
)
MODELS = [
    ModelConfig(UNetConfig(), DiffusionConfig(), (2,)),
    ModelConfig(UNetConfig(pixel_unshuffle=2), RESIDUAL, (2, 4), TileConfig(512, 48)),
    ModelConfig(UNetConfig(), dataclasses.replace(RESIDUAL, noise_by_detail=0.03, diagonal_gain={"4": 0.03}), (2, 4)),
    ModelConfig(UNetConfig(), dataclasses.replace(RESIDUAL, trained_steps=(2, 4)), (2,)),
    ModelConfig(
        UNetConfig(upsampler=UpsamplerConfig({"2": 3})), dataclasses.replace(RESIDUAL, first_step="mean"), (2,)
    ),
]


@pytest.mark.parametrize("config", MODELS)
def test_json_round_trip(config):
    assert ModelConfig.from_json(config.to_json()) == config


def test_fields_that_are_left_out_have_their_defaults():
    assert ModelConfig.from_json('{"network": {}, "diffusion": {}, "scales": [2]}') == MODELS[0]


def paths(value, prefix=()):
    """Every place in parsed JSON."""
    yield prefix
    if isinstance(value, dict):
        for name, item in value.items():
            yield from paths(item, (*prefix, name))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_a_config_with_any_field_replaced_is_sound_or_refused(data):
    value = json.loads(MODELS[1].to_json())
    place = data.draw(st.sampled_from(list(paths(value))[1:]))
    inside = value
    for name in place[:-1]:
        inside = inside[name]
    inside[place[-1]] = data.draw(json_values)
    try:
        config = ModelConfig.from_json(json.dumps(value))
    except CheckpointError:
        return
    assert ModelConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("text", ["", "[]", "null", "1", '{"network": []}', "[" * 100_000])
def test_what_is_no_config_is_refused(text):
    with pytest.raises(CheckpointError):
        ModelConfig.from_json(text)


@pytest.mark.parametrize(
    "change",
    [
        {"norm_groups": 24},  # does not divide the channels
        {"inner_channel": 63, "norm_groups": 3},
        {"inner_channel": 10**9},
        {"channel_mults": (1, 3)},
        {"channel_mults": ()},
        {"full_precision_levels": (4,)},
        {"fusion": "sum"},
        {"tar_groups": 0},
        {"res_blocks": 10**6},
    ],
    ids=str,
)
def test_impossible_networks_are_refused(change):
    with pytest.raises(CheckpointError, match=next(iter(change))):
        UNetConfig(**change)


@pytest.mark.parametrize("blocks", [{}, {"two": 1}, {"02": 1}, {"٢": 1}, {"17": 1}, {"2": -1}, {"2": 65}], ids=str)
def test_impossible_upsamplers_are_refused(blocks):
    with pytest.raises(CheckpointError, match="blocks"):
        UpsamplerConfig(blocks)


def test_an_upsampler_has_all_scales():
    network = UNetConfig(upsampler=UpsamplerConfig({"2": 1}))
    assert ModelConfig(network, DiffusionConfig(), (2,)).network.upsampler == network.upsampler
    with pytest.raises(CheckpointError, match="scales"):
        ModelConfig(network, DiffusionConfig(), (2, 4))


@pytest.mark.parametrize(
    "change",
    [
        {"residual_scale": None},
        {"residual_scale": {"two": 0.1}},
        {"residual_scale": {"2": 0.0}},
        {"condition": ("detail",)},
        {"clip": (1.0, -1.0)},
        {"default_steps": 2001},
        {"trained_steps": (0, 2)},
        {"trained_steps": (1,)},  # whose only level is pure noise
        {"trained_steps": (2, 2001)},
        {"trained_steps": (2, 4.0)},
        {"trained_steps": (True, 2)},
        {"trained_steps": ("a",)},
        {"trained_steps": (4, 2)},
        {"trained_steps": (2, 2)},
        {"trained_steps": [2, 4]},
        {"trained_steps": (2, 4), "schedule": "linear"},
        {"trained_steps": (2, 4), "spacing": "leading"},
        {"presets": {"ultra": 3}},
        {"noise_by_detail": 0.0},
        {"noise_by_detail": 2.0},
        {"diagonal_gain": {"3": 0.1}},  # of no scale
        {"diagonal_gain": {"2": 0.3}},
        {"diagonal_gain": {"2": 0.1}, "target": "image"},
        {"residual_by_detail": 0.0},
        {"residual_by_detail": 0.1, "target": "image"},
        {"parameterization": "epsilon"},  # divides by alpha = 0 at the noisy end
        {"first_step": "mean", "spacing": "leading"},  # begins before pure noise
        {"first_step": "mean", "target": "image", "residual_by_detail": None},
    ],
    ids=str,
)
def test_impossible_diffusions_are_refused(change):
    with pytest.raises(CheckpointError, match=next(iter(change))):
        dataclasses.replace(RESIDUAL, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 0},
        {"steps": -1},
        {"preset": "ultra"},
        {"sampler": "euler"},
        {"eta": 1.5},
        {"temperature": -0.1},
        {"seed": -1},
        {"tile": 8},
        {"tile": "big"},
        {"tile_overlap": -1},
        {"alpha": "keep"},
        {"color_fix": "wavelet"},
    ],
    ids=str,
)
def test_impossible_options_are_usage_errors_with_a_hint(change):
    with pytest.raises(UsageError) as caught:
        UpscaleOptions(**change)
    assert caught.value.hint and caught.value.exit_code == 2
