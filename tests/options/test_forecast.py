"""Function by roots: the published rows come back, more roots never promise less; exact intervals."""

import itertools

import pytest

from sacroplan.options.forecast import NAMES, fates, forecast, lowest_roots
from sacroplan.options.series import published, share
from sacroplan.resection.lost import function_of


@pytest.mark.parametrize(("left", "right"), list(itertools.product(range(6), repeat=2)))
def test_more_roots_never_forecast_less(left, right):
    here = forecast(left, right)
    for a, b in ((left + 1, right), (left, right + 1)):
        if max(a, b) > 5:
            continue
        more = forecast(a, b)
        for name in NAMES:
            if here[name].percent is None or more[name].percent is None:
                continue
            assert more[name].percent[0] >= here[name].percent[0]
            assert more[name].percent[1] >= here[name].percent[1]
    assert forecast(right, left) == here


def test_the_published_rows_are_not_bent_but_where_they_contradict_each_other():
    bent = []
    for left, right in itertools.product(range(6), repeat=2):
        own = function_of(fates(left, right))
        for name, f in forecast(left, right).items():
            if f.raised:
                bent.append((name, *sorted((left, right))))
            elif own[name].percent is not None:
                assert f.percent == tuple(own[name].percent)
    # All roots of one side kept gave 89 % bladder and 87 % bowel; both S3 kept 69 to 83 % and 100 %.
    assert set(bent) == {(n, k, 5) for n in ("bladder", "bowel") for k in (3, 4)}
    # Handbook 6.4, as printed there.
    assert forecast(3, 3)["bladder"].percent == (69.0, 83.3)
    assert forecast(2, 2)["bladder"].percent == (25.0, 39.9)
    assert forecast(0, 0)["bowel"].percent == (0.0, 0.0)
    assert forecast(0, 0)["gait"].percent is None


def test_an_unknown_side_spans_every_case():
    wide = forecast(None, 3)["bladder"].percent
    cells = [forecast(n, 3)["bladder"].percent for n in range(6)]
    assert wide == (min(c[0] for c in cells), max(c[1] for c in cells))


def test_lowest_roots_count_risk_both_ways():
    roots = {**fates(2, 5), "S3_left": "at risk", "S4_left": "kept"}
    assert lowest_roots(roots) == {"left": (2, 4), "right": (5, 5)}
    del roots["S3_left"]
    assert lowest_roots(roots)["left"] == (None, None)


def test_exact_intervals_of_the_handbook():
    # HANDBOOK 14: 0/12 up to 26.5 %, 0/10 up to 30.8 %, 3/10 6.7 to 65.2 %.
    assert share(0, 12).high_percent == pytest.approx(26.5, abs=0.05)
    assert share(0, 10).high_percent == pytest.approx(30.8, abs=0.05)
    three = share(3, 10)
    assert (three.low_percent, three.high_percent) == pytest.approx((6.7, 65.2), abs=0.05)
    assert share(12, 12).high_percent == 100.0
    assert "520 min (380 to 735), n=12" in published("implant_supplemented").operating_time
