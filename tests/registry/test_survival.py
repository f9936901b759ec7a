"""Estimators against R, against lifelines and against hand calculation.

R 4.2.2, survival 3.5-3 (survfit, conf.type = "log-log"; survfit of a factor) and cmprsk 2.2-11, on the
lung and larynx data that lifelines ships. For competing risks the deaths are split in two by sex or
by age 65: what matters is the arithmetic.
"""

import numpy as np
import pytest

from sacroplan.registry import compare, survival
from sacroplan.registry.errors import RegistryError

# time, at risk, survival, standard error, lower, upper
LUNG = [
    (50, 217, 0.9517543859649, 0.0141913574455, 0.9145762834366, 0.972988696334),
    (183, 156, 0.7035154168460, 0.0304130639937, 0.6392409086140, 0.758531785481),
    (365, 65, 0.4092416244601, 0.0358236381720, 0.3387142690883, 0.478380767647),
    (500, 41, 0.2932691937116, 0.0350778184986, 0.2265036771181, 0.363028599684),
    (800, 8, 0.0783153281101, 0.0246181539422, 0.0390065211489, 0.135367956144),
]
LARYNX = [
    (0.5, 84, 0.922222222222, 0.0282308725928, 0.843769794382, 0.962142329293),
    (1.0, 78, 0.844444444444, 0.0382038428392, 0.751519260183, 0.904771024606),
    (2.0, 68, 0.733333333333, 0.0466137265853, 0.629093459149, 0.812569544033),
    (4.0, 46, 0.560391386419, 0.0540005170441, 0.448241541350, 0.658389342274),
    (6.0, 26, 0.493799576137, 0.0572009329993, 0.377779690854, 0.599601187460),
    (8.0, 8, 0.296509955275, 0.0665611554780, 0.174503510900, 0.428904676663),
]
# time, incidence of cause 1 and 2 with their standard errors
LUNG_CR = [
    (50, 0.0438596491228, 0.01359261190327, 0.00438596491228, 0.00438596491228),
    (183, 0.2302068933191, 0.0281052101864, 0.06627768983488, 0.0165811784302),
    (365, 0.4094644545363, 0.0350959901479, 0.18129392100364, 0.0278466008416),
    (500, 0.4844403396899, 0.0371706761914, 0.22229046659853, 0.0310151871192),
    (800, 0.6042862656343, 0.0395000918767, 0.31739840625553, 0.0377195769763),
]
LARYNX_CR = [
    (0.5, 0.0555555555556, 0.0242823369690, 0.0222222222222, 0.0156270020757),
    (2.0, 0.1555555555556, 0.0384366596475, 0.1111111111111, 0.0333379849201),
    (6.0, 0.2816685421872, 0.0517407840893, 0.2245318816762, 0.0462415654714),
    (8.0, 0.4531459124784, 0.0709322173962, 0.2503441322470, 0.0517119668584),
]


@pytest.fixture(scope="module")
def lung():
    from lifelines.datasets import load_lung

    frame = load_lung()
    time, event = frame["time"].to_numpy(float), frame["status"].to_numpy() == 1
    return time, event, frame["sex"].to_numpy() == 1


@pytest.fixture(scope="module")
def larynx():
    from lifelines.datasets import load_larynx

    frame = load_larynx()
    time, event = frame["time"].to_numpy(float), frame["death"].to_numpy() == 1
    return time, event, frame["age"].to_numpy() >= 65


@pytest.mark.parametrize(("name", "rows"), [("lung", LUNG), ("larynx", LARYNX)])
def test_kaplan_meier_equals_r(name, rows, request):
    time, event, _ = request.getfixturevalue(name)
    curve = survival.kaplan_meier(time, event)
    for at, risk, estimate, error, lower, upper in rows:
        assert curve.at(at) == pytest.approx((estimate, lower, upper), abs=1e-9)
        assert curve.std_err[np.searchsorted(curve.times, at, "right") - 1] == pytest.approx(
            error, abs=1e-9
        )
        assert curve.risk_at([at])[0] == risk
    assert {"lung": 310.0, "larynx": 6.0}[name] == curve.quantile()


@pytest.mark.parametrize(("name", "rows"), [("lung", LUNG_CR), ("larynx", LARYNX_CR)])
def test_aalen_johansen_equals_r(name, rows, request):
    time, event, split = request.getfixturevalue(name)
    state = np.where(~event, 0, np.where(split, 1, 2))
    for cause, n in ((1, 1), (2, 3)):
        curve = survival.aalen_johansen(time, state, cause)
        for row in rows:
            k = np.searchsorted(curve.times, row[0], "right") - 1
            assert curve.estimate[k] == pytest.approx(row[n], abs=1e-9)
            # cmprsk takes another variance of the same order; they part where 8 of 90 are left.
            assert curve.std_err[k] == pytest.approx(row[n + 1], rel=0.04)


def test_kaplan_meier_equals_lifelines_everywhere(lung):
    from lifelines import KaplanMeierFitter

    time, event, _ = lung
    ours, theirs = survival.kaplan_meier(time, event), KaplanMeierFitter().fit(time, event)
    peer = theirs.survival_function_["KM_estimate"]
    np.testing.assert_allclose(ours.times, peer.index, atol=0)
    np.testing.assert_allclose(ours.estimate, peer.to_numpy(), atol=1e-12)
    band = theirs.confidence_interval_.to_numpy()
    ok = np.isfinite(ours.lower)
    np.testing.assert_allclose(ours.lower[ok], band[ok, 0], atol=1e-9)
    np.testing.assert_allclose(ours.upper[ok], band[ok, 1], atol=1e-9)


