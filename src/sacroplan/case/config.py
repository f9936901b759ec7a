"""``case.toml``: what people decide. Every key is known; a wrong one is named with its line."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from sacroplan.errors import CaseError, PlanError

Vector = tuple[float, float, float]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class InputTable(_Table):
    """Files, relative to the case folder unless absolute."""

    ct: str
    series: str | None = None
    labels: str | None = None
    labels_scheme: Literal[
        "auto", "own", "totalsegmentator", "totalsegmentator_v1", "totalsegmentator_v3"
    ] = "auto"
    segmenter: Literal["built-in", "totalsegmentator"] = "built-in"
    landmarks: str | None = None
    seeds: str | None = None


class PatientTable(_Table):
    """What the plan must know about the patient; no identity belongs here."""

    body_mass_kg: Annotated[float, Field(gt=20, lt=300)] = 70.0
    surgery: Annotated[str, Field(pattern=r"^\d{4}-\d{2}(-\d{2})?$")] | None = None
    levels_confirmed: bool = False


class MriTable(_Table):
    """An MRI of the pelvis; ``transform`` is the user's own from CT to MRI (ITK, LPS)."""

    image: str | None = None
    series: str | None = None
    transform: str | None = None
    accepted: bool = False


class InsertTable(_Table):
    """One insert of a density phantom: a ball at one point, a rod between two. LPS mm."""

    points_mm: Annotated[tuple[Vector, ...], Field(min_length=1, max_length=2)]
    radius_mm: Annotated[float, Field(gt=0, le=60)]
    density_mg_cm3: Annotated[float, Field(ge=-200, le=2000)]


class CalibrationTable(_Table):
    """HU to density; without a method the patient's own air, fat and muscle, or a loud assumption."""

    method: Literal["air-fat-muscle", "phantom", "fixed"] | None = None
    material: Literal["K2HPO4", "CaHA"] | None = None
    inserts: tuple[InsertTable, ...] = ()
    slope: Annotated[float, Field(gt=0, lt=5)] | None = None
    offset_mg_cm3: Annotated[float, Field(ge=-300, le=300)] | None = None
    kvp: Annotated[float, Field(ge=60, le=160)] | None = None


class EllipsoidTable(_Table):
    """One ellipsoid of tumour, LPS mm."""

    centre_mm: Vector
    radii_mm: Vector


class TumourTable(_Table):
    """Tumour from a mask on the CT or on the MRI, a shape, or a label called ``tumour``."""

    mask: str | None = None
    mri_mask: str | None = None
    ellipsoids: tuple[EllipsoidTable, ...] = ()


class CutTable(_Table):
    """The user's own cut; the normal points to the specimen.

    One plane by ``point_mm`` and ``normal``; a chain of planes by ``points_mm``, ``normal`` (of its
    first facet) and ``saw``, the direction out of the bone along the blade.
    """

    point_mm: Vector | None = None
    normal: Vector
    bone: Literal["sacrum", "L5", "hip_left", "hip_right"] | None = None
    points_mm: Annotated[tuple[Vector, ...], Field(min_length=2, max_length=12)] | None = None
    saw: Vector | None = None
    depth_mm: Annotated[float, Field(gt=2, le=200)] | None = None
    width_mm: Annotated[float, Field(gt=3, le=400)] | None = None
    open_ends: bool = True

    @model_validator(mode="after")
    def _placed(self) -> CutTable:
        if (self.point_mm is None) == (self.points_mm is None):
            raise ValueError("a cut has either point_mm (one plane) or points_mm (a chain)")
        return self


class ResectionTable(_Table):
    """The osteotomies."""

    type: Literal[
        "total", "high", "mid", "low", "hemi", "hemipelvectomy", "free",
        "kaiser-2025-case-2", "kaiser-2025-case-3",
    ] = "total"  # fmt: skip
    side: Literal["left", "right"] | None = None
    l5: Literal["none", "partial", "whole"] = "none"
    joint: Literal["osteotomy", "disarticulation"] = "osteotomy"
    line: Literal["midline", "foramina", "oblique"] = "midline"
    lowest: Literal["S1", "S2", "S3", "S4", "S5"] = "S5"
    kerf_mm: Annotated[float, Field(ge=0.3, le=3.0)] | None = None
    margin_mm: Annotated[float, Field(ge=0.0, le=40.0)] | None = None
    margins_mm: dict[str, Annotated[float, Field(ge=0.0, le=40.0)]] = Field(default_factory=dict)
    cuts: dict[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,23}$")], CutTable] = Field(
        default_factory=dict
    )
    planes: str | None = None
    vessels: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], str] = Field(
        default_factory=dict
    )


Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,31}$")]


