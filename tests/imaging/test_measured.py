"""Noise, sharpness, contrast and motion are measured as they were made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage, special

from sacroplan.geometry.volume import Volume, VolumeGeometry
from sacroplan.imaging.measured import bright_vessels, jumps, texture
from sacroplan.imaging.quality import check_ct

PIXEL = 0.8


def disc(blur_mm: float, noise: float = 20.0, n: int = 8, size: int = 150) -> Volume:
    """A round body of soft tissue in air, edge and noise blurred alike as by a kernel."""
    rng = np.random.default_rng(3)
    fine = 4
    grain = rng.normal(0, 1, (n, size * fine, size * fine)).astype(np.float32)
    if blur_mm > 0:
        sigma = blur_mm * fine / PIXEL
        grain = ndimage.gaussian_filter(grain, (0, sigma, sigma))
    grain = grain[:, ::fine, ::fine]
    grain *= noise / grain.std()
    y, x = np.mgrid[:size, :size]
    r = np.hypot(x - size / 2, y - size / 2) * PIXEL
    edge = special.erf((0.4 * size * PIXEL - r) / (np.sqrt(2) * max(blur_mm, 0.05)))
    image = -1000 + 1040 * 0.5 * (1 + edge) + grain
    data = np.ascontiguousarray(np.rint(image).astype(np.int16).transpose(2, 1, 0))
    return Volume(VolumeGeometry(data.shape, np.array([PIXEL, PIXEL, 1.0]), np.zeros(3)), data)


@pytest.mark.parametrize(
    ("blur", "kind"), [(0.0, "sharp"), (0.25, "sharp"), (0.55, "smooth"), (0.8, "smooth")]
)
def test_sharp_and_smooth_kernels_are_told_by_their_noise(blur: float, kind: str) -> None:
    volume = disc(blur)
    report = check_ct(volume, kernel="B70s", kernel_class="sharp")
    assert report.findings["imaging.kernel_measured"].value == kind
    codes = {d.code for d in report.doubts}
    assert ("imaging.kernel_contradicted" in codes) == (kind == "smooth")
    assert ("imaging.sharp_kernel" in codes) == (kind == "sharp")


def test_noise_grain_and_edge_grow_as_made() -> None:
    found = [texture(disc(blur), 2) for blur in (0.2, 0.5, 0.9)]
    grains = [t.grain_mm for t in found]
    edges = [t.edge_mm for t in found]
    assert grains[0] < grains[1] < grains[2]  # type: ignore[operator]
    assert grains[1] == pytest.approx(0.5, abs=0.12)
    assert edges[0] < edges[1] < edges[2]  # type: ignore[operator]
    # 10 to 90 % of a Gaussian edge is 2.56 sigma.
    assert edges[2] == pytest.approx(2.56 * 0.9, rel=0.25)
    assert texture(disc(0.3, 10.0), 2).noise_hu == pytest.approx(9.0, rel=0.15)
    assert texture(disc(0.3, 40.0), 2).noise_hu == pytest.approx(36.0, rel=0.15)


def test_the_texture_does_not_depend_on_the_slice_axis() -> None:
    volume = disc(0.4)
    turned = np.ascontiguousarray(np.moveaxis(volume.data, 2, 0))
    g = VolumeGeometry(turned.shape, np.array([1.0, PIXEL, PIXEL]), np.zeros(3))
    a, b = texture(volume, 2), texture(Volume(g, turned), 0)
    assert a.noise_hu == pytest.approx(b.noise_hu)
    assert a.grain_mm == pytest.approx(b.grain_mm)


def test_noise_and_blur_are_doubts() -> None:
    codes = {d.code for d in check_ct(disc(0.2, 90.0)).doubts}
    assert "imaging.noise" in codes
    codes = {d.code for d in check_ct(disc(1.3, 5.0)).doubts}
    assert "imaging.soft_edges" in codes
    assert "imaging.noise" not in codes


def test_an_image_without_air_or_noise_has_no_figures() -> None:
    flat = np.full((40, 40, 12), 40, np.int16)
    found = texture(Volume(VolumeGeometry(flat.shape, np.ones(3), np.zeros(3)), flat), 2)
    assert (found.grain_mm, found.edge_mm) == (None, None)
    assert found.noise_hu == pytest.approx(0.0, abs=1e-3)


def body(vessel_hu: float = 40.0, table: bool = False, bladder_hu: float = 40.0) -> Volume:
    """A trunk with two vessels beside a tube of cortex around marrow, a bladder and a table."""
    shape = (100, 90, 60)
    data = np.full(shape, -1000.0)
    i, j, k = np.indices(shape)
    data[np.hypot(i - 50, (j - 42) * 1.2) < 40] = 40
    bone = np.hypot(i - 50, j - 60)
    data[bone < 12] = 800
    data[bone < 10] = 200
    for centre in (38, 62):
        # Vessels lean, and lie one voxel from the bone.
        data[np.hypot(i - centre - 0.05 * k, j - 45) < 4] = vessel_hu
    data[np.sqrt((i - 50) ** 2 + (j - 25) ** 2 + (k - 15) ** 2) < 12] = bladder_hu
    if table:
        data[:, 80:83] = 160
    rng = np.random.default_rng(1)
    data += rng.normal(0, 12, shape)
    g = VolumeGeometry(shape, np.array([1.5, 1.5, 2.0]), np.zeros(3))
    return Volume(g, np.rint(data).astype(np.int16))


def test_vessels_with_contrast_are_suspected_where_the_header_is_silent() -> None:
    found = bright_vessels(body(260.0))
    assert found.pieces == 2
    assert found.volume_cm3 == pytest.approx(2 * np.pi * 4**2 * 60 * 4.5 / 1000, rel=0.35)
    assert found.mean_hu == pytest.approx(260, abs=40)
    codes = {d.code for d in check_ct(body(260.0)).doubts}
    assert "imaging.contrast_suspected" in codes
    told = check_ct(body(260.0), contrast="NO")
    [doubt] = [d for d in told.doubts if d.code == "imaging.contrast_suspected"]
    assert "none was given" in doubt.message
    codes = {d.code for d in check_ct(body(260.0), contrast="Ultravist 370").doubts}
    assert "imaging.contrast" in codes
    assert "imaging.contrast_suspected" not in codes


def test_blood_marrow_and_the_table_are_no_contrast() -> None:
    found = bright_vessels(body(table=True))
    assert found.pieces == 0
    assert found.other_cm3 == 0.0


def test_a_bright_bladder_is_an_organ_not_a_vessel() -> None:
    found = bright_vessels(body(bladder_hu=300.0))
    assert found.pieces == 0
    assert found.other_cm3 == pytest.approx(4 / 3 * np.pi * 12**3 * 4.5 / 1000, rel=0.3)
    codes = {d.code for d in check_ct(body(bladder_hu=300.0)).doubts}
    assert "imaging.contrast_suspected" in codes


def ring(step: float = 0.0, at: int = 20, n: int = 40) -> Volume:
    """A leaning ring of bone; above slice ``at`` it is moved by ``step`` mm along j."""
    i, j = np.mgrid[:80, :80].astype(float)
    rng = np.random.default_rng(2)
    out = np.empty((80, 80, n))
    for k in range(n):
        shift = 0.3 * k * 0.5 + (step if k >= at else 0.0)
        r = np.hypot(i - 40, j - 34 - shift)
        out[:, :, k] = 40 + 760 * np.exp(-((r - 20) ** 2) / 8)
    out += rng.normal(0, 20, out.shape)
    g = VolumeGeometry(out.shape, np.ones(3), np.array([0.0, 0.0, 100.0]))
    return Volume(g, np.rint(out).astype(np.int16))


@pytest.mark.parametrize("step", [1.0, 2.0, -3.0])
def test_a_step_between_slices_is_placed_and_measured(step: float) -> None:
    steps, found = jumps(ring(step), 2)
    [jump] = found
    assert jump.place[2] == pytest.approx(119.5)
    # Least squares on grey levels stretch a step of several pixels a little.
    assert jump.size_mm == pytest.approx(abs(step), rel=0.17)
    assert steps.shape == (39,)
    report = check_ct(ring(step))
    [doubt] = [d for d in report.doubts if d.code == "imaging.motion"]
    assert "does not fit" in doubt.message
    assert "z = 120 mm" in doubt.message


def test_leaning_bones_and_bones_that_begin_are_no_motion() -> None:
    assert jumps(ring(), 2)[1] == ()
    data = ring().data.copy()
    data[10:20, 10:20, 25:] = 900
    assert jumps(Volume(ring().geometry, data), 2)[1] == ()


@pytest.mark.shared
def test_real_cts(shared: Path) -> None:
    """The woman's CT does not move until it is moved; nobody was given contrast."""
    from sacroplan.formats.ct import read_ct

    whole = read_ct(shared / "data" / "vhf_pelvis_ct_1mm").volume
    part = whole.cropped([60, 100, 40], [450, 420, 80])
    assert jumps(part, 2)[1] == ()
    data = part.data.copy()
    data[:, :, 20:] = np.roll(data[:, :, 20:], 2, axis=1)
    [jump] = jumps(Volume(part.geometry, data), 2)[1]
    assert jump.place[2] == pytest.approx(part.geometry.origin[2] + 19.5)
    assert jump.size_mm == pytest.approx(2.0, abs=0.3)
    assert bright_vessels(part).pieces == 0
    thick = read_ct(shared / "data" / "real_ct_3mm" / "ct.nii.gz").volume
    assert bright_vessels(thick).pieces == 0
    trunk = read_ct(shared / "data" / "dicom_awkward" / "trunk_no_pelvis")
    assert trunk.info.kernel_class == "smooth"
    grain = texture(trunk.volume, 2).grain_mm
    assert grain is not None
    assert grain > 0.4
