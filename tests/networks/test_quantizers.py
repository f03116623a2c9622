"""Values and gradients of the quantizers, against their formulas."""

import torch

from bidiffsr_cli.networks.quantizers import approx_sign, rprelu, scaled_ste_sign, ste_sign
from bidiffsr_cli.ops.reference import channel_scales

POINTS = torch.tensor([-3.0, -1.0, -0.75, -0.25, -0.0, 0.0, 0.25, 0.75, 1.0, 3.0])
SIGNS = torch.tensor([-1.0, -1, -1, -1, 1, 1, 1, 1, 1, 1])


def gradient(function, x):
    x = x.clone().requires_grad_()
    upstream = torch.randn_like(x)
    function(x).backward(upstream)
    return x.grad, upstream


def test_approx_sign():
    assert torch.equal(approx_sign(POINTS), SIGNS)
    grad, upstream = gradient(approx_sign, POINTS)
    torch.testing.assert_close(grad, upstream * (2 - 2 * POINTS.abs()).clamp(min=0))


def test_ste_sign():
    assert torch.equal(ste_sign(POINTS), SIGNS)
    grad, upstream = gradient(ste_sign, POINTS)
    torch.testing.assert_close(grad, torch.where(POINTS.abs() <= 1, upstream, 0.0))


def test_scaled_ste_sign_scales_the_value_and_not_the_gradient():
    weight = torch.randn(4, 3, 3, 3)
    expected = channel_scales(weight).view(-1, 1, 1, 1) * torch.where(weight >= 0, 1.0, -1.0)
    torch.testing.assert_close(scaled_ste_sign(weight), expected)
    grad, upstream = gradient(scaled_ste_sign, weight)
    torch.testing.assert_close(grad, torch.where(weight.abs() <= 1, upstream, 0.0))


def test_signs_in_few_bits():
    x = torch.randn(64).requires_grad_()
    signs = approx_sign(x, torch.bfloat16)
    assert signs.dtype == torch.bfloat16 and torch.equal(signs.float(), torch.where(x >= 0, 1.0, -1.0))
    signs.backward(torch.ones_like(signs))
    torch.testing.assert_close(x.grad, (2 - 2 * x.detach().abs()).clamp(min=0), atol=2e-2, rtol=0)


def test_rprelu_has_the_gradients_of_its_formula():
    x, upstream = torch.randn(2, 3, 5, 4, dtype=torch.float64), torch.randn(2, 3, 5, 4, dtype=torch.float64)
    shift, offset = torch.randn(2, 1, 3, 1, 1, dtype=torch.float64).unbind()
    values = [x, shift, torch.tensor([-0.5, 0.25, 1.5], dtype=torch.float64), offset]
    ours, plain = ([value.clone().requires_grad_() for value in values] for _ in range(2))
    one = rprelu(*ours)
    y = plain[0] + plain[1]
    two = torch.where(y > 0, y, y * plain[2].view(1, -1, 1, 1)) + plain[3]
    torch.testing.assert_close(one, two)
    one.backward(upstream), two.backward(upstream)
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a.grad, b.grad)
