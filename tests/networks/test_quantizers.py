"""Values and gradients of the quantizers, against their formulas."""

import math

import pytest
import torch

from bidiffsr_cli.networks.quantizers import (
    approx_sign,
    dorefa_weight,
    ede_shape,
    ede_sign,
    irnet_weight,
    open_ste_sign,
    rprelu,
    scaled_ste_sign,
    ste_sign,
    unit_step,
    xnor_weight,
)
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


def test_open_ste_sign():
    assert torch.equal(open_ste_sign(POINTS), SIGNS)
    grad, upstream = gradient(open_ste_sign, POINTS)
    torch.testing.assert_close(grad, torch.where(POINTS.abs() < 1, upstream, 0.0))


@pytest.mark.parametrize("part_done", [0.0, 0.5, 1.0])
def test_ede_sign(part_done):
    t, k = ede_shape(part_done)
    assert torch.equal(ede_sign(POINTS, torch.tensor(t), torch.tensor(k)), SIGNS)
    grad, upstream = gradient(lambda x: ede_sign(x, torch.tensor(t), torch.tensor(k)), POINTS)
    expected = [k * t * (1 - math.tanh(t * x) ** 2) for x in POINTS.tolist()]
    torch.testing.assert_close(grad, upstream * torch.tensor(expected), atol=1e-5, rtol=1e-5)


def test_the_shape_of_ede_goes_from_an_identity_to_a_sign():
    assert ede_shape(0.0) == (1e-3, pytest.approx(1e3))
    assert ede_shape(0.5) == (pytest.approx(0.1), pytest.approx(10.0))
    assert ede_shape(1.0) == (pytest.approx(10.0), 1.0)


def test_unit_step():
    x = torch.tensor([-1.0, -0.1, 0.0, 0.3, 0.5, 0.51, 1.0, 1.7])
    assert unit_step(x).tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    grad, upstream = gradient(unit_step, x)
    torch.testing.assert_close(grad, torch.where((x >= 0) & (x <= 1), upstream, 0.0))


def test_dorefa_weight_has_one_scale_and_passes_the_gradient_on():
    weight = 2 * torch.randn(4, 3, 3, 3)
    expected = weight.abs().mean() * torch.where(weight >= 0, 1.0, -1.0)
    assert torch.equal(dorefa_weight(weight), expected)
    grad, upstream = gradient(dorefa_weight, weight)
    torch.testing.assert_close(grad, upstream)


def test_xnor_weight():
    weight = 2 * torch.randn(4, 3, 3, 3)
    alpha = weight.abs().mean((1, 2, 3), keepdim=True)
    torch.testing.assert_close(xnor_weight(weight), alpha * torch.where(weight >= 0, 1.0, -1.0))
    grad, upstream = gradient(xnor_weight, weight)
    torch.testing.assert_close(grad, upstream * (1 / 27 + alpha * (weight.abs() <= 1)))


def test_irnet_weight_has_powers_of_two_and_gradients_through_mean_and_std():
    weight, (t, k) = 0.2 * torch.randn(4, 3, 3, 3, dtype=torch.float64) + 0.1, ede_shape(0.6)
    shape = torch.tensor(t), torch.tensor(k)

    def standardized(w):
        return (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True)

    u = standardized(weight)
    scale = 2 ** torch.round(torch.log2(u.abs().mean((1, 2, 3), keepdim=True)))
    value = irnet_weight(weight, *shape)
    assert torch.equal(value, scale * torch.where(u >= 0, 1.0, -1.0))
    assert not torch.equal(value.sign(), weight.sign())
    grad, upstream = gradient(lambda w: irnet_weight(w, *shape), weight)
    # the same sum, with a primitive of the pretended gradient in the place of the sign
    plain = weight.clone().requires_grad_()
    (scale * k * torch.tanh(t * standardized(plain)) * upstream).sum().backward()
    torch.testing.assert_close(grad, plain.grad)


def test_irnet_weight_of_equal_weights_is_finite():
    assert bool(irnet_weight(torch.full((2, 3, 3, 3), 0.25), *map(torch.tensor, ede_shape(0.5))).isfinite().all())


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