def test_incidences_and_survival_add_up_to_one_and_the_naive_one_is_never_below(lung):
    time, event, split = lung
    state = np.where(~event, 0, np.where(split, 1, 2))
    both = [survival.aalen_johansen(time, state, c).estimate for c in (1, 2)]
    alive = survival.kaplan_meier(time, event).estimate
    np.testing.assert_allclose(both[0] + both[1] + alive, 1.0, atol=1e-12)
    naive = survival.naive_incidence(time, state, 1).estimate
    assert np.all(naive >= both[0] - 1e-12)
    assert (naive - both[0]).max() > 0.05


def test_twelve_patients_by_hand():
    """Two of twelve die at 20.0 and 20.4 months, nobody is censored before: 10/12."""
    time = [20.0, 20.4, 24, 26, 30, 33, 36, 40, 44, 50, 56, 62]
    curve = survival.kaplan_meier(time, [1, 1] + [0] * 10)
    assert round(100 * curve.at(24)[0], 2) == 83.33
    share = survival.proportion(10, 12)
    assert (round(100 * share.lower, 1), round(100 * share.upper, 1)) == (51.6, 97.9)
    # Greenwood: S^2 * (1/(12*11) + 1/(11*10)) = 0.1157^2
    k = np.searchsorted(curve.times, 24, "right") - 1
    assert curve.std_err[k] == pytest.approx(10 / 12 * np.sqrt(1 / 132 + 1 / 110))
    # One censored before the second death makes Kaplan-Meier leave the raw proportion.
    early = survival.kaplan_meier([20.0, 20.4, 20.2] + time[3:], [1, 1] + [0] * 10)
    assert early.at(24)[0] == pytest.approx(11 / 12 * 9 / 10)


@pytest.mark.parametrize(
    ("count", "n", "lower", "upper"),
    [(0, 12, 0.0, 26.5), (1, 12, 0.2, 38.5), (11, 12, 61.5, 99.8), (3, 10, 6.7, 65.2)],
)
def test_exact_intervals_of_the_handbook(count, n, lower, upper):
    share = survival.proportion(count, n)
    assert (round(100 * share.lower, 1), round(100 * share.upper, 1)) == (lower, upper)


def test_nobody_at_risk_any_more():
    curve = survival.kaplan_meier([1, 2], [1, 1])
    assert curve.estimate[-1] == 0.0
    assert np.isnan(curve.at(3)[0])
    competing = survival.aalen_johansen([1, 2, 3], [1, 2, 1])
    assert competing.estimate[-1] == pytest.approx(2 / 3)


@pytest.mark.parametrize(("time", "event"), [([], []), ([-1], [0]), ([np.nan], [1]), ([1], [1, 0])])
def test_impossible_follow_up_is_refused(time, event):
    with pytest.raises(RegistryError):
        survival.kaplan_meier(time, event)


def test_comparisons_equal_scipy_and_r(lung):
    time, event, male = lung
    assert compare.log_rank_statistic(time, event, male) == pytest.approx(10.3267419548856)
    assert compare.survival(time, event, male).p == pytest.approx(0.00131, abs=1e-5)
    ratio = compare.hazard_ratio(time, event, male)
    assert (ratio.ratio, ratio.lower, ratio.upper) == pytest.approx(
        (1.70067212, 1.225513004, 2.360061174), abs=1e-5
    )
    # Fisher's tea: 3 of 4 cups, p = 0.4857.
    assert compare.counts([[3, 1], [1, 3]]).p == pytest.approx(34 / 70)
    # Complete separation of 3 and 4 without ties: 2 of C(7, 3) = 35 arrangements.
    assert compare.values([1, 2, 3], [4, 5, 6, 7]).p == pytest.approx(2 / 35)
    tied = compare.values([1, 1, 2], [2, 3, 3, 3])
    assert tied.test == "Mann-Whitney, permutations"
    assert compare.values([1, 1, 2], [2, 3, 3, 3]).p == tied.p


def test_hazard_ratios_need_events():
    time, group = np.arange(1.0, 13.0), np.arange(12) % 2 == 0
    few = np.zeros(12, bool)
    few[[0, 3]] = True
    with pytest.raises(RegistryError, match="2 events are too few"):
        compare.hazard_ratio(time, few, group)
    with pytest.raises(RegistryError, match="one group has no event"):
        compare.hazard_ratio(time, few & group, group, overrule=True)
    assert "too few" in compare.hazard_ratio(time, few, group, overrule=True).warning


def test_permuted_log_rank_is_calibrated():
    """Under the null hypothesis p values are spread evenly: a fifth lies below 0.2."""
    rng = np.random.default_rng(5)
    low = 0
    for _ in range(60):
        time, event = rng.exponential(10, 14), rng.random(14) < 0.5
        event[0] = True
        group = rng.permutation(np.arange(14) < 6)
        seen = compare.log_rank_statistic(time, event, group)
        null = [compare.log_rank_statistic(time, event, rng.permutation(group)) for _ in range(60)]
        low += np.mean(np.array(null) >= seen - 1e-9) <= 0.2
    assert 4 <= low <= 22