class OwnScrewTable(_Table):
    """A screw that someone placed: bone entry and tip on the CT, LPS mm. It is measured, not moved."""

    kind: Literal["pedicle", "iliac", "iliolumbar", "s2ai", "trans_sacral"] = "pedicle"
    level: Literal["L2", "L3", "L4", "L5", "S1", "S2", "ilium"]
    side: Literal["left", "right"]
    entry_mm: Vector
    tip_mm: Vector
    diameter_mm: Annotated[float, Field(ge=3.0, le=14.0)]

    @model_validator(mode="after")
    def _has_length(self) -> OwnScrewTable:
        if sum((a - b) ** 2 for a, b in zip(self.entry_mm, self.tip_mm, strict=True)) < 100.0:
            raise ValueError("entry_mm and tip_mm lie less than 10 mm apart")
        return self


class WireTable(_Table):
    """A guide wire that stays while screws are set, LPS mm."""

    start_mm: Vector
    end_mm: Vector
    diameter_mm: Annotated[float, Field(gt=0.3, le=6.0)]


class FixationTable(_Table):
    """Screws and rods. ``construct`` plans screws and rods alone, without a resection.

    ``own`` : screws placed by someone. ``wires``, ``vessels`` (masks on the CT) : what screws keep clear
    of.
    """

    rod_diameter_mm: Annotated[float, Field(ge=4.5, le=7.0)] | None = None
    construct_name: Annotated[str | None, Field(alias="construct")] = None
    aim: Literal["clearance", "purchase", "bone"] = "clearance"
    catalogue: str | None = None
    rods: Literal["two", "four"] = "two"
    cross_connectors: Annotated[int, Field(ge=0, le=6)] = 0
    own: dict[Name, OwnScrewTable] = Field(default_factory=dict)
    wires: dict[Name, WireTable] = Field(default_factory=dict)
    vessels: dict[Name, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _alone(self) -> FixationTable:
        given = [n for n in ("own", "wires", "vessels") if getattr(self, n)]
        given += ["rods"] if self.rods == "four" else []
        if given and self.construct_name is None:
            raise ValueError(
                f"{' and '.join(given)} are read where screws are planned alone; name a construct as well "
                '(construct = "own" plans none beside yours)'
            )
        return self


class NavigationTable(_Table):
    """Registration and accuracy: markers on the CT, LPS mm; mean errors of a hand's tail and tip."""

    markers: dict[str, Vector] = Field(default_factory=dict)
    fle_mm: Annotated[float, Field(gt=0, le=5)] | None = None
    robot: Literal["ROB-1", "ROB-2", "ROB-4"] = "ROB-2"
    freehand_tail_mm: Annotated[float, Field(gt=0, le=20)] | None = None
    freehand_tip_mm: Annotated[float, Field(gt=0, le=20)] | None = None
    draws: Annotated[int, Field(ge=1000, le=1_000_000)] = 10_000


class ImplantTable(_Table):
    """The implant; None means the resection's own design and the evidence row's default.

    ``parameters`` sets any parameter of the design envelope by its name, such as ``wing_depth_mm``.
    """

    design: Literal["total", "hemi_left", "hemi_right", "self_stabilising"] | None = None
    porous_thickness_mm: Annotated[float, Field(ge=1.0, le=5.0)] | None = None
    cell_type: Literal[
        "gyroid_network", "gyroid_sheet", "diamond_network", "diamond_strut", "dodecahedron_strut"
    ] = "gyroid_network"  # fmt: skip
    cell_mm: Annotated[float, Field(ge=0.6, le=5.0)] | None = None
    porosity_percent: Annotated[float, Field(ge=30, le=90)] | None = None
    """At the bone; all through the layer without ``core_porosity_percent``."""
    core_porosity_percent: Annotated[float, Field(ge=30, le=90)] | None = None
    printer_minimum_mm: Annotated[float, Field(gt=0, le=2)] | None = None
    """Thinnest strut or wall of the machine that prints it."""
    parameters: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{2,31}$")], float] = Field(
        default_factory=dict
    )


