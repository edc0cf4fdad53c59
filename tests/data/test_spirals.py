"""The spirals of section 5.1: what they are, and that they are the same each time."""

from math import pi

import pytest
import torch

from isocline.data import spirals


def test_half_of_them_turn_clockwise() -> None:
    data = spirals(40)
    assert data.clockwise.sum() == 20
    centre = torch.stack([torch.where(data.clockwise, -5.0, 5.0), torch.zeros(40)], 1)
    arm = data.truth - centre
    angle = torch.atan2(arm[..., 1], arm[..., 0])
    turned = angle.diff(dim=0).remainder(2 * pi)
    turned = torch.where(turned > pi, turned - 2 * pi, turned)
    torch.testing.assert_close(turned[:, ~data.clockwise], torch.full((199, 20), 6 * pi / 999), rtol=0, atol=1e-4)
    torch.testing.assert_close(turned[:, data.clockwise], torch.full((199, 20), -6 * pi / 999), rtol=0, atol=1e-4)
    # The radius grows by 0.3 a radian, from starts that differ.
    radius = arm.norm(dim=2)
    torch.testing.assert_close(radius.diff(dim=0), torch.full((199, 40), 0.3 * 6 * pi / 999), rtol=0, atol=1e-4)
    assert len(radius[0].unique()) > 30
    assert radius.max() < 0.3 * 6 * pi


def test_observations_are_noisy_points_of_the_first_hundred_times() -> None:
    data = spirals(200, 30, noise=0.2)
    assert data.observed.lengths.tolist() == [30] * 200
    step = data.ts[1].item()
    place = (data.observed.ts / step).round().long()
    assert place.max() < 100
    assert (place.diff(dim=0) > 0).all()  # without replacement
    assert place.unique().numel() == 100  # all times are drawn
    for i in (0, 7):
        assert torch.equal(data.observed.values[:, i], data.noisy[place[:, i], i])
    errors = data.noisy - data.truth
    assert errors.std().item() == pytest.approx(0.2, rel=0.01)
    assert abs(errors.mean()) < 0.005


def test_a_seed_gives_the_same_spirals_whatever_is_observed_of_them() -> None:
    one, other, third = spirals(10, 100, seed=3), spirals(10, 50, seed=3), spirals(10, 50, seed=4)
    assert torch.equal(one.noisy, other.noisy)
    assert not torch.equal(one.noisy, third.noisy)
    assert torch.equal(one.observed.values[:, 0], one.noisy[:100, 0])


@pytest.mark.parametrize(
    ("settings", "message"), [({"count": 3}, "even"), ({"observations": 101}, "between 1 and 100")]
)
def test_what_cannot_be_is_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spirals(**settings)


def test_radii_grow_from_each_start() -> None:
    data = spirals(20, seed=3)
    assert (data.radius.diff(dim=0) > 0).all()
    growth = data.radius[-1] - data.radius[0]  # r = 0.3 phi
    torch.testing.assert_close(growth, (0.3 * (data.ts[-1] - data.ts[0])).float().expand(20), rtol=0, atol=1e-5)
