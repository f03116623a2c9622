"""The rule of signs, and the scales."""

import torch

from bidiffsr_cli.ops.reference import binarize, binary_conv, channel_scales, rprelu


def test_sign_is_plus_one_from_zero_on():
    x = torch.tensor([-1.0, -1e-38, -0.0, 0.0, 1e-38, 2.0]).view(1, 6, 1, 1)
    assert binarize(x, torch.zeros(1, 6, 1, 1)).flatten().tolist() == [-1, -1, 1, 1, 1, 1]


def test_a_sum_that_cancels_is_plus_one():
    x = torch.randn(1, 8, 5, 5)
    assert bool((binarize(x, -x) == 1).all())


def test_signs_do_not_break_a_compiled_graph():
    found = torch._dynamo.explain(binarize)(torch.randn(1, 3, 4, 4), torch.randn(3, 1, 1), torch.float16)
    assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons


def test_scales_are_the_mean_magnitude_of_each_output_channel():
    weight = torch.randn(7, 5, 3, 3)
    torch.testing.assert_close(channel_scales(weight), weight.abs().mean((1, 2, 3)))


def test_scales_of_equal_magnitudes_are_exact():
    alpha = torch.rand(64)
    signs = torch.randn(64, 37, 3, 3).sign()
    assert torch.equal(channel_scales(signs * alpha.view(-1, 1, 1, 1)), alpha)


def test_sums_in_half_precision_are_exact():
    signs, weight = torch.ones(1, 450, 6, 6), torch.where(torch.rand(8, 450, 3, 3) < 0.02, -1.0, 1.0)
    expected = binary_conv(signs, weight, torch.ones(8))
    assert 3000 < expected.max() < 4096  # of at most 4050
    assert torch.equal(binary_conv(signs.half(), weight.half(), torch.ones(8)), expected)


def test_rprelu_is_the_formula():
    x, shift, slope, offset = torch.randn(2, 3, 4, 4), *torch.randn(3, 3)
    moved = x + shift.view(1, 3, 1, 1)
    expected = torch.where(moved > 0, moved, slope.view(1, 3, 1, 1) * moved) + offset.view(1, 3, 1, 1)
    torch.testing.assert_close(rprelu(x.clone(), shift.view(1, 3, 1, 1), slope, offset.view(1, 3, 1, 1)), expected)
