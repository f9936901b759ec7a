"""Element moduli: bone from the CT, metal and joint tissue from the evidence table.

One modulus per element, the mean over twenty points of it, rounded to a geometric group. The solver
and the exported deck read the same rounded numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.errors import Doubt, MechanicsError
from sacroplan.geometry.frames import AxisFrame, FloatArray, IntArray
from sacroplan.geometry.sampling import sample
from sacroplan.geometry.volume import Volume
from sacroplan.imaging.calibration import Calibration
from sacroplan.mechanics import laws
from sacroplan.mechanics.elasticity import checked, mean_isotropic, rotated
from sacroplan.mechanics.mesh import TetMesh, face_neighbours
from sacroplan.mechanics.problem import no_tensors
from sacroplan.mechanics.solids import Implicit

JOINT_BONES: Mapping[str, tuple[str, str]] = {
    "sacroiliac_left": ("sacrum", "hip_left"),
    "sacroiliac_right": ("sacrum", "hip_right"),
    "symphysis": ("hip_left", "hip_right"),
    "facets_L2_L3": ("L2", "L3"),
    "facets_L3_L4": ("L3", "L4"),
    "facets_L4_L5": ("L4", "L5"),
    "facets_L5_S1": ("L5", "sacrum"),
}
"""Thin joints whose meshed thickness is corrected for; discs are thicker than their elements."""

VERTEBRAE = ("L1", "L2", "L3", "L4", "L5")
"""Bones mapped by the vertebral law and without an explicit pelvic cortex."""

_COUNTS = [
    (i, j, k, 3 - i - j - k) for i in range(4) for j in range(4 - i) for k in range(4 - i - j)
]
SAMPLES = (np.array(_COUNTS, dtype=np.float64) + 0.25) / 4.0
"""(20, 4) evenly spread barycentric points inside an element."""


@dataclass(frozen=True, eq=False)
class PorousMaterial:
    """What a porous layer is made of, homogenised.

    Attributes
    ----------
    stiffness_mpa : (6, 6) stiffness in ``axes``, Voigt order xx yy zz yz xz xy, engineering shear.
    axes : (3, 3) columns are the tensor's axes in LPS.
    yield_mpa : strength of the porous metal; LAT-01 at the study's porosity when None.
    rows : evidence behind it.
    """

    stiffness_mpa: FloatArray
    axes: FloatArray
    yield_mpa: float | None = None
    rows: tuple[str, ...] = ()


OUTSIDE_SHARE = 0.2
"""A bone with more of its volume outside the image than this is not in the image's frame."""

VOID_SHARE = 0.95
"""A bone with more of its volume free of mineral than this is not where the image shows it."""


@dataclass(frozen=True, eq=False)
class Materials:
    """Per element: what it is made of.

    Attributes
    ----------
    young_mpa, poisson : (m,) moduli, rounded to groups.
    apparent_g_cm3 : (m,) mean apparent density of bone, NaN elsewhere.
    cortical_share : (m,) share of the element within the explicit cortex.
    at_floor : (m,) bone elements whose modulus is the void floor.
    calibration : HU to density.
    law : name of the law set.
    doubts : reservations.
    tensors_mpa : (k, 6, 6) stiffnesses of anisotropic layers in the mesh's axes.
    tensor : (m,) which of them an element takes, -1 for an isotropic one.
    """

    young_mpa: FloatArray
    poisson: FloatArray
    apparent_g_cm3: FloatArray
    cortical_share: FloatArray
    at_floor: npt.NDArray[np.bool_]
    calibration: Calibration
    law: str
    doubts: tuple[Doubt, ...]
    tensors_mpa: FloatArray
    tensor: IntArray


def grouped(young_mpa: FloatArray) -> FloatArray:
    """Moduli rounded to powers of the group ratio (SP-MECH-10), at most 1 % off."""
    step = np.log(evidence.value("SP-MECH-10", "ratio"))
    value = np.exp(np.rint(np.log(young_mpa) / step) * step)
    # Six digits, so that a deck prints exactly what the solver used.
    scale = 10.0 ** (5 - np.floor(np.log10(value)))
    return np.asarray(np.rint(value * scale) / scale)


