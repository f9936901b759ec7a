"""Nothing that names a person passes the gate, whichever tag it was written in."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_maker import write_dicomdir, write_stack
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag, Tag

from sacroplan.errors import SacroplanError
from sacroplan.formats import dicom_words
from sacroplan.formats.ct import list_series, read_ct
from sacroplan.formats.dicom_headers import _TAGS

SECRETS = ("Doe", "Jane", "SECRET", "4711", "19550301", "1955", "Musterstr", "jane@example")
TEXT = b"Doe^Jane SECRET4711 Musterstr. 7 jane@example.org 19550301 "

NEEDED = {
    "SOPClassUID", "Modality", "ImageType", "Rows", "Columns", "PixelSpacing", "BitsAllocated",
    "ImageOrientationPatient", "ImagePositionPatient", "SamplesPerPixel", "BitsStored", "HighBit",
    "PhotometricInterpretation", "PixelRepresentation", "RescaleSlope", "RescaleIntercept",
    "RescaleType", "PixelData", "FloatPixelData", "DoubleFloatPixelData", "NumberOfFrames",
    "GantryDetectorTilt", "SpecificCharacterSet", "PixelPaddingValue",
}  # fmt: skip
"""Without these in order there is no CT to read; they are damaged one at a time below."""


def secret_for(vr: str) -> bytes:
    if vr == "DA":
        return b"19550301"
    if vr == "DT":
        return b"19550301120000"
    return TEXT


def raw(tag: BaseTag, vr: str, value: bytes) -> RawDataElement:
    value += b" " * (len(value) % 2)
    return RawDataElement(tag, vr, len(value), value, 0, False, True)


def ramp() -> np.ndarray:
    i, j, k = np.indices((16, 16, 6))
    return (i * 100 + j * 10 + k - 900).astype(np.int16)


def poison(folder: Path, only: str | None = None) -> None:
    """Write secrets into every public tag (or one), and into private ones."""
    for file in sorted(folder.glob("*.dcm")):
        ds = pydicom.dcmread(file)
        for number, entry in DicomDictionary.items():
            vr = entry[0].split(" or ")[0]
            tag = Tag(number)
            name = keyword_for_tag(tag)
            if only is not None and name != only:
                continue
            if tag.group in (0, 2) or vr in ("SQ", "OB", "OW", "OF", "OD", "OL", "OV", "NONE", ""):
                continue
            if name in NEEDED and only is None:
                continue
            if vr in ("US", "SS", "UL", "SL", "FL", "FD", "AT", "UV", "SV"):
                vr = "LO" if only is None else vr
            ds[tag] = raw(tag, vr, secret_for(vr))
        if only is None:
            for group in (0x0009, 0x0011, 0x0029, 0x7FDF):
                ds[Tag(group, 0x0010)] = raw(Tag(group, 0x0010), "LO", b"Doe^Jane")
                ds[Tag(group, 0x1001)] = raw(Tag(group, 0x1001), "LT", TEXT)
        ds.save_as(file)


@pytest.fixture
def everything_said(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> Iterator[list[str]]:
    """Texts to look through: the test's own, and at the end the log, the console and warnings."""
    caplog.set_level(logging.DEBUG)
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield texts
    texts += [caplog.text, *capfd.readouterr(), *(str(w.message) for w in caught)]
    for text in texts:
        for secret in SECRETS:
            assert secret not in text, text[:400]


def tell(folder: Path, texts: list[str]) -> bool:
    """Everything a reader says about a folder; whether it was read."""
    texts.append(folder.name)
    try:
        listed = list_series(folder)
        texts.append(json.dumps([c.row() for c in listed.candidates]) + repr(listed.set_aside))
        ct = read_ct(folder)
    except SacroplanError as error:
        texts.append(str(error))
        return False
    texts += [repr(ct.info), json.dumps(ct.info.to_json(), default=repr), repr(ct.doubts)]
    return True


