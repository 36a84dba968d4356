"""The audit finds planted copies, leaves other people's images alone, and says what it cannot say."""

import csv
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.errors import SettingsError
from extract.split import make_split, write_split
from gan.alignment import best_correlation
from gan.audit import Audit, audit
from gan.audit_report import FILES, audit_figures, describe_rule, write_audit
from gan.copies import calibrate
from gan.errors import GanError
from gan.features import PixelExtractor, SpectrumExtractor
from gan.gallery import Gallery, nearest, nearest_by_bundle
from gan.generate import generate_archive
from gan.privacy import (
    CopyCount,
    Interval,
    Leaning,
    bundle_subjects,
    count_copies,
    judge,
    leaning,
)
from gan.snapshot import read_snapshot
from scripts.cli import cli

SIZE = 32
NUM_PEOPLE, IMAGES_EACH = 32, 8


def person(number: int, num: int = IMAGES_EACH) -> np.ndarray:
    """Slices (num, SIZE, SIZE) uint8 of one made-up head: an oval with a texture of the person's own."""
    random = np.random.default_rng([7, number])
    rows, columns = np.mgrid[:SIZE, :SIZE] / SIZE - 0.5
    waves = random.normal(size=(10, 2)) * 9
    phases, drift = random.uniform(0, 6.28, 10), random.normal(size=10) * 0.5
    height, width = random.uniform(0.3, 0.42, 2)
    slices = []
    for depth in np.linspace(-1, 1, num):
        angle = waves[:, 0, None, None] * rows + waves[:, 1, None, None] * columns
        texture = np.cos(angle + (phases + drift * depth)[:, None, None]).sum(axis=0)
        inside = (rows / height) ** 2 + (columns / width) ** 2 < 1 - 0.3 * depth**2
        slices.append(np.where(inside, np.clip(120 + 22 * texture, 0, 255), 0))
    return np.stack(slices).astype(np.uint8)


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("people") / "people.zip"
    with ArchiveWriter(path) as writer:
        for number in range(NUM_PEOPLE):
            for index, image in enumerate(person(number)):
                writer.add(image, ImageRecord(label=f"class{index % 2}", subject=f"p{number:02d}"))
    return path


@pytest.fixture(scope="module")
def people_split(people: Path) -> Path:
    with open_archive(people) as archive:
        split = make_split(archive, num_folds=2, fractions=(1.0,), val_share=0.2, seed=0)
    write_split(split, people.with_name("people.split.json"))
    return people.with_name("people.split.json")


def write_fakes(path: Path, images: np.ndarray) -> Path:
    with ArchiveWriter(path, overwrite=True) as writer:
        for image in images:
            writer.add(image, ImageRecord(origin="synthetic"))
    return path


def training_images(people: Path, split: Path, num: int) -> np.ndarray:
    """One image of each of `num` training people, all different."""
    subjects = json.loads(split.read_text())["folds"][0]["train"][:num]
    return np.stack([person(int(subject[1:]))[3] for subject in subjects])


