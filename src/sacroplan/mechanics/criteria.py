"""What is read off a solution: stress in metal, strain in bone, strain energy against the intact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sacroplan import evidence
from sacroplan.geometry.frames import FloatArray
from sacroplan.mechanics.mesh import EDGES, GAUSS, Locator, TetMesh
from sacroplan.mechanics.problem import Problem


@dataclass(frozen=True, slots=True)
class Peak:
    """A field within one part, with the singularity filters of HANDBOOK 2.6.

    ``p99``: value that 1 % of the volume exceeds; ``sphere``: largest mean over a sphere;
    ``raw``: largest single value, which grows with refinement at re-entrant edges.
    """

    p99: float
    sphere: float
    raw: float


def element_strains(mesh: TetMesh, displacement: FloatArray) -> FloatArray:
    """(m, 4, 6) tensor strains xx, yy, zz, xy, yz, zx at the integration points."""
    from sacroplan.mechanics import _fem_kernels as k

    u = np.ascontiguousarray(displacement)
    return np.asarray(k.strains(mesh.nodes, mesh.elements, u, GAUSS, EDGES))


def stresses(problem: Problem, strain: FloatArray) -> FloatArray:
    """(m, q, 6) stresses, MPa, of tensor strains (m, q, 6)."""
    return problem.stress(strain)


def von_mises(stress: FloatArray) -> FloatArray:
    """Von Mises stress of (..., 6) stresses."""
    xx, yy, zz, xy, yz, zx = np.moveaxis(stress, -1, 0)
    normal = (xx - yy) ** 2 + (yy - zz) ** 2 + (zz - xx) ** 2
    return np.asarray(np.sqrt(0.5 * normal + 3.0 * (xy**2 + yz**2 + zx**2)))


def energy_density(stress: FloatArray, strain: FloatArray) -> FloatArray:
    """Strain energy density (...,) N.mm/mm3 of (..., 6) stresses and tensor strains."""
    weight = np.array([0.5, 0.5, 0.5, 1.0, 1.0, 1.0])
    return np.asarray((stress * strain) @ weight)


def risk_factor(strain: FloatArray) -> FloatArray:
    """Largest principal strain over its limit, (...,), from tensor strains (..., 6). FAIL-1."""
    xx, yy, zz, xy, yz, zx = np.moveaxis(strain, -1, 0)
    tensor = np.stack(
        [np.stack([xx, xy, zx], -1), np.stack([xy, yy, yz], -1), np.stack([zx, yz, zz], -1)], -2
    )
    principal = np.linalg.eigvalsh(tensor)
    return np.maximum(
        principal[..., 2] / evidence.value("FAIL-1", "tension"),
        -principal[..., 0] / evidence.value("FAIL-1", "compression"),
    )


def volume_percentile(values: FloatArray, volumes: FloatArray, percent: float) -> float:
    """The value below which ``percent`` of the volume lies."""
    order = np.argsort(values, kind="stable")
    share = np.cumsum(volumes[order])
    at = int(np.searchsorted(share, percent / 100.0 * share[-1]))
    return float(values[order[min(at, len(order) - 1)]])


def peak(mesh: TetMesh, chosen: npt.NDArray[np.bool_], values: FloatArray) -> Peak | None:
    """Filtered maxima of ``values`` (m, q) over the chosen elements; None when there are none."""
    from sacroplan.mechanics import _fem_kernels as k

    index = np.flatnonzero(chosen)
    if not len(index):
        return None
    v = values[index]
    q = v.shape[1]
    volume = mesh.volumes[index]
    p99 = volume_percentile(
        v.ravel(), np.repeat(volume / q, q), evidence.value("SP-MECH-02", "percentile")
    )
    means = k.sphere_means(
        np.ascontiguousarray(mesh.centroids[index]),
        volume,
        v.mean(axis=1),
        evidence.value("SP-MECH-02", "sphere_radius"),
    )
    return Peak(p99, float(means.max()), float(v.max()))


@dataclass(frozen=True, eq=False)
class EnergyChange:
    """Strain energy density of remaining bone against the intact model.

    Attributes
    ----------
    ratio : (m,) after over before for every element of the reconstructed mesh, NaN where it was not
        compared (not bone, at the cut, or outside the intact mesh).
    compared_mm3 : volume compared.
    below_first_mm3, below_second_mm3 : volumes with a reduction beyond the two shares of SED-2.
    """

    ratio: FloatArray
    compared_mm3: float
    below_first_mm3: float
    below_second_mm3: float


def energy_change(
    after: Problem,
    after_energy: FloatArray,
    before: Problem,
    before_displacement: FloatArray,
    compared: npt.NDArray[np.bool_],
) -> EnergyChange:
    """Compare at the integration points of the compared elements (m,) of the later model.

    ``after_energy`` (m, 4) N.mm/mm3. Both meshes share one frame. The bone's density is the same on
    both sides, so the ratio of U / rho is the ratio of U. SED-1, SED-2.
    """
    from sacroplan.mechanics import _fem_kernels as k

    mesh, old = after.mesh, before.mesh
    index = np.flatnonzero(compared)
    points = np.einsum("qc,mcd->mqd", GAUSS, mesh.nodes[mesh.elements[index, :4]])
    element, bary = Locator(old, old.of_kind("bone"))(points.reshape(-1, 3))
    hit = element >= 0
    strain = k.strains_at(
        old.nodes,
        old.elements,
        np.ascontiguousarray(before_displacement),
        element[hit],
        bary[hit],
        EDGES,
    )
    e = element[hit]
    stress = before.stress(strain[:, None], e)[:, 0]
    flat = np.full(len(element), np.nan)
    flat[hit] = energy_density(stress, strain)
    energy = flat.reshape(-1, len(GAUSS))
    # Whole elements only: their mean energies are compared, which is stable on unlike meshes.
    with np.errstate(invalid="ignore", divide="ignore"):
        r = after_energy[index].mean(axis=1) / energy.mean(axis=1)
    ratio = np.full(len(mesh.elements), np.nan)
    ratio[index] = r
    good = np.isfinite(ratio)
    volume = mesh.volumes
    first = 1.0 - evidence.value("SED-2", "first") / 100.0
    second = 1.0 - evidence.value("SED-2", "second") / 100.0
    return EnergyChange(
        ratio,
        float(volume[good].sum()),
        float(volume[good & (ratio < first)].sum()),
        float(volume[good & (ratio < second)].sum()),
    )
