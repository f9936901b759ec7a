"""Density fields, and layers that follow them."""

from __future__ import annotations

import numpy as np
import pytest
from lattice_shapes import HERE, block
from test_layer import inside_share

from sacroplan.errors import PlanError
from sacroplan.geometry.surface import Surface
from sacroplan.lattice.grading import by_distance, by_strain
from sacroplan.lattice.layer import fill


def test_open_at_the_bone_and_dense_at_the_core() -> None:
    body = block((0, 0, 0), (6, 6, 3))
    seat = Surface(body.vertices, body.faces[body.face_normals[:, 2] > 0.9])
    field = by_distance(seat, 0.2, 0.4, 3.0)
    assert field(
        HERE.origin + [[3.0, 3.0, 3.0], [3.0, 3.0, 1.5], [3.0, 3.0, -5.0]]
    ) == pytest.approx([0.2, 0.3, 0.4])
    layer = fill(body, None, "diamond_network", 1.0, field, rim_mm=0.0, normal=[0, 0, 1])
    assert layer.density == pytest.approx(0.3, abs=0.01)
    for z, wanted in ((0.5, 0.4 - 0.1 / 3), (1.5, 0.3), (2.5, 0.2 + 0.1 / 3)):
        got = inside_share(layer, [1.0, 1.0, z - 0.5], [5.0, 5.0, z + 0.5])
        assert got == pytest.approx(wanted, abs=0.02)


def test_dense_where_elements_strain() -> None:
    rng = np.random.default_rng(7)
    centres = HERE.origin + rng.uniform([0, 0, 0], [10, 6, 3], (4000, 3))
    strain = 100.0 + 50.0 * (centres[:, 0] - HERE.origin[0])
    field = by_strain(centres, strain, 0.2, 0.4)
    at = HERE.origin + [[0.2, 3.0, 1.5], [5.0, 3.0, 1.5], [9.8, 3.0, 1.5]]
    # The 10th and 90th percentile lie at x = 1 and 9.
    assert field(at) == pytest.approx([0.2, 0.3, 0.4], abs=0.01)
    layer = fill(
        block((0, 0, 0), (10, 6, 3)),
        None,
        "gyroid_network",
        1.0,
        field,
        rim_mm=0.0,
        normal=[0, 0, 1],
    )
    for x in (2.5, 5.0, 7.5):
        got = inside_share(layer, [x - 0.5, 1.0, 0.0], [x + 0.5, 5.0, 3.0])
        assert got == pytest.approx(0.3 + 0.025 * (x - 5.0), abs=0.02)
    flat = by_strain(centres, np.full(4000, 3.0), 0.2, 0.4)
    assert flat(at) == pytest.approx(0.3)


def test_fields_that_make_no_sense_are_refused() -> None:
    with pytest.raises(PlanError, match="between 0 and 1"):
        by_distance(block((0, 0, 0), (1, 1, 1)), 0.2, 1.2, 1.0)
    with pytest.raises(PlanError, match="length"):
        by_distance(block((0, 0, 0), (1, 1, 1)), 0.2, 0.4, 0.0)
    with pytest.raises(PlanError, match="3 places and 2 values"):
        by_strain(np.zeros((3, 3)), np.ones(2), 0.2, 0.4)
    with pytest.raises(PlanError, match="strain of 0 or more"):
        by_strain(np.zeros((20, 3)), -np.ones(20), 0.2, 0.4)
