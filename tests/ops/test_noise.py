"""Noise by seed, draw and place: known answers, its distribution, and the engine's, to the last bit."""

import pytest
import torch
from conftest import needs_native
from hypothesis import given
from hypothesis import strategies as st

from bidiffsr_cli.ops import native, reference

ANSWERS = [
    ((0, 0, 0, 0), 0, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((2**32 - 1,) * 4, 2**64 - 1, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), 0x299F31D0A4093822, "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
"""Of Philox 4x32-10, from Random123's own tests."""


@pytest.mark.parametrize(("counter", "key", "expected"), ANSWERS)
def test_known_answers_of_philox(counter, key, expected):
    words = reference._philox([torch.tensor([word]) for word in counter], key)
    assert " ".join(f"{int(word):08x}" for word in words) == expected


def test_known_values():
    """Recorded when this noise was made: a seed's picture depends on them."""
    field = reference.noise(3, 4, 1234, draw=2)
    assert field[:, 0, 0].tolist() == GOLDEN[0] and field[:, 2, 3].tolist() == GOLDEN[1]


GOLDEN = [
    [0.3310563564300537, -1.0526235103607178, 0.8560449481010437],
    [1.8669486045837402, -0.7160544991493225, -0.43441975116729736],
]


@needs_native
@given(st.integers(1, 150), st.integers(1, 150), st.integers(0, 2**70), st.integers(0, 50), st.integers(1, 4))
def test_the_engine_draws_the_same(height, width, seed, draw, threads):
    assert torch.equal(native.noise(height, width, seed, draw, threads), reference.noise(height, width, seed, draw))


@needs_native
def test_every_distance_and_direction_is_the_same():
    """Eight million places, among them words that are almost all zeros or ones."""
    assert torch.equal(native.noise(2048, 4096, 5, 1, 2), reference.noise(2048, 4096, 5, 1))


@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 2**40))
def test_noise_depends_on_seed_and_place_alone(height, width, seed):
    large = reference.noise(200, 200, seed)
    assert torch.equal(reference.noise(height, width, seed), large[:, :height, :width])


def test_seeds_draws_channels_and_places_have_different_noise():
    fields = [reference.noise(128, 128, *which) for which in ((0,), (1,), (2**32,), (0, 1))]
    blocks = [field[c, y : y + 64, x : x + 64] for field in fields for c in range(3) for y in (0, 64) for x in (0, 64)]
    flat = torch.stack([block.flatten() for block in blocks])
    correlation = torch.corrcoef(flat) - torch.eye(len(blocks))
    assert correlation.abs().max() < 0.1


def test_logarithm_and_directions_are_right():
    words = torch.tensor([0, 255, 256, 0x7FFFFF00, 0x80000000, 0xFFFFFFFF, *range(10**9, 4 * 10**9, 10**6)])
    exact = (((words >> 8) + 1).double() / 2**24).log()
    torch.testing.assert_close(reference._logarithm(words).double(), exact, rtol=3e-7, atol=6e-8)
    x, y = reference._normal(torch.full_like(words, 2**31), words)
    angle = ((words >> 8).double() / 2**24 - 1 / 8) * 2 * torch.pi
    r = (-2 * torch.tensor((2**23 + 1) / 2**24).double().log()).sqrt()
    torch.testing.assert_close(x.double(), r * angle.cos(), rtol=1e-6, atol=3e-7)
    torch.testing.assert_close(y.double(), r * angle.sin(), rtol=1e-6, atol=3e-7)


def test_noise_is_standard_normal():
    field = reference.noise(512, 512, 3)
    assert field.mean().abs() < 0.005 and abs(field.std() - 1) < 0.005
    for bound, share in ((1, 0.6827), (2, 0.9545), (3, 0.9973)):
        assert abs((field.abs() < bound).float().mean() - share) < 0.003
    assert 4 < field.abs().max() < 5.8
    assert abs(torch.corrcoef(torch.stack([field[:, :, :-1].flatten(), field[:, :, 1:].flatten()]))[0, 1]) < 0.01