class GuidesTable(_Table):
    """The cutting guides; ``walls`` is how many sides of the blade a slot captures.

    ``blade_length_mm``, shoulder to teeth, makes the platform the saw's depth stop.
    """

    blade_length_mm: Annotated[float, Field(ge=20.0, le=150.0)] | None = None
    blade_mm: Annotated[float, Field(ge=0.4, le=2.0)] | None = None
    walls: Literal[1, 2, 3] = 3
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,4}$")] = "1"


class MechanicsTable(_Table):
    """The finite-element model."""

    bone_element_mm: Annotated[float, Field(ge=2.0, le=10.0)] | None = None
    metal_element_mm: Annotated[float, Field(ge=0.8, le=6.0)] | None = None
    healing: bool = False
    """Also solve the frictional states before ingrowth."""
    catalogue: Literal["habitual", "core", "full"] = "habitual"
    """``habitual``: standing and walking only, so that a plan ends in six minutes on two cores; ``core``
    adds moments, follower load and log-roll, ``full`` single-leg stance, stairs, sitting."""
    envelope: bool = False
    """Also solve with the low and the high bone law."""
    compare: bool = False
    """Also mesh and load the other roads of a total sacrectomy: fixation with one and two iliac screws,
    four rods, these with struts, the implant alone. Two to four minutes more."""
    joints: Literal["bonded", "contact"] = "bonded"
    """``contact``: sacroiliac and facet joints only press and ligaments only pull, at twice the
    time per load case; ``bonded``: cartilage also carries tension and there are no ligaments."""

    @model_validator(mode="after")
    def _one_kind_of_contact(self) -> MechanicsTable:
        if self.healing and self.joints == "contact":
            raise ValueError(
                'the frictional stages (healing = true) are computed with joints = "bonded" only; '
                "run joints in contact as a study of its own"
            )
        return self


class GraftsTable(_Table):
    """Living bone: closed surfaces (STL, LPS mm), or ``synthetic`` for a worked example.

    ``fibula_proximal`` points from the donor's ankle to its knee; up along the CT without it.
    ``fibula_lateral`` points out of the leg on the fibula's side; without it no saw guide is made.
    """

    fibula: str | None = None
    fibula_proximal: Vector | None = None
    fibula_lateral: Vector | None = None
    struts_per_side: Literal[1, 2] = 1
    femur: Literal["synthetic"] | None = None


class CaseTable(_Table):
    """The case itself."""

    id: str
    schema_version: Literal[1] = 1

    @field_validator("id")
    @classmethod
    def _short_plain(cls, value: str) -> str:
        allowed = set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
        if not value or len(value) > 24 or set(value) - allowed:
            raise ValueError(
                "a case id has 1 to 24 letters, digits, '-' or '_' (it is engraved on the guides)"
            )
        return value


class CaseConfig(_Table):
    """The whole of ``case.toml``."""

    case: CaseTable
    input: InputTable
    patient: PatientTable = PatientTable()
    mri: MriTable = MriTable()
    calibration: CalibrationTable = CalibrationTable()
    tumour: TumourTable = TumourTable()
    resection: ResectionTable = ResectionTable()
    landmarks: dict[str, Vector] = Field(default_factory=dict)
    seeds: dict[str, tuple[Vector, ...]] = Field(default_factory=dict)
    fixation: FixationTable = FixationTable()
    navigation: NavigationTable = NavigationTable()
    implant: ImplantTable = ImplantTable()
    guides: GuidesTable = GuidesTable()
    mechanics: MechanicsTable = MechanicsTable()
    grafts: GraftsTable = GraftsTable()
    facts: dict[str, bool | float | str] = Field(default_factory=dict)

    @field_validator("facts")
    @classmethod
    def _known_facts(cls, value: dict[str, bool | float | str]) -> dict[str, bool | float | str]:
        from sacroplan.options.facts import facts_of

        try:
            facts_of(value)
        except PlanError as error:
            raise ValueError(str(error).rstrip(".")) from error
        return value


