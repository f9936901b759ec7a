import pytest
from hypothesis import given
from hypothesis import strategies as st

from sacroplan.registry import scores
from sacroplan.registry.errors import RegistryError
from sacroplan.registry.scores import INSTRUMENTS, score


def test_msts_is_the_sum_of_six_and_nothing_without_one_of_them():
    msts = INSTRUMENTS["msts93"]
    assert score(msts, [5, 3, 4, 3, 3, 3]).value == 21
    partial = score(msts, [5, 3, 4, 3, 3, None])
    assert (partial.value, partial.answered, partial.answers) == (None, 5, "5,3,4,3,3,")


def test_odi_leaves_one_missed_section_out_of_the_denominator():
    odi = INSTRUMENTS["odi"]
    assert score(odi, [2] * 10).value == 40
    # 16 of 45, the example of the instrument's own instructions.
    assert score(odi, [2, 2, 2, 2, 2, 2, 2, 1, 1, None]).value == pytest.approx(
        100 * 16 / 45, abs=1e-5
    )
    assert score(odi, [2] * 8 + [None] * 2).value is None


def test_tess_is_stretched_over_the_answered_items():
    tess = INSTRUMENTS["tess"]
    assert score(tess, [5] * 30).value == 100
    assert score(tess, [1] * 30).value == 0
    assert score(tess, [3] * 15 + [None] * 15).value == 50
    assert score(tess, [3] * 14 + [None] * 16).value is None


def test_eq5d_keeps_the_profile_and_gives_no_index():
    made = score(INSTRUMENTS["eq5d"], [1, 2, 1, 3, 1])
    assert (made.answers, made.value) == ("1,2,1,3,1", None)


@pytest.mark.parametrize(
    ("name", "text"), [("vas", "11"), ("vas", "-1"), ("msts93", "2.5"), ("tess", "0"), ("odi", "x")]
)
def test_an_answer_off_the_scale_is_refused(name, text):
    with pytest.raises(RegistryError, match="is not a"):
        scores.answer(INSTRUMENTS[name], text)


@given(st.data())
def test_scores_stay_on_their_scale_and_better_answers_never_score_worse(data):
    instrument = INSTRUMENTS[data.draw(st.sampled_from(["msts93", "odi", "tess"]))]
    low, high = (int(v) for v in instrument.span)
    item = st.one_of(st.none(), st.integers(low, high))
    n = len(instrument.items)
    answers = data.draw(st.lists(item, min_size=n, max_size=n))
    made = score(instrument, answers)
    if made.value is None:
        assert made.answered < instrument.least_answered
        return
    top = {"msts93": 30, "odi": 100, "tess": 100}[instrument.name]
    assert 0 <= made.value <= top
    raised = [None if a is None else min(a + 1, high) for a in answers]
    assert score(instrument, raised).value >= made.value