def poisoned(tmp_path: Path, only: str | None = None) -> Path:
    folder = tmp_path / "a"
    write_stack(folder, ramp(), PatientName=None, PatientID=None, PatientBirthDate=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        poison(folder, only)
    return folder


def test_every_public_and_private_tag_at_once(tmp_path: Path, everything_said: list[str]) -> None:
    folder = poisoned(tmp_path)
    file = folder / "s000.dcm"
    assert file.read_bytes().count(b"Doe^Jane") > 1000
    assert tell(folder, everything_said), everything_said
    ct = read_ct(folder)
    np.testing.assert_array_equal(ct.volume.data, ramp())
    assert ct.info.acquired == ""
    assert ct.info.series_uid == ""
    assert ct.info.contrast == "given"


@pytest.mark.parametrize("name", sorted(t for t in _TAGS if not t.endswith("Sequence")))
def test_each_tag_that_is_read(tmp_path: Path, name: str, everything_said: list[str]) -> None:
    """One at a time, so that a tag the geometry needs is refused without being quoted."""
    tell(poisoned(tmp_path, name), everything_said)


def test_the_case_folder_and_its_provenance(tmp_path: Path) -> None:
    folder = poisoned(tmp_path)
    case = tmp_path / "case"
    said = []
    for command in (
        ["new", case, "--ct", folder],
        ["run", case, "--to", "intake"],
        ["check-ct", folder],
        ["check-ct", folder, "--list", "--json"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "sacroplan.cli", *map(str, command)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout + done.stderr)
    files = [f for f in case.rglob("*") if f.is_file()]
    assert {"stage.json", "result.json", "case.toml", "provenance.json"} <= {f.name for f in files}
    said += [f.read_text("utf-8") for f in files if f.suffix in (".json", ".toml")]
    for text in said:
        for secret in SECRETS:
            if secret != "1955":
                assert secret not in text


def test_a_dicomdir_is_not_quoted(tmp_path: Path, everything_said: list[str]) -> None:
    folder = poisoned(tmp_path)
    write_dicomdir(folder / "DICOMDIR", [["S000.DCM"], ["S001.DCM"], ["S002.DCM"], ["GONE"]])
    everything_said.append(repr(list_series(folder / "DICOMDIR")))
    ct = read_ct(folder / "DICOMDIR")
    everything_said += [repr(ct.info), repr(ct.doubts)]


def test_damaged_image_headers_are_not_quoted(tmp_path: Path, everything_said: list[str]) -> None:
    nrrd = (
        "NRRD0004\ntype: Doe^Jane\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n"
        "space: Doe^Jane\nDoe^Jane SECRET\n\n"
    )
    cases = {
        "a.nrrd": nrrd,
        "b.nrrd": nrrd.replace("Doe^Jane SECRET\n", ""),
        "c.nrrd": nrrd.replace("Doe^Jane SECRET\n", "").replace("type: Doe^Jane", "type: short"),
        "d.nrrd": nrrd.replace("sizes: 2 2 2", "sizes: Doe^Jane").replace("Doe^Jane SECRET\n", ""),
        "e.mha": "ObjectType = Image\nNDims = 3\nComment = Doe^Jane\nDimSize = Doe^Jane\n",
        "f.mhd": "NDims = 3\nDimSize = 2 2 2\nElementType = Doe\nElementDataFile = ../Doe^Jane\n",
    }
    for name, text in cases.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(SacroplanError) as caught:
            read_ct(tmp_path / name)
        everything_said.append(str(caught.value))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Pelvis 1.0 Br60", "Pelvis 1.0 Br60"),
        ("ABD/PELVIS W CONTRAST 2.5MM", "ABD PELVIS W CONTRAST 2.5 MM"),
        ("Becken Knochen 0,6 Müller Hans", "Becken Knochen 0,6 …"),
        ("DOE JANE 19550301", ""),
        ("Pelvis DOE 12345678 thin", "Pelvis … thin"),
        ("", ""),
    ],
)
def test_descriptions(text: str, told: str) -> None:
    assert dicom_words.description(text) == told


@pytest.mark.parametrize(
    ("name", "told", "kind"),
    [
        ("B70s", "B70s", "sharp"),
        ("Br38f/3", "Br38f/3", "smooth"),
        ("BONE", "BONE", "sharp"),
        ("STANDARD", "STANDARD", "smooth"),
        ("FC30", "FC30", "sharp"),
        ("FC13", "FC13", "smooth"),
        ("D", "D", "sharp"),
        ("B", "B", "smooth"),
        ("Doe^Jane", "", ""),
        ("Doe/3", "", ""),
    ],
)
def test_kernels(name: str, told: str, kind: str) -> None:
    assert dicom_words.kernel(name) == told
    assert dicom_words.kernel_class(told) == kind


def test_other_words() -> None:
    assert (
        dicom_words.model("SIEMENS", "SOMATOM Definition AS+") == "SIEMENS SOMATOM Definition AS+"
    )
    assert dicom_words.model("Doe^Jane", "Doe") == ""
    assert dicom_words.contrast("Ultravist 370 for Jane Doe") == "Ultravist 370"
    assert dicom_words.contrast("Doe") == "given"
    assert dicom_words.contrast("none") == "NO"
    assert dicom_words.month("19550301", "20240317") == "2024-03"
    assert dicom_words.uid("1.2.840.4711") == "1.2.840.4711"
    assert dicom_words.uid("19550301") == ""
    assert dicom_words.short_number("201") == "201"
    assert dicom_words.short_number("19550301") == ""
    assert dicom_words.key("Doe") != dicom_words.key("Roe")