def _line_of(text: str, path: tuple[str | int, ...]) -> int | None:
    """Line (from 1) on which the last named key of ``path`` stands, by walking the tables."""
    names = [str(p) for p in path if not isinstance(p, int)]
    if not names:
        return None
    here: list[str] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.split("#", 1)[0].strip()
        if line.startswith("["):
            here = [p.strip().strip("\"'") for p in line.strip("[]").split(".")]
            if here == names:
                return number
        elif "=" in line:
            key = [p.strip().strip("\"'") for p in line.split("=", 1)[0].split(".")]
            full = here + key
            if full == names[: len(full)] and len(full) >= min(len(names), len(here) + 1):
                return number
    return None


def parse_config(text: str, origin: str) -> CaseConfig:
    """Validate the text of a case.toml; raises :class:`CaseError` naming key and line."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CaseError(f"{origin} is not valid TOML: {error}.") from error
    try:
        return CaseConfig.model_validate(table)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        location = tuple(first["loc"])
        line = _line_of(text, location)
        where = ".".join(str(p) for p in location)
        at = f"{origin}, line {line}" if line else origin
        if first["type"] == "extra_forbidden":
            known = _known_keys(location[:-1])
            message = f"{at}: the key {where!r} is not known."
            if known:
                from difflib import get_close_matches

                close = get_close_matches(str(location[-1]), known, 1)
                message += f" Did you mean {close[0]!r}?" if close else f" Known: {known}."
            raise CaseError(message) from error
        if first["type"] == "missing":
            raise CaseError(f"{at}: the key {where!r} is missing.") from error
        raise CaseError(f"{at}: {where} = {first.get('input')!r}: {first['msg']}.") from error


def _known_keys(path: tuple[str | int, ...]) -> list[str]:
    model: type[BaseModel] = CaseConfig
    for part in path:
        info = model.model_fields.get(str(part))
        kind = info.annotation if info is not None else None
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            return []
        model = kind
    return sorted(info.alias or name for name, info in model.model_fields.items())


def read_config(case: Path) -> CaseConfig:
    """Read ``case.toml`` of a case folder."""
    path = case / "case.toml"
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise CaseError(
            f"{case} is not a case folder: it has no case.toml. Make one with "
            f"'sacroplan new {case} --ct PATH'."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CaseError(f"{path} cannot be read: {error}.") from error
    return parse_config(text, str(path))


TEMPLATE = """\
# A sacroplan case. Lengths in mm, LPS (x to the patient's left, y posterior, z superior).
# Research software. Not a medical device.

[case]
id = "{id}"

[input]
ct = "{ct}"
{series}{labels}
[patient]
body_mass_kg = 70          # scales loads given in body weight
# surgery = "2026-05"      # month of surgery, tells how old the scan will be

{mri}[tumour]
{tumour}
[resection]
type = "total"             # or high, mid, low, hemi, hemipelvectomy, free; see docs/tutorial-resection.md
# side = "right"           # of a hemisacrectomy or hemipelvectomy
# l5 = "partial"           # or whole: L5 goes along
# kerf_mm = 1.25           # bone the blade removes [GDE-05]
# margin_mm = 10           # wanted planned margin in bone [MAR-3]
# [resection.cuts.iliac_left]   # your own plane; the normal points to the specimen
# point_mm = [60.0, 30.0, -20.0]
# normal = [-1.0, 0.0, 0.0]
# planes = "planes.mrk.json"    # under [resection]: planes moved in 3D Slicer replace the automatic ones
# vessels = {{ iliac_vein_left = "vein.nii.gz" }}   # under [resection]: masks; vessels near a cut are named

# [guides]
# walls = 2                # a slot open at one end; 1 leaves only the wall of the bone that stays
# blade_mm = 0.9           # the saw's blade [GDE-04]
# blade_length_mm = 70     # shoulder to teeth: the guide's platform becomes the saw's depth stop

