import numpy as np
import pytest
import SimpleITK as sitk

from extract.errors import ExtractError, SettingsError
from extract.phantom import rotation
from extract.planes import NOISE, SliceConfig, plane_axes, slice_volume
from extract.sampling import sample_oblique, sample_upright
from extract.volume import Volume, read_volume
from extract.volume_survey import otsu_threshold, survey_volume
from tests.extract.making import head_volume, write_nrrd


def volume_of(voxels: np.ndarray, spacing=(4.0, 4.0, 4.0)) -> Volume:
    return Volume("v", voxels.astype(np.float32), np.diag([*spacing, 1.0]))


def slices_of(voxels: np.ndarray, spacing=(4.0, 4.0, 4.0), fov_mm: float = 200.0, **settings):
    volume = volume_of(voxels, spacing)
    return slice_volume(volume, survey_volume(volume), SliceConfig(**{"size": 64, **settings}), fov_mm)


def marked(plane: str) -> np.ndarray:
    """The middle slice of a head with three bright balls: right, front and top are ever brighter."""
    shape = (45, 45, 45)
    a, b, c = np.meshgrid(*[np.arange(n) - 22 for n in shape], indexing="ij")
    voxels = np.where(a**2 + b**2 + c**2 < 20**2, 60.0, 0.0)
    for value, center in ((120, (12, 0, 0)), (180, (0, 12, 0)), (240, (0, 0, 12))):
        voxels[(a - center[0]) ** 2 + (b - center[1]) ** 2 + (c - center[2]) ** 2 < 16] = value
    found = slices_of(voxels, fov_mm=180.0, planes=(plane,), slices_per_plane=3)
    return found[1].pixels


def place(image: np.ndarray, rank: int) -> tuple[int, int]:
    """Where the ball of the rank-th brightness is: (row, column) from the center."""
    levels = np.unique(
        image[
            np.isin(image, [v for v, n in zip(*np.unique(image, return_counts=True), strict=True) if n > 12])
        ]
    )
    rows, columns = np.nonzero(image == levels[rank])
    return round(rows.mean() - 31.5), round(columns.mean() - 31.5)


def test_sagittal_shows_superior_up_and_anterior_left():
    image = marked("sagittal")
    assert place(image, -2)[1] < -10 and abs(place(image, -2)[0]) <= 1  # front ball: left
    assert place(image, -1)[0] < -10 and abs(place(image, -1)[1]) <= 1  # top ball: up


def test_coronal_shows_superior_up_and_the_patients_right_on_the_left():
    image = marked("coronal")
    assert place(image, -2)[1] < -10 and abs(place(image, -2)[0]) <= 1  # right ball: left
    assert place(image, -1)[0] < -10 and abs(place(image, -1)[1]) <= 1


def test_axial_shows_anterior_up_and_the_patients_right_on_the_left():
    image = marked("axial")
    assert place(image, -2)[1] < -10 and abs(place(image, -2)[0]) <= 1
    assert place(image, -1)[0] < -10 and abs(place(image, -1)[1]) <= 1


@pytest.mark.parametrize("plane", ["sagittal", "coronal", "axial"])
def test_plane_axes_are_orthonormal_and_turn_by_the_angle(plane):
    straight, turned = np.array(plane_axes(plane, 0)), np.array(plane_axes(plane, 21))
    assert turned @ turned.T == pytest.approx(np.eye(3))
    assert straight[0] @ turned[0] == pytest.approx(np.cos(np.radians(21)))
    still = 1 if plane == "axial" else 2  # left-right, or up
    assert turned[still] == pytest.approx(straight[still])


@pytest.mark.parametrize(
    ("plane", "angle"), [("sagittal", 0), ("sagittal", 21), ("coronal", -14), ("axial", 8)]
)
@pytest.mark.parametrize("order", ["LAS", "PSR"])
def test_an_independent_resampler_gives_the_same_slice(tmp_path, plane, angle, order):
    turn = rotation(0.05, -0.03, 0.08)
    path = write_nrrd(tmp_path / "v.nrrd", head_volume(), order, (4.0, 4.0, 4.5), turn)
    volume = read_volume(path)
    survey = survey_volume(volume)
    config = SliceConfig(planes=(plane,), angles_deg=(angle,), size=64, slices_per_plane=5)
    item = slice_volume(volume, survey, config, 190.0)[1]

    normal, right, down = plane_axes(plane, angle)
    to_lps = np.array([-1.0, -1.0, 1.0])
    pixel_mm = 190.0 / 64
    corner = survey.center_mm + normal * item.position_mm - 31.5 * pixel_mm * (right + down)
    grid = sitk.Image([64, 64, 1], sitk.sitkFloat32)
    grid.SetSpacing([pixel_mm, pixel_mm, 1.0])
    grid.SetOrigin((corner * to_lps).tolist())
    third = np.cross(right * to_lps, down * to_lps)
    grid.SetDirection(np.stack([right * to_lps, down * to_lps, third], axis=1).ravel().tolist())
    other = sitk.Resample(
        sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat32), grid, sitk.Transform(), sitk.sitkLinear
    )
    low, high = survey.window
    expected = np.clip((sitk.GetArrayFromImage(other)[0] - low) * 255 / (high - low), 0, 255)
    close = np.abs(item.pixels - expected) <= 1
    assert item.pixels.max() > 150
    assert close.mean() > 0.995  # the volume's last half voxel ends a little differently