def new_people(num: int, first: int = 100) -> np.ndarray:
    return np.concatenate([person(first + number, 4) for number in range(num // 4)])


def run_audit(people: Path, split: Path | None, fakes: Path, **settings) -> Audit:
    fold = None if split is None else 0
    return audit(PixelExtractor(), fakes=fakes, data=people, split=split, fold=fold, **settings)


def shifted(images: np.ndarray, down: int, right: int) -> np.ndarray:
    return np.roll(images, (down, right), axis=(1, 2))  # the border is black


# Planting


@pytest.fixture(scope="module")
def planted(people, people_split, tmp_path_factory) -> tuple[Audit, dict[str, slice]]:
    """Forty images of new people, and the same eight training images copied in five ways."""
    base = training_images(people, people_split, 8)
    noise = np.random.default_rng(3).normal(0, 5, base.shape)
    sets = {
        "new people": new_people(40),
        "exact": base,
        "mirrored": base[:, :, ::-1],
        "noisy": np.clip(base + noise, 0, 255).astype(np.uint8),
        "shifted": shifted(base, 1, -2),
        "brighter": np.clip(base * 1.15 + 6, 0, 255).astype(np.uint8),
    }
    ends = np.cumsum([len(images) for images in sets.values()])
    places = {name: slice(end - len(sets[name]), end) for name, end in zip(sets, ends, strict=True)}
    fakes = write_fakes(tmp_path_factory.mktemp("fakes") / "fakes.zip", np.concatenate(list(sets.values())))
    return run_audit(people, people_split, fakes), places


@pytest.mark.parametrize("kind", ["exact", "mirrored", "noisy", "shifted", "brighter"])
def test_planted_copies_are_found_and_traced_to_their_original(planted, people, people_split, kind):
    found, places = planted
    assert found.flagged[places[kind]].all()
    subjects = json.loads(people_split.read_text())["folds"][0]["train"][:8]
    originals = found.reals.subjects[found.train.rows[found.scores.places[places[kind]] % len(found.train)]]
    assert originals.tolist() == subjects


def test_images_of_new_people_are_not_flagged_beside_copies(planted):
    found, places = planted
    assert found.flagged[places["new people"]].sum() == 0
    assert found.verdict.word == "copies"
    assert found.verdict.sentence.startswith("copies found: 40 of 80 (")


def test_copies_are_not_authentic_and_new_people_are_so_about_as_often_as_held_out_ones(planted):
    found, places = planted
    assert found.authentic[places["exact"]].sum() == 0
    share = found.authentic[places["new people"]].mean()
    assert found.authentic_held_out is not None and abs(share - found.authentic_held_out) < 0.3


def test_mirrored_copies_count_only_where_asked(people, people_split, tmp_path):
    base = training_images(people, people_split, 8)
    fakes = write_fakes(tmp_path / "fakes.zip", base[:, :, ::-1])
    assert run_audit(people, people_split, fakes).flagged.all()
    assert not run_audit(people, people_split, fakes, mirror=False).flagged.any()


def test_one_copy_among_many_images_is_enough(people, people_split, tmp_path):
    images = np.concatenate([new_people(60), training_images(people, people_split, 1)])
    found = run_audit(people, people_split, write_fakes(tmp_path / "fakes.zip", images))
    assert found.verdict.word == "copies" and found.flagged[-1] and found.copies.num_clear == 1


def test_a_generator_of_new_people_shows_no_sign(people, people_split, tmp_path):
    found = run_audit(people, people_split, write_fakes(tmp_path / "fakes.zip", new_people(80)))
    assert found.verdict.word in ("no sign", "cannot be told"), found.verdict.sentence  # by the interval
    share, ratio = found.leaning.share, found.leaning.ratio
    assert share.low < 0.5 < share.high and share.value == pytest.approx(0.5, abs=0.15)
    assert ratio.low < 1 < ratio.high
    assert found.copies.num_clear == 0


def test_a_generator_that_stays_near_its_people_leans_without_copying(people, people_split, tmp_path):
    base = training_images(people, people_split, 8).astype(float)
    others = new_people(8, first=300).astype(float)
    mixed = np.concatenate([0.6 * base + 0.4 * np.roll(others, k, axis=0) for k in range(8)])
    found = run_audit(people, people_split, write_fakes(tmp_path / "fakes.zip", mixed.astype(np.uint8)))
    assert found.leaning.share.low > 0.5 and found.leaning.ratio.high < 1
    assert found.verdict.word in ("leaning", "copies")
    if found.verdict.word == "leaning":
        assert "lean to the training subjects" in found.verdict.sentence


def test_real_images_of_held_out_people_are_as_often_flagged_as_the_rule_says(people, people_split):
    with open_archive(people) as archive:
        images = np.stack([archive.read_image(index)[0] for index in range(len(archive))])
        subjects = archive.subjects
    test = json.loads(people_split.read_text())["folds"][0]["test"]
    held_out = images[np.isin(subjects, test)]
    found = run_audit(people, people_split, write_fakes(people.with_name("held-out.zip"), held_out))
    assert found.flagged.mean() <= 2 / len(held_out)
    assert found.calibration.false_alarms < 0.05


# Saying what cannot be said


def test_without_a_split_copies_are_told_but_leaning_is_not(people, people_split, tmp_path):
    images = np.concatenate([new_people(20), training_images(people, people_split, 2)])
    found = run_audit(people, None, write_fakes(tmp_path / "fakes.zip", images))
    assert found.leaning is None and found.to_held_out is None and found.authentic_held_out is None
    assert found.flagged[20:].all() and found.flagged[:20].sum() <= 1
    assert "each fifth of the training subjects held against the others" in " ".join(found.notes)
    clean = run_audit(people, None, write_fakes(tmp_path / "clean.zip", images[:20]))
    assert clean.verdict.word == "cannot be told"
    assert "train it with --split and --fold" in clean.verdict.sentence


def test_too_few_held_out_images_are_no_judge(tmp_path):
    with ArchiveWriter(tmp_path / "few.zip") as writer:
        for number in range(7):
            for image in person(number, 2):
                writer.add(image, ImageRecord(label="a", subject=f"p{number}"))
    with open_archive(tmp_path / "few.zip") as archive:
        split = make_split(archive, num_folds=3, fractions=(1.0,), val_share=0.3, seed=0)
    write_split(split, tmp_path / "few.split.json")
    fakes = write_fakes(tmp_path / "fakes.zip", new_people(8))
    found = run_audit(tmp_path / "few.zip", tmp_path / "few.split.json", fakes)
    assert found.verdict.word == "cannot be told"
    assert "too few held-out images (" in found.verdict.sentence


def test_images_of_an_official_archive_without_subjects_stand_for_themselves(people, tmp_path):
    import zipfile

    with zipfile.ZipFile(people) as ours, zipfile.ZipFile(tmp_path / "official.zip", "w") as theirs:
        for name in ours.namelist():
            if name.endswith(".png"):
                theirs.writestr(name, ours.read(name))
    fakes = write_fakes(tmp_path / "fakes.zip", np.concatenate([new_people(8), person(3)[:1]]))
    found = run_audit(tmp_path / "official.zip", None, fakes)
    assert len(np.unique(found.train.groups)) == NUM_PEOPLE * IMAGES_EACH
    assert found.flagged[-1]


def test_an_audit_needs_one_source_and_its_data(people, tmp_path):
    with pytest.raises(SettingsError, match="either --network with --seeds or --fakes"):
        audit(PixelExtractor())
    with pytest.raises(SettingsError, match="got no --data"):
        audit(PixelExtractor(), fakes=people)
    with pytest.raises(SettingsError, match="--fold=1: expected the split it belongs to"):
        audit(PixelExtractor(), fakes=people, data=people, fold=1)


class Taught(PixelExtractor):
    name = "task"

    def __init__(self, train, val, archive):
        self.train_subjects, self.val_subjects, self.archive_sha256 = train, val, archive


def test_a_network_that_learned_from_held_out_people_may_not_judge(people, people_split, tmp_path):
    fold = json.loads(people_split.read_text())["folds"][0]
    with open_archive(people) as archive:
        sha256 = archive.sha256
    fakes = write_fakes(tmp_path / "fakes.zip", new_people(8))
    settings = {"fakes": fakes, "data": people, "split": people_split, "fold": 0}
    with pytest.raises(GanError, match="learned from, or was chosen on, 1 of the"):
        audit(Taught(fold["test"][:1], [], sha256), **settings)
    found = audit(Taught(fold["train"], fold["val"]["1.0"], sha256), **settings)
    assert found.extractor == "task" and "were learned on the training part" in " ".join(found.notes)


# Parts


def test_correlation_forgives_small_shifts_brightness_and_contrast():
    head = person(1)[3:4][:, None]
    moved = shifted(head[:, 0], 1, -1)[:, None]
    brighter = (head * 0.7 + 20).astype(np.uint8)
    assert best_correlation(head, head) == pytest.approx(1, abs=1e-4)
    assert best_correlation(head, moved) == pytest.approx(1, abs=1e-3)
    assert best_correlation(head, brighter) > 0.995
    assert best_correlation(head, person(2)[3:4][:, None]) < 0.9
    assert best_correlation(head, np.full_like(head, 9)) == 0


def test_the_best_correlation_is_that_of_the_best_of_all_shifts():
    random = np.random.default_rng(0)
    first, second = random.integers(0, 256, (2, 6, 1, 40, 32), dtype=np.uint8)
    second[0] = np.roll(first[0], (1, 2), axis=(1, 2))
    reach = 2  # 5 % of 32 pixels
    for image, other, found in zip(first[:, 0], second[:, 0], best_correlation(first, second), strict=True):
        middle = image[reach:-reach, reach:-reach].ravel()
        slow = max(
            np.corrcoef(middle, other[down : down + 36, right : right + 28].ravel())[0, 1]
            for down in range(5)
            for right in range(5)
        )
        assert found == pytest.approx(slow, abs=1e-5)


def test_the_spectrum_hardly_changes_when_a_picture_moves():
    head, other = person(1)[3:4][:, None], person(2)[3:4][:, None]
    see = SpectrumExtractor().features
    moved = np.abs(see(head) - see(shifted(head[:, 0], 2, 3)[:, None])).sum()
    assert moved < 0.02 * np.abs(see(head) - see(other)).sum()


def toy_gallery(mirror: bool) -> Gallery:
    features = np.arange(12, dtype=np.float32).reshape(-1, 1)
    images = np.arange(6 * 4, dtype=np.uint8).reshape(6, 1, 2, 2)
    groups = np.array([0, 0, 1, 1, 2, 2])
    return Gallery(images, np.arange(6), groups, (features if mirror else features[:6],), mirror)


def test_neighbours_are_found_by_subject_and_in_the_mirror():
    places, distances = nearest(toy_gallery(False), [np.array([[2.2]])], 2)
    assert places.tolist() == [[2, 3]] and distances == pytest.approx([0.2])
    places, distances = nearest(toy_gallery(False), [np.array([[2.2]])], 2, np.array([1]))
    assert places.tolist() == [[1, 4]] and distances == pytest.approx([1.2])
    places, _ = nearest(toy_gallery(True), [np.array([[8.1]])], 1)
    assert places.tolist() == [[8]]
    np.testing.assert_array_equal(toy_gallery(True).pixels(np.array([8])), [[[[9, 8], [11, 10]]]])
    by_bundle = nearest_by_bundle(toy_gallery(False), np.array([[2.0]]), np.array([0, 0, 1, 1, -1, -1]), 2)
    np.testing.assert_allclose(by_bundle, [[1, 0]])


def test_subjects_are_dealt_into_bundles_of_one_size():
    train, held_out = np.repeat(np.arange(250), 2), np.repeat(np.arange(31), 3)
    a, b, size = bundle_subjects(train, held_out, np.random.default_rng(0))
    assert size == 3
    for groups, bundles, num in ((train, a, 83), (held_out, b, 10)):
        assert sorted(set(bundles.tolist())) == [-1, *range(num)]
        assert all(len(np.unique(groups[bundles == bundle])) == 3 for bundle in range(num))


def test_more_people_on_one_side_do_not_look_like_leaning():
    random = np.random.default_rng(0)
    to_train, to_held_out = random.exponential(size=(300, 40)), random.exponential(size=(300, 8))
    naive = (to_train.min(axis=1) < to_held_out.min(axis=1)).mean()
    found = leaning(to_train, to_held_out, 1, random)
    assert naive > 0.75 and found.num_bundles == 8
    assert found.share.low < 0.5 < found.share.high and found.share.value == pytest.approx(0.5, abs=0.06)
    nearer = leaning(0.5 * to_train, to_held_out, 1, random)
    assert nearer.share.low > 0.5 and nearer.ratio.high < 1


def test_the_interval_covers_no_leaning_about_as_often_as_it_says():
    """People, not images, are what varies: a person is near or far for all images alike."""
    covered = 0
    for repeat in range(30):
        random = np.random.default_rng(repeat)
        sides = [np.exp(random.normal(size=(60, 12)) + random.normal(size=(1, 12))) for _ in range(2)]
        share = leaning(sides[0], sides[1], 1, random).share
        covered += share.low <= 0.5 <= share.high
    assert covered >= 24


def test_the_threshold_leaves_out_pictures_that_are_on_both_sides():
    random = np.random.default_rng(0)
    scores, groups = random.normal(1, 0.1, 300), np.arange(300) // 30
    clean = calibrate(scores, groups)
    assert clean.threshold == pytest.approx(scores.min(), abs=0.05) and len(clean.lookalikes) == 0
    scores[:5] = 0.02
    leaky = calibrate(scores, groups)
    assert leaky.lookalikes.tolist() == [0, 1, 2, 3, 4]
    assert leaky.threshold == pytest.approx(clean.threshold, abs=0.05)


def test_flagged_images_are_held_against_chance():
    calibration = replace(calibrate(np.linspace(0.6, 1.4, 1000), np.arange(1000) // 100), threshold=0.6)
    few = count_copies(np.concatenate([np.full(2, 0.59), np.full(998, 1.0)]), calibration)
    assert (few.num_flagged, few.num_clear) == (2, 0) and few.chance > 0.2
    many = count_copies(np.concatenate([np.full(40, 0.59), np.full(960, 1.0)]), calibration)
    assert many.chance < 1e-4 or many.num_expected > 20
    assert judge(few, None, "x").word == "cannot be told"


def test_each_verdict_is_a_sentence_with_its_figures():
    none = CopyCount(2000, 0, 0, 2.0, 1.0)
    level = Leaning(Interval(0.51, 0.45, 0.57), Interval(1.0, 0.9, 1.1), 10, 1)
    assert judge(none, level, "").word == "no sign"
    assert judge(none, replace(level, share=Interval(0.7, 0.6, 0.8)), "").word == "leaning"
    wide = judge(none, replace(level, share=Interval(0.5, 0.2, 0.8)), "")
    assert wide.word == "cannot be told" and "too wide an interval" in wide.sentence
    assert judge(CopyCount(2000, 12, 9, 2.0, 1e-6), level, "").sentence.startswith(
        "copies found: 12 of 2,000"
    )
    assert judge(None, None, "too few").sentence == "cannot be told: too few"


# Files and command


def test_an_audit_leaves_rows_hashes_and_a_picture(planted, tmp_path):
    found, _ = planted
    write_audit(found, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(FILES)
    content = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert content["verdict"] == "copies" and content["copies"]["num_flagged"] == 40
    assert content["rule"] == describe_rule(found) and "below" in content["rule"]
    with open(tmp_path / "out" / "nearest.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert len(rows) == 80 and rows[40]["copy"] == "1" and rows[0]["copy"] == "0"
    assert float(rows[40]["train_distance"]) < float(rows[40]["held_out_distance"])
    assert rows[40]["copy_of_subject"] == rows[40]["train_subject"]
    with open(tmp_path / "out" / "copies.csv", newline="") as handle:
        copies = list(csv.DictReader(handle))
    with open_archive(found.generated.source) as archive:
        expected = archive.manifest["sha256"].tolist()[40:]
    assert [row["sha256"] for row in copies] == expected
    with Image.open(tmp_path / "out" / "worst-pairs.png") as picture:
        assert picture.width > 800 and picture.convert("L").getextrema()[0] < 50
    with pytest.raises(GanError, match="exist already and are left alone"):
        write_audit(found, tmp_path / "out")
    write_audit(found, tmp_path / "out", overwrite=True)


def test_the_same_audit_gives_the_same_figures(people, people_split, tmp_path):
    fakes = write_fakes(tmp_path / "fakes.zip", new_people(12))
    first, again = (audit_figures(run_audit(people, people_split, fakes)) for _ in range(2))
    assert first == again


def test_a_network_is_audited_by_its_seeds_with_the_hashes_that_generate_gives(trained, tmp_path):
    generate_archive(trained, range(6), tmp_path / "fakes.zip")
    found = audit(PixelExtractor(), network=trained, seeds=range(6))
    with open_archive(tmp_path / "fakes.zip") as archive:
        assert found.generated.sha256 == archive.manifest["sha256"].tolist()
        assert hashlib.sha256(archive.read_png(0)).hexdigest() == found.generated.sha256[0]
    snapshot = read_snapshot(trained)
    assert set(found.reals.subjects[found.reals.train]) == set(snapshot.subjects)
    assert not set(found.reals.subjects[found.reals.held_out]) & set(snapshot.subjects)


def test_a_conditional_network_makes_the_classes_as_often_as_the_training_has_them(
    trained_conditional, tmp_path
):
    found = audit(PixelExtractor(), network=trained_conditional, seeds=range(8))
    assert sorted(found.generated.classes) == ["bar"] * 4 + ["disc"] * 4
    generate_archive(trained_conditional, range(8), tmp_path / "a.zip", class_shares={"bar": 1, "disc": 1})
    with open_archive(tmp_path / "a.zip") as archive:
        assert found.generated.sha256 == archive.manifest["sha256"].tolist()
        assert found.generated.classes == archive.manifest["label"].tolist()
    write_audit(found, tmp_path / "out")
    assert ",class," in (tmp_path / "out" / "nearest.csv").read_text().splitlines()[0]


def test_a_fold_that_the_generator_learned_from_is_refused(trained, shapes_split):
    with pytest.raises(
        GanError, match=r"the generator was trained on .* subjects of the held-out parts of fold 0"
    ):
        audit(PixelExtractor(), network=trained, seeds=[0], split=shapes_split, fold=0)


def test_the_command_says_its_verdict_and_refuses_to_overwrite(people, people_split, tmp_path):
    fakes = write_fakes(tmp_path / "fakes.zip", new_people(8))
    arguments = ["gan", "audit", "--fakes", fakes, "--data", people, "--split", people_split]
    arguments += ["--outdir", tmp_path / "out", "--device=cpu"]
    result = CliRunner().invoke(cli, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    assert "flagged" in result.output and "Rule: an image is flagged where" in result.output
    again = CliRunner().invoke(cli, list(map(str, arguments)))
    assert again.exit_code == 1 and "pass --overwrite" in again.output
