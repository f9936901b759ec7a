import numpy as np

from sacroplan.geometry.fields import distance_field, inside_mask
from sacroplan.geometry.primitives import sphere
from sacroplan.geometry.volume import VolumeGeometry


def test_a_ball_is_solid_in_a_left_handed_grid_too() -> None:
    ball = sphere(np.zeros(3), 8.0)
    mirror = np.diag([-1.0, 1.0, 1.0])
    left = VolumeGeometry((41, 41, 41), np.full(3, 0.5), mirror @ np.full(3, -10.0), mirror)
    right = VolumeGeometry((41, 41, 41), np.full(3, 0.5), np.full(3, -10.0))
    mask = inside_mask(ball, left)
    assert mask[20, 20, 20]
    assert not mask[0, 0, 0]
    assert abs(int(mask.sum()) - int(inside_mask(ball, right).sum())) < 50
    assert distance_field(ball, left).values[20, 20, 20] < -7.0