# levels_confirmed = true under [patient]: the count of the vertebrae was checked by a person
# landmarks = "landmarks.mrk.json" under [input]: points moved in 3D Slicer replace the automatic ones
# [landmarks]              # so do these, before those of the file
# PSIS_L = [40.0, 80.0, 10.0]

# [calibration]            # without it: the patient's own air, fat and muscle [CAL-01]
# method = "fixed"         # or "phantom" with [[calibration.inserts]], see docs/tutorial-real-ct.md
# slope = 0.80             # mg/cm3 per HU
# offset_mg_cm3 = 3.0
# kvp = 120

# [fixation]
# rod_diameter_mm = 6.0
# construct = "L4-L5-S2AI" # screws and rods alone, nothing is resected; or "paper-b-1", "L4-iliac.left" ...
# aim = "clearance"        # or "purchase", "bone"
# catalogue = "sizes.toml" # your own screw sizes
# rods = "four"            # iliac heads get rods of their own beside the medial ones [ROD-4]
# cross_connectors = 2     # between the rods [ROD-5]; also beside an implant
# [fixation.own.L4_left]   # a screw you placed; measured and graded. construct = "own": only such
# level = "L4"             # kind = "pedicle", or "iliac", "s2ai", "iliolumbar", "trans_sacral"
# side = "left"
# entry_mm = [30.0, 70.0, 40.0]
# tip_mm = [18.0, 28.0, 38.0]
# diameter_mm = 6.5
# [fixation.wires.k1]      # a guide wire that screws keep clear of
# start_mm = [50.0, 90.0, 10.0]
# end_mm = [80.0, 20.0, -20.0]
# diameter_mm = 2.0
# [fixation.vessels]       # masks on the CT
# iliac_left = "iliac_left.nii.gz"

# [facts]                  # for the choice of a reconstruction; see docs/tutorial-options.md
# intent = "curative"      # or palliative; leave out what is not known
# approach = "posterior"   # or combined

# [grafts]
# fibula = "fibula.stl"    # donor bone, closed surface; "synthetic" for a worked example
# [implant]
# design = "self_stabilising" # after total sacrectomy: screws into L5 instead of rods
# cell_type = "gyroid_network" # or gyroid_sheet, diamond_network, diamond_strut, dodecahedron_strut
# porosity_percent = 70    # of the porous layer, at the bone [POR-3]
# core_porosity_percent = 50 # at the core: the layer is then graded between the two
# printer_minimum_mm = 0.3 # thinnest strut or wall of your printer; thinner designs are refused
# [implant.parameters]     # any parameter of the design envelope, see the dossier's table
# wing_depth_mm = 15.0

# [navigation.markers]     # on the CT; target errors are predicted from them
# PSIS_L = [40.0, 80.0, 10.0]
"""


def new_config(
    case_id: str,
    ct: str,
    labels: str | None,
    tumour: str | None,
    series: str | None = None,
    mri: str | None = None,
    tumour_mri: str | None = None,
) -> str:
    """Text of a fresh case.toml, checked."""

    def quoted(path: str) -> str:
        return path.replace("\\", "/").replace('"', '\\"')

    text = TEMPLATE.format(
        id=case_id,
        ct=quoted(ct),
        series=f'series = "{quoted(series)}"\n' if series else "",
        labels=(
            f'labels = "{quoted(labels)}"\n'
            if labels
            else '# labels = "bones.seg.nrrd"   # own, TotalSegmentator, .seg.nrrd or DICOM SEG\n'
            '# segmenter = "totalsegmentator"   # where the extra "ai" and its weights are there\n'
            '# seeds = "clicks.mrk.json"   # points named after the bone they lie in, from 3D Slicer\n'
        ),
        mri=(
            f'[mri]\nimage = "{quoted(mri)}"\n'
            "# accepted = true          # after a look at dossier/mri/fusion.png\n\n"
            if mri
            else ""
        ),
        tumour=(
            f'mask = "{quoted(tumour)}"\n'
            if tumour
            else f'mri_mask = "{quoted(tumour_mri)}"\n'
            if tumour_mri
            else '# mask = "tumour.nii.gz"   # or [[tumour.ellipsoids]], or a label "tumour"\n'
        ),
    )
    parse_config(text, "case.toml")
    return text
