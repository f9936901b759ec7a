"""The stand-in for an upper end that the image cuts off."""

import numpy as np
import pytest

from sacroplan.anatomy.truncated import superior_end
from sacroplan.errors import AnatomyError
from sacroplan.geometry.frames import AxisFrame
from sacroplan.geometry.primitives import box

# Columns x anterior, y cranial, z right.
AXES = np.array([[0.0, 0, -1], [-1, 0, 0], [0, 1, 0]])


def test_it_lies_where_the_axis_leaves_the_bone_even_without_vertices_there():
    at = AxisFrame("box", np.zeros(3), np.eye(3))
    frame, doubt = superior_end(
        box(at, [-20, -15, 0], [20, 15, 23]), "L4", AxisFrame("L4IEP", [1, 2, 0], AXES)
    )
    assert frame.origin == pytest.approx([1, 2, 23])
    assert np.array_equal(frame.axes, AXES)
    assert "23 mm above" in doubt.message


def test_no_bone_above_is_an_error():
    at = AxisFrame("box", np.zeros(3), np.eye(3))
    with pytest.raises(AnatomyError, match="no body above"):
        superior_end(box(at, [30, 30, 0], [40, 40, 9]), "L4", AxisFrame("L4IEP", [0, 0, 0], AXES))
