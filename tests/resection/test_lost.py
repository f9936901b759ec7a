"""Function by the roots kept: the published tables, as intervals, and never better for losing more."""

import itertools

import pytest

from sacroplan.resection.lost import ROOTS, function_of

SACRAL = ROOTS[1:]


def fates(left, right):
    """Roots kept down to S``left`` and S``right``."""
    return {
        f"{root}_{side}": "kept" if n < kept else "lost"
        for side, kept in (("left", left), ("right", right))
        for n, root in enumerate(SACRAL)
    }


@pytest.mark.parametrize(
    ("left", "right", "bladder", "bowel", "gait"),
    [
        (5, 0, (89, 89), (87, 87), None),
        (1, 1, (0, 0), (0, 0), None),
        (0, 0, (0, 0), (0, 0), None),
        (2, 2, (25, 39.9), (40, 40), (56.2, 56.2)),
        (3, 2, (60, 72.7), (67, 67), (56.2, 56.2)),
        (3, 3, (69, 83.3), (100, 100), (94.1, 94.1)),
        (4, 4, (69, 83.3), (100, 100), (94.1, 100)),
        (2, 1, (0, 25), (0, 40), None),
        (5, 5, (100, 100), (100, 100), (100, 100)),
    ],
)
def test_the_published_rows_come_back(left, right, bladder, bowel, gait):
    found = function_of(fates(left, right))
    assert found["bladder"].percent == pytest.approx(bladder)
    assert found["bowel"].percent == pytest.approx(bowel)
    assert (found["gait"].percent is None) == (gait is None)
    if gait is not None:
        assert found["gait"].percent == pytest.approx(gait)
    assert function_of(fates(right, left)) == found


def test_losing_more_on_both_sides_never_helps():
    for name in ("bladder", "bowel"):
        for n in range(5):
            fewer = function_of(fates(n, n))[name].percent
            more = function_of(fates(n + 1, n + 1))[name].percent
            assert fewer[0] <= more[0]
            assert fewer[1] <= more[1]


def test_a_root_at_risk_widens_the_interval():
    for left, right in itertools.product((1, 2), repeat=2):
        sure = function_of(fates(left, right))["bladder"].percent
        risky = fates(left, right)
        risky[f"S{left + 1}_left"] = "at risk"
        low, high = function_of(risky)["bladder"].percent
        assert low <= sure[0]
        assert high >= sure[1]