def _sampled_hu(volume: Volume, points: FloatArray) -> tuple[FloatArray, float]:
    """(HU at points (n, 3), share of them more than a voxel outside the image)."""
    geometry = volume.geometry
    index = geometry.to_index(points)
    inside = np.clip(index, 0.0, np.array(geometry.shape) - 1.0)
    far = float(np.mean(np.abs(index - inside).max(axis=1) > 1.0)) if len(points) else 0.0
    return sample(geometry, volume.data, geometry.to_world(inside), np.nan), far


def _bone(
    name: str,
    mesh: TetMesh,
    chosen: npt.NDArray[np.bool_],
    depth: Implicit,
    volume: Volume,
    axes: AxisFrame,
    calibration: Calibration,
    law: laws.Law,
    shell: bool,
) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    """(modulus, apparent density, cortical share) of chosen elements, share of metal in the CT."""
    p = np.einsum("qc,mcd->mqd", SAMPLES, mesh.nodes[mesh.elements[chosen, :4]])
    flat = np.ascontiguousarray(p.reshape(-1, 3))
    hu, outside = _sampled_hu(volume, axes.to_world(flat))
    if outside > OUTSIDE_SHARE:
        raise MechanicsError(
            f"{name} lies outside the CT: {100 * outside:.0f} % of its volume has no voxel. The bone "
            "and the image are not in one frame, or the image is cropped; check both."
        )
    qct = calibration.qct(hu)
    young = law(qct)
    cortex = np.zeros(len(flat), dtype=bool)
    if shell:
        cortex = depth(flat) > -evidence.value("DIM-17", "thickness")
        young = np.where(cortex, evidence.value("EM-14", "modulus"), young)
    void = float(np.mean(qct <= 0.0)) if len(qct) else 0.0
    if void > VOID_SHARE:
        raise MechanicsError(
            f"{name} holds no bone: the CT shows no mineral in {100 * void:.0f} % of its volume, so "
            "its modulus would be that of a void. The bone and the image do not share a frame, or "
            "the HU are not calibrated."
        )
    young = np.maximum(young, evidence.value("EM-16", "floor"))
    metal = float(np.mean(hu > evidence.value("CT-09", "threshold"))) if len(hu) else 0.0
    q = len(SAMPLES)
    return (
        young.reshape(-1, q).mean(axis=1),
        laws.apparent_density(qct).reshape(-1, q).mean(axis=1),
        cortex.reshape(-1, q).mean(axis=1),
        metal,
    )


def joint_material(name: str) -> tuple[float, float]:
    """(modulus MPa, Poisson ratio) of a joint by the kind its name begins with. MAT-B4, MAT-B5."""
    if name.startswith("disc"):
        return evidence.value("MAT-B4", "modulus"), evidence.value("MAT-B4", "poisson")
    if name.startswith("sacroiliac"):
        return evidence.value("MAT-B5", "cartilage"), evidence.value("MAT-B5", "cartilage_poisson")
    if name.startswith("symphysis"):
        return evidence.value("MAT-B5", "symphysis"), evidence.value("MAT-B5", "symphysis_poisson")
    if name.startswith("facets"):
        return evidence.value("SP-MECH-20", "cartilage"), evidence.value("SP-MECH-20", "poisson")
    raise MechanicsError(f"No material is known for the joint {name!r}.")


THICKNESS_RANGE = (0.25, 4.0)
"""A joint layer further off its true thickness than this is not corrected further."""


def joint_layer(
    mesh: TetMesh, name: str, a: str, b: str, bone_depth: Mapping[str, Implicit]
) -> tuple[float, float]:
    """(meshed, true) mean thickness, mm, of a joint layer between bones ``a`` and ``b``.

    One element must separate the bones, so a thin joint is meshed too thick. True is the sum of the
    distances to both bones, at least the carved gap.
    """

    joint = mesh.of(name)
    corners = np.ascontiguousarray(mesh.elements[:, :4])
    neighbours = face_neighbours(corners)[joint]
    bone = mesh.of(a) | mesh.of(b)
    element, corner = np.nonzero((neighbours >= 0) & bone[neighbours])
    # The face opposite to each corner.
    face = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])[corner]
    p = mesh.nodes[np.take_along_axis(corners[joint][element], face, axis=1)]
    area = 0.5 * np.linalg.norm(np.cross(p[:, 1] - p[:, 0], p[:, 2] - p[:, 0]), axis=1).sum()
    volume = mesh.volumes[joint]
    centre = mesh.centroids[joint]
    gap = np.maximum(
        bone_depth[a](centre) + bone_depth[b](centre), evidence.value("SP-MECH-06", "carved_gap")
    )
    return float(2.0 * volume.sum() / max(area, 1e-9)), float(np.average(gap, weights=volume))


