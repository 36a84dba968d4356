import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from scipy import ndimage

from benchmarks.extract_worker import make_volume
from extract.errors import ExtractError, SettingsError
from extract.phantom import rotation
from extract.planes import NOISE, SliceConfig, plane_axes, slice_volume
from extract.sampling import sample_oblique, sample_plane, sample_upright, shrink
from extract.volume import Volume, read_volume
from extract.volume_survey import otsu_threshold, survey_volume
from extract.windows import parse_window
from tests.extract.making import head_volume, write_nrrd


def volume_of(voxels: np.ndarray, spacing=(4.0, 4.0, 4.0)) -> Volume:
    return Volume("v", voxels.astype(np.float32), np.diag([*spacing, 1.0]))


def slices_of(voxels: np.ndarray, spacing=(4.0, 4.0, 4.0), fov_mm: float = 200.0, **settings):
    volume, config = volume_of(voxels, spacing), SliceConfig(**{"size": 64, **settings})
    return slice_volume(volume, survey_volume(volume, config.parsed_windows()), config, fov_mm)


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
        ({"tilts_deg": (50.0,)}, "--tilts must be between -45 and 45"),
        ({"slab_mm": -1.0}, "--slab-mm must be 0 or more"),
        ({"slab": "min"}, "--slab must be one of mean, max"),
        ({"rgb": "cmyk"}, "--rgb must be one of gray, neighbors, windows"),
        ({"neighbor_mm": 0.0}, "--neighbor-mm must be above 0"),
        ({"rgb": "windows"}, "--window must be given three times with --rgb windows, got 1"),
        ({"windows": ("ct:lung", "ct:bone")}, "--window must be given once, got 2: ct:lung ct:bone"),
        ({"windows": ("ct:soul",)}, "--window ct: must name one of brain, subdural"),
    ],
)  # fmt: skip
def test_settings_outside_their_range_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        SliceConfig(**settings)


@pytest.mark.parametrize("plane", ["sagittal", "coronal", "axial"])
def test_a_tilt_turns_about_the_other_axis_and_leans_the_picture_as_said(plane):
    straight, tilted = np.array(plane_axes(plane, 0)), np.array(plane_axes(plane, 0, 20))
    assert tilted @ tilted.T == pytest.approx(np.eye(3))
    assert np.linalg.det(tilted) == pytest.approx(np.linalg.det(straight))
    leaning = {
        "sagittal": -tilted[2] @ [1, 0, 0],
        "coronal": -tilted[2] @ [0, 1, 0],
        "axial": tilted[1] @ [0, 0, 1],
    }
    assert leaning[plane] == pytest.approx(np.sin(np.radians(20)))  # to the right, to the front, left side up
    both = np.array(plane_axes(plane, 30, -20))
    assert both @ both.T == pytest.approx(np.eye(3))
    assert both[0] @ np.array(plane_axes(plane, 30))[0] == pytest.approx(np.cos(np.radians(20)))


@pytest.mark.parametrize("turn", [(0.0, 0.0), (17.0, 0.0), (-9.0, 12.0)])
@pytest.mark.parametrize("plane", ["sagittal", "coronal", "axial"])
def test_the_fastest_way_to_sample_never_changes_the_picture(plane, turn):
    voxels = np.random.default_rng(1).integers(-500, 500, (21, 24, 19)).astype(np.int16)
    _, right, down = plane_axes(plane, *turn)
    ticks = (np.arange(32) - 15.5) * 0.8
    middle = np.array([9.3, 12.1, 8.7])
    general = sample_oblique(voxels, middle, right, down, ticks, -500.0)
    assert sample_plane(voxels, middle, right, down, ticks, -500.0) == pytest.approx(general, abs=2e-3)
    assert (general == -500).any()


def test_a_slab_is_the_mean_or_the_maximum_over_its_thickness():
    voxels = head_volume().astype(np.float32)
    voxels[20] += 60  # one bright layer, 4 mm thick, in the middle of the sagittal slices
    thin, mean, most = (
        slices_of(voxels, planes=("sagittal",), step_mm=10.0, windows=("values:0,300",), **slab)
        for slab in ({}, {"slab_mm": 20.0}, {"slab_mm": 20.0, "slab": "max"})
    )
    middle = [next(item.pixels for item in found if item.position_mm == 0) for found in (thin, mean, most)]
    inside = (slice(20, 44), slice(24, 40))
    thin_level, mean_level, most_level = (float(pixels[inside].mean()) for pixels in middle)
    assert mean_level < thin_level < most_level
    assert mean_level == pytest.approx(thin_level - 60 / 2 * 255 / 300 + 60 / 5 * 255 / 300, abs=4)
    assert middle[1][inside].std() < middle[0][inside].std()  # noise averages out