def test_the_fast_way_for_upright_planes_gives_what_the_general_one_gives():
    voxels = np.random.default_rng(0).normal(size=(12, 10, 8)).astype(np.float32)
    ticks = (np.arange(32) - 15.5) * 0.6  # reaches out of the volume on every side
    right, down = np.array([0.6, -0.5, 0.0]), np.array([0.0, 0.0, -0.7])
    for middle in ([5.5, 4.5, 3.5], [1.0, 8.2, 3.0], [-3.0, 4.0, 6.0]):
        fast = sample_upright(voxels, np.array(middle), right, down, ticks)
        assert fast == pytest.approx(sample_oblique(voxels, np.array(middle), right, down, ticks), abs=1e-5)
        assert (fast == 0).any() and (fast != 0).any()


def test_millimetres_stay_square_whatever_the_voxels_are():
    a, b, c = np.meshgrid(np.arange(40) - 19.5, np.arange(20) - 9.5, np.arange(10) - 4.5, indexing="ij")
    inside = (a * 2) ** 2 + (b * 4) ** 2 + (c * 8) ** 2 < 30**2  # a ball of 30 mm radius
    for plane in ("sagittal", "coronal", "axial"):
        found = slices_of(
            np.where(inside, 200.0, 0.0), (2.0, 4.0, 8.0), 100.0, planes=(plane,), slices_per_plane=1
        )
        mask = found[0].pixels > 127
        height, width = (np.ptp(np.nonzero(mask)[axis]) + 1 for axis in (0, 1))
        assert height * 100 / 64 == pytest.approx(60, abs=9) and width * 100 / 64 == pytest.approx(60, abs=9)


@pytest.mark.parametrize("depth", [16, 40, 90])
def test_noise_is_what_shows_little_tissue_at_any_depth(depth):
    spacing = (160 / depth, 4.0, 4.0)  # the same head in few thick or many thin layers
    volume = volume_of(head_volume(depth), spacing)
    survey = survey_volume(volume)
    config = SliceConfig(size=64, planes=("sagittal",), slices_per_plane=40, noise_below=0.25)
    found = slice_volume(volume, survey, config, 200.0)
    areas = np.array([(item.pixels > 0).sum() for item in found])  # tissue darker than the window is missed
    noise = np.array([item.label == NOISE for item in found])
    assert areas[noise].max() <= areas[~noise].min() * 1.15
    assert areas[noise].max() < 0.28 * areas.max() and areas[~noise].min() > 0.15 * areas.max()
    positions = np.array([item.position_mm for item in found])
    assert set(np.flatnonzero(noise)) == set(
        np.flatnonzero(np.abs(positions) > np.abs(positions[~noise]).max())
    )
    # An ellipsoid's cross-section falls below a quarter beyond sqrt(3)/2 of its half-length.
    assert np.abs(positions[~noise]).max() == pytest.approx(64 * np.sqrt(0.75), abs=max(6, spacing[0]))


def test_slices_without_tissue_are_left_out():
    voxels = np.zeros((40, 40, 40))
    voxels[18:22, 5:35, 5:35] = 100
    voxels[30:34, 5:35, 5:35] = 100
    voxels[18:34, 18:22, 18:22] = 100  # joins the two plates
    found = slices_of(voxels, planes=("sagittal",), step_mm=4.0)
    assert all(item.pixels.max() > 100 for item in found)


