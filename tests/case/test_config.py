"""case.toml: every mistake is named with its line."""

import pytest

from sacroplan.case.config import new_config, parse_config
from sacroplan.errors import CaseError

GOOD = new_config("case7", "ct", None, None)


def test_the_template_is_valid_and_has_defaults():
    config = parse_config(GOOD, "case.toml")
    assert config.case.id == "case7"
    assert config.resection.type == "total"
    assert config.patient.body_mass_kg == 70


def line_of(text, part):
    return next(n for n, line in enumerate(text.splitlines(), 1) if part in line)


def test_a_misspelt_key_is_named_with_its_line_and_a_suggestion():
    text = GOOD.replace("body_mass_kg", "body_mas_kg")
    with pytest.raises(CaseError) as caught:
        parse_config(text, "case.toml")
    message = str(caught.value)
    assert f"line {line_of(text, 'body_mas_kg')}:" in message
    assert "patient.body_mas_kg" in message
    assert "'body_mass_kg'" in message


def test_a_misspelt_table_is_named():
    with pytest.raises(CaseError, match=r"line \d+.*'resectoin' is not known.*'resection'"):
        parse_config(GOOD.replace("[resection]", "[resectoin]"), "case.toml")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("body_mass_kg = 70 ", "body_mass_kg = 7 ", "body_mass_kg = 7"),
        ("body_mass_kg = 70 ", 'body_mass_kg = "70 kilo" ', "70 kilo"),
        ('type = "total"', 'type = "totally"', "resection.type"),
        ('id = "case7"', 'id = "John Doe 1950-01-01"', "case id"),
        ("[patient]", "[patient", "not valid TOML"),
        ('ct = "ct"', "", "'input.ct' is missing"),
    ],
)
def test_wrong_values_are_named(old, new, message):
    assert old in GOOD
    with pytest.raises(CaseError, match=message):
        parse_config(GOOD.replace(old, new), "case.toml")


def test_paths_with_quotes_survive():
    config = parse_config(new_config("c", 'a"b\\c', 'l"', None), "case.toml")
    assert config.input.ct == 'a"b/c'
    assert config.input.labels == 'l"'


def test_joints_in_contact_are_a_study_of_their_own():
    text = GOOD + '\n[mechanics]\njoints = "contact"\n'
    assert parse_config(text, "case.toml").mechanics.joints == "contact"
    with pytest.raises(CaseError, match="a study of its own"):
        parse_config(text + "healing = true\n", "case.toml")