def test_air_stays_black_where_values_are_negative():
    voxels = head_volume().astype(np.float32) * 4 - 1000  # air is -1000, as in CT
    found = slices_of(voxels, fov_mm=400.0, planes=("axial",), slices_per_plane=3)
    assert found[1].pixels[0, 0] == 0 and found[1].pixels[32, 32] > 100  # the corner lies outside the volume


def test_a_ct_window_shows_its_hounsfield_units():
    voxels = np.full((40, 40, 40), -1000.0)
    voxels[5:35, 5:35, 5:35] = np.linspace(0, 80, 30)[:, None, None]
    voxels[2:38, 1:3, 1:39] = -500  # a foam mattress, no tissue
    found = slices_of(voxels, planes=("axial",), slices_per_plane=1, windows=("ct:brain",))
    row = found[0].pixels[32].astype(float)
    shown = row[(row > 5) & (row < 250)]
    assert np.diff(shown).min() <= 0 and row.max() > 245  # a ramp from 0 to 80 fills the window of 0 to 80
    survey = survey_volume(volume_of(voxels), (parse_window("ct:brain"),))
    assert survey.threshold == -300 and survey.window == (0.0, 80.0)
    assert survey.center_mm == pytest.approx([78, 78, 78], abs=3)


def test_rgb_is_three_times_the_same_three_windows_or_three_neighbors():
    voxels = head_volume().astype(np.float32)
    settings = {"planes": ("coronal",), "step_mm": 5.0}
    (gray,) = (slices_of(voxels, **settings),)
    same = slices_of(voxels, rgb="gray", **settings)
    assert all(
        np.array_equal(a.pixels[..., k], b.pixels) for a, b in zip(same, gray, strict=True) for k in range(3)
    )
    windows = ("values:0,200", "values:50,150", "percentile:1,99.5")
    three = slices_of(voxels, rgb="windows", windows=windows, **settings)
    for k, window in enumerate(windows):
        alone = slices_of(voxels, windows=(window,), **settings)
        assert np.array_equal(three[4].pixels[..., k], alone[4].pixels)
    beside = slices_of(voxels, rgb="neighbors", neighbor_mm=5.0, **settings)
    assert np.array_equal(beside[4].pixels[..., 0], gray[3].pixels)
    assert np.array_equal(beside[4].pixels[..., 1], gray[4].pixels)
    assert np.array_equal(beside[4].pixels[..., 2], gray[5].pixels)


@pytest.mark.parametrize("order", [1, 3])
def test_turning_the_whole_volume_first_gives_the_same_planes(order):
    side, angle = 63, 14.0  # a multiple of three, so that the survey finds the middle of the cube
    voxels = make_volume(side, 0.0, 0).astype(np.float32)
    affine = np.eye(4)
    affine[:3, 3] = -(side - 1) / 2
    volume = Volume("v", voxels, affine)
    config = SliceConfig(size=64, step_mm=6.0, angles_deg=(angle,), windows=("values:0,700",))
    found = slice_volume(volume, survey_volume(volume, config.parsed_windows()), config, float(side))
    turned = ndimage.rotate(voxels, -angle, axes=(0, 1), reshape=False, order=order)
    assert len(found) > 10
    for item in found:
        index = round(item.position_mm + (side - 1) / 2)
        lines = turned[index] if item.plane == "sagittal" else turned[:, index]
        shown = np.clip(lines[::-1, ::-1].T * 255 / 700, 0, 255).astype(np.uint8)
        theirs = np.asarray(Image.fromarray(shown).resize((64, 64), Image.Resampling.LANCZOS), float)
        assert np.abs(theirs - item.pixels)[4:-4, 4:-4].mean() < 2  # gray levels


def test_neighboring_voxels_are_averaged_by_blocks_whatever_their_type():
    rng = np.random.default_rng(0)
    for kind in (np.uint8, np.int16, np.float32):
        voxels = rng.integers(0, 250, (7, 8, 9)).astype(kind)
        small, affine = shrink(voxels, np.eye(4), np.array([2, 1, 3]))
        padded = np.pad(voxels.astype(float), [(0, 1), (0, 0), (0, 0)], mode="edge")
        assert small == pytest.approx(padded.reshape(4, 2, 8, 1, 3, 3).mean(axis=(1, 3, 5)), rel=1e-6)
        assert affine @ [0, 0, 0, 1] == pytest.approx([0.5, 0, 1, 1])