def test_the_noise_share_is_kept():
    free = slices_of(head_volume(), step_mm=2.0, noise_below=0.5)
    limited = slices_of(head_volume(), step_mm=2.0, noise_below=0.5, noise_share=0.1)
    none = slices_of(head_volume(), step_mm=2.0, noise_below=0.5, noise_share=0.0)
    share = [np.mean([item.label == NOISE for item in found]) for found in (free, limited, none)]
    assert share[0] > 0.2 and share[1] == pytest.approx(0.1, abs=0.01) and share[2] == 0
    kept = [(item.plane, item.position_mm) for item in limited if item.label != NOISE]
    assert kept == [(item.plane, item.position_mm) for item in free if item.label != NOISE]


def test_positions_are_multiples_of_the_step_or_evenly_many():
    stepped = slices_of(head_volume(), planes=("coronal",), step_mm=7.0)
    assert all(item.position_mm / 7.0 == pytest.approx(round(item.position_mm / 7.0)) for item in stepped)
    even = slices_of(head_volume(), planes=("coronal",), slices_per_plane=9, angles_deg=(0.0, 10.0))
    assert [item.slice_index for item in even] == [*range(9)] * 2
    assert np.ptp(np.diff([item.position_mm for item in even[:9]])) < 1e-6


def test_the_window_is_robust_against_a_few_bright_voxels():
    voxels = head_volume().astype(np.float32)
    before = survey_volume(volume_of(voxels)).window
    voxels[20, 22, 18] = 30000
    assert survey_volume(volume_of(voxels)).window[1] == pytest.approx(before[1], rel=0.01)


def test_specks_in_the_air_do_not_widen_the_field():
    voxels = head_volume().astype(np.float32)
    before = survey_volume(volume_of(voxels)).field_mm(("sagittal",))
    voxels[0, 0, 0] = voxels[-1, -1, -1] = 200
    assert survey_volume(volume_of(voxels)).field_mm(("sagittal",)) == pytest.approx(before)


def test_a_field_too_small_for_the_head_keeps_its_top():
    voxels = np.zeros((40, 40, 80))
    voxels[8:32, 8:32, 5:75] = np.random.default_rng(0).uniform(80, 120, (24, 24, 70))
    voxels[8:32, 8:32, 70:75] = 200  # the vertex
    found = slices_of(voxels, (2.0, 2.0, 2.0), 80.0, planes=("sagittal",), slices_per_plane=3)
    rows = np.flatnonzero((found[1].pixels == 255).any(axis=1))
    assert len(rows) and rows.min() > 0
    assert found[1].pixels[-1].max() > 0  # and the neck runs out of the image


def test_thin_voxels_are_averaged_instead_of_aliased():
    checker = np.indices((64, 64, 64)).sum(axis=0) % 2 * 200.0
    inside = (
        np.hypot(np.hypot(*(np.indices((64, 64, 64))[:2] - 31.5)), np.indices((64, 64, 64))[2] - 31.5) < 28
    )
    found = slices_of(np.where(inside, checker + 20, 0), (1.0, 1.0, 1.0), 64.0, size=16, slices_per_plane=1)
    middle = found[0].pixels[6:10, 6:10].astype(int)
    assert np.ptp(middle) < 20


def test_otsu_parts_two_groups_between_them():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(10, 3, 5000), rng.normal(100, 10, 3000)])
    assert 20 < otsu_threshold(values, float(values.max())) < 80


def test_a_volume_without_contrast_is_refused():
    voxels = np.full((20, 20, 20), 5.0)
    voxels[0, 0, 0] = 6
    with pytest.raises(ExtractError, match="expected an image with contrast"):
        survey_volume(volume_of(voxels))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"planes": ("oblique",)}, "--planes must name some of"),
        ({"planes": ("axial", "axial")}, "each plane once"),
        ({"planes": ()}, "--planes must name some of"),
        ({"angles_deg": (60.0,)}, "--angles must be between -45 and 45"),
        ({"size": 100}, "--size must be a power of two"),
        ({"step_mm": 0.0}, "--step-mm must be above 0"),
        ({"slices_per_plane": 0}, "--slices-per-plane must be at least 1, got 0"),
        ({"step_mm": float("nan")}, "--step-mm must be above 0, got nan"),
        ({"fov_mm": float("inf")}, "--fov-mm must be above 0, got inf"),
        ({"angles_deg": (float("nan"),)}, "--angles must be between -45 and 45"),
        ({"fov_mm": -1.0}, "--fov-mm must be above 0"),
        ({"noise_below": 1.0}, "--noise-below"),
        ({"orientation": "RRR"}, "--orientation must be three letters"),
    ],
)  # fmt: skip
def test_settings_outside_their_range_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        SliceConfig(**settings)