def assign(
    mesh: TetMesh,
    bone_depth: Mapping[str, Implicit],
    volume: Volume,
    axes: AxisFrame,
    calibration: Calibration,
    law_name: str,
    porosity: float,
    porous: Mapping[str, PorousMaterial] | None = None,
    graft_mpa: Mapping[str, float] | None = None,
) -> Materials:
    """Moduli of every element of a mesh in the local coordinates of ``axes``.

    ``bone_depth`` holds the *intact* bones: the cortex lies under the periosteum, not under a cut.
    ``porous`` gives layers (by part name without ``porous_``) a stiffness tensor; the others take
    the isotropic law of ``porosity``. ``graft_mpa`` holds the modulus of every graft. Raises
    :class:`MechanicsError` on a bone outside the image or without bone in it.
    """
    m = len(mesh.elements)
    young, poisson = np.full(m, np.nan), np.full(m, np.nan)
    apparent, cortical = np.full(m, np.nan), np.zeros(m)
    chosen_laws = laws.law_set(law_name)
    titanium = 1000.0 * evidence.value("MAT-T1", "modulus")
    doubts = list(calibration.doubts)
    tensor = np.full(m, -1, dtype=np.int32)
    tensors: list[FloatArray] = []
    given = porous or {}
    for name, kind in zip(mesh.names, mesh.kinds, strict=True):
        at = mesh.of(name)
        if not at.any():
            continue
        if kind == "joint":
            young[at], poisson[at] = joint_material(name)
            ends = JOINT_BONES.get(name)
            if ends is not None:
                meshed, true = joint_layer(mesh, name, *ends, bone_depth)
                # The layer keeps its stiffness per area, E over thickness.
                young[at] *= np.clip(meshed / true, *THICKNESS_RANGE)
        elif kind == "porous" and name.removeprefix("porous_") in given:
            material = given[name.removeprefix("porous_")]
            # The tensor's axes seen from the mesh's.
            turn = axes.axes.T @ np.asarray(material.axes, dtype=np.float64)
            tensors.append(rotated(checked(material.stiffness_mpa, name), turn))
            tensor[at] = len(tensors) - 1
            young[at], poisson[at] = mean_isotropic(tensors[-1])
        elif kind == "porous":
            young[at] = laws.porous_titanium(porosity)[0]
            poisson[at] = evidence.value("MAT-T1", "poisson")
        elif kind == "graft":
            young[at] = (graft_mpa or {})[name.removeprefix("graft_")]
            poisson[at] = evidence.value("MAT-B6", "cortical")
        elif kind in ("core", "screw", "rod"):
            young[at], poisson[at] = titanium, evidence.value("MAT-T1", "poisson")
        else:
            vertebra = name in VERTEBRAE
            law = laws.LAWS[chosen_laws.vertebra if vertebra else chosen_laws.pelvis]
            e, rho, cortex, metal = _bone(
                name, mesh, at, bone_depth[name], volume, axes, calibration, law, not vertebra
            )
            young[at], apparent[at], cortical[at] = e, rho, cortex
            poisson[at] = np.where(
                cortex > 0.5,
                evidence.value("MAT-B6", "cortical"),
                evidence.value("MAT-B6", "trabecular"),
            )
            if metal > 0:
                doubts.append(
                    Doubt(
                        "mechanics",
                        f"mechanics.metal_in_{name}",
                        f"{100 * metal:.2g} % of {name} shows HU above "
                        f"{evidence.value('CT-09', 'threshold'):.0f}: metal in the image makes the "
                        "mapped stiffness there unreliable.",
                        ("CT-09",),
                    )
                )
    floor = evidence.value("EM-16", "floor")
    bone = mesh.of_kind("bone")
    at_floor = bone & (young <= floor * (1.0 + 1e-9))
    return Materials(
        grouped(young), poisson, apparent, cortical, at_floor, calibration, law_name, tuple(doubts),
        np.array(tensors) if tensors else no_tensors(), tensor,
    )  # fmt: skip
