"""Gates in a study: a planted copy reaches no training set, judges set no limit, no gate is as before."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml

import gan.generate
from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.cache import open_images
from extract.errors import SettingsError
from extract.split import make_split, read_split, write_split
from gan.config import TrainConfig
from gan.training import train
from semisup import run_models
from semisup.config import load_study
from semisup.errors import StudyError
from semisup.examples import Shelf, find_examples, to_uri
from semisup.gate_counts import count_gates, gate_warning
from semisup.ledger import read_ledger
from semisup.plan import make_plan
from semisup.pool import copies_of_pool, seen_images
from semisup.pool_copies import COPIES_FILE, measure_copies, read_copies, write_copies
from semisup.query import query_study
from semisup.records import read_records
from semisup.report import write_report
from semisup.run_data import opened_run_data
from semisup.study import run_study
from tests.gan.test_privacy import person
from tests.semisup.test_pool import TINY_GAN

NUM_PEOPLE, IMAGES_EACH = 40, 3
PSEUDO = {"threshold": 0.5, "rounds": 1}
ALL_GATES = ["same_picture", "memorised", "near_duplicate", "off_manifold"]
REASONS = ["same picture", "memorised", "near duplicate", "off manifold"]


def picture(number: int, index: int) -> np.ndarray:
    """One of a made-up person's pictures, (32, 32) uint8; every second one has a bright corner."""
    image = person(number, IMAGES_EACH)[index].copy()
    image[2:8, 2:8] = 230 * (index % 2)
    return image


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """A folder with an archive of forty people, its split, and a snapshot that saw the training part."""
    folder = tmp_path_factory.mktemp("people")
    with ArchiveWriter(folder / "people.zip") as writer:
        for number in range(NUM_PEOPLE):
            for index in range(IMAGES_EACH):
                record = ImageRecord(label=("dark", "bright")[index % 2], subject=f"p{number:02d}")
                writer.add(picture(number, index), record)
    with open_archive(folder / "people.zip") as archive:
        split = make_split(archive, num_folds=4, fractions=[0.5], val_share=0.2, seed=0)
    write_split(split, folder / "people.split.json")
    options = {**TINY_GAN, "grid": (2, 2), "kimg": 0.016}
    network = train(
        TrainConfig(data=folder / "people.zip", split=folder / "people.split.json", outdir=folder / "gan",
                    **options)
    )  # fmt: skip
    network.rename(folder / "net.safetensors")
    return folder


def training_people(people: Path) -> list[int]:
    return sorted(int(name[1:]) for name in json.loads((people / "people.split.json").read_text())
                  ["folds"][0]["train"])  # fmt: skip


def planted(people: Path) -> dict[str, list[np.ndarray]]:
    """What the pool is made of in these tests, by kind."""
    known = training_people(people)
    originals = [picture(number, 1) for number in known[:4]]
    brighter = [np.clip(picture(n, 1) * 1.1 + 10, 0, 255).astype(np.uint8) for n in known[4:8]]
    blurred = [cv2.GaussianBlur(picture(n, 0), (0, 0), 0.5) for n in known[8:12]]
    shifted = [np.roll(picture(n, 1), 1, axis=1) for n in known[12:16]]
    mirrored = [np.ascontiguousarray(picture(n, 0)[:, ::-1]) for n in known[16:18]]
    strangers = [picture(200 + k, k % IMAGES_EACH) for k in range(16)]
    return {
        "originals": originals, "brighter": brighter, "blurred": blurred, "shifted": shifted,
        "mirrored": mirrored, "strangers": strangers,
    }  # fmt: skip


def kinds(people: Path) -> np.ndarray:
    """(N,) the kind of each image of the planted pool."""
    return np.concatenate([[kind] * len(images) for kind, images in planted(people).items()])


@pytest.fixture
def draw_planted(people, monkeypatch):
    """Every generator draws the planted pictures."""

    def generate(network, seeds, dest, *, truncation_psi, **_):
        images = [image for some in planted(people).values() for image in some]
        with ArchiveWriter(dest, overwrite=True) as writer:
            for seed, image in enumerate(images):
                record = ImageRecord(
                    origin="synthetic", seed=seed, truncation_psi=truncation_psi, snapshot_sha256="planted"
                )
                writer.add(image, record)

    monkeypatch.setattr(gan.generate, "generate_archive", generate)


def write_study(people: Path, folder: Path, **changes) -> Path:
    settings = {
        "name": "gates",
        "data": str(people / "people.zip"),
        "split": str(people / "people.split.json"),
        "folds": [0],
        "seeds": [0],
        "fractions": [0.5],
        "arms": ["supervised", "pseudo_gan_full", "random_selection"],
        "primary": {"arm": "pseudo_gan_full", "fraction": 0.5},
        "classifier": {
            "steps": 12, "batch_size": 16, "validate_every": 6, "augment": False, "device": "cpu"
        },
        "gan": {"network": str(people / "net.safetensors")},
        "pool": {"num_images": 34},
        "pseudo": PSEUDO,
        **changes,
    }  # fmt: skip
    folder.mkdir(exist_ok=True)
    (folder / "study.yaml").write_text(yaml.safe_dump(settings))
    return folder / "study.yaml"


def by_arm(study_dir: Path) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in sorted(study_dir.glob("runs/*/run.json"))]
    assert all(info["status"] == "done" for info in found), [info["error"] for info in found]
    return {info["arm"]: info for info in found}


def ledger_of(study_dir: Path, info: dict):
    return read_ledger(study_dir / "runs" / info["key"] / "ledger.parquet")


def trained_pictures(monkeypatch) -> list[set[bytes]]:
    """Filled with the synthetic pictures that each training sees."""
    seen: list[set[bytes]] = []
    train_classifier = run_models.train_classifier

    def spy(images, val, *rest, **more):
        rows = np.flatnonzero(images.origin == "synthetic")
        seen.append({image.tobytes() for image in images.images.gather(rows)})
        return train_classifier(images, val, *rest, **more)

    monkeypatch.setattr(run_models, "train_classifier", spy)
    return seen


def test_planted_copies_are_turned_away_and_stand_in_no_training_set(
    people, draw_planted, tmp_path, monkeypatch
):
    seen = trained_pictures(monkeypatch)
    run_study(write_study(people, tmp_path), tmp_path / "out", jobs=1)
    found = by_arm(tmp_path / "out")
    info = found["pseudo_gan_full"]
    ledger = ledger_of(tmp_path / "out", info)
    kind = kinds(people)
    assert (ledger["gate"][kind == "originals"] == "same picture").all()
    for copies in ("brighter", "blurred", "shifted", "mirrored"):
        assert ledger["gate"][kind == copies].isin(["memorised", "near duplicate"]).all(), copies
    # The limits come from some eighty pictures, one of which they let be overstepped.
    assert ledger["gate"][kind == "strangers"].isin(REASONS[:3]).sum() <= 1
    passed = ledger["gate"] == ""
    assert passed.sum() >= 5
    assert (ledger["decision"][~passed] == ledger["gate"][~passed]).all()
    assert (ledger["weight"][~passed] == 0).all() and not ledger["decision"][passed].isin(REASONS).any()

    (entry,) = info["rounds"][1:]
    assert entry["pool_size"] == passed.sum() and entry["num_gated"] == (~passed).sum()
    assert entry["coverage"] == entry["num_selected"] / passed.sum()
    assert [gate["gate"] for gate in entry["gates"]] == REASONS
    counts = ledger["gate"].value_counts()
    assert [gate["num_out"] for gate in entry["gates"]] == [int(counts.get(name, 0)) for name in REASONS]
    assert entry["gates"][1]["real_share"] == entry["gates"][2]["real_share"] == 0
    assert 0 <= entry["gates"][3]["real_share"] < 1

    copies = {
        image.tobytes() for kind, some in planted(people).items() if kind != "strangers" for image in some
    }
    assert any(seen) and all(copies.isdisjoint(pictures) for pictures in seen)
    control = ledger_of(tmp_path / "out", found["random_selection"])
    assert (control["decision"][~passed] == ledger["gate"][~passed]).all()
    assert found["random_selection"]["rounds"][1]["pool_size"] == entry["pool_size"]

    (rows,) = query_study(
        tmp_path / "out",
        "SELECT count(*) AS num, min(gate_value) AS least FROM ledger WHERE gate = 'same picture' "
        "AND arm = 'pseudo_gan_full'",
    ).to_dict("records")
    assert rows == {"num": 4, "least": 1.0}


def test_a_gated_image_names_the_training_image_that_it_is_like(people, draw_planted, tmp_path):
    run_study(write_study(people, tmp_path, arms=["supervised", "pseudo_gan_full"]), tmp_path / "out", jobs=1)
    ledger = ledger_of(tmp_path / "out", by_arm(tmp_path / "out")["pseudo_gan_full"])
    known, kind = training_people(people), kinds(people)
    with open_archive(people / "people.zip") as archive:
        subject = dict(zip(archive.manifest["file"], archive.subjects, strict=True))
    shown = [subject[name] for name in ledger["gate_nearest"][kind != "strangers"]]
    assert shown == [f"p{number:02d}" for number in known[:18]]
    assert (ledger["gate_nearest"][ledger["gate"] == ""] == "").all()
    assert ledger["gate_value"].isna().tolist() == (ledger["gate"] == "").tolist()


def test_the_report_counts_what_was_turned_away_and_shows_it_beside_real_images(
    people, draw_planted, tmp_path
):
    both = {"arms": ["supervised", "pseudo_both"], "primary": {"arm": "pseudo_both", "fraction": 0.5}}
    run_study(write_study(people, tmp_path, **both), tmp_path / "out", jobs=1)
    info = by_arm(tmp_path / "out")["pseudo_both"]
    counts = {gate["gate"]: gate["num_out"] for gate in info["rounds"][1]["gates"]}
    num_out = sum(counts.values())
    for language, heading, sentence in (
        ("en", "What the gates turned away", f"{num_out} of 34 synthetic images were turned away"),
        ("es", "Lo que rechazaron los filtros", f"Se rechazaron {num_out} de 34 imágenes sintéticas"),
    ):
        page = write_report(tmp_path / "out", language).path.read_text()
        section = page[page.index(f">{heading}</h2>") :].split("<h2")[0]
        assert sentence in section
        shown = sum(min(number, 8) for number in counts.values())
        assert section.count("<img") == 2 * shown  # each has a nearest training image
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    (entry,) = (r for r in found["rounds"] if r["arm"] == "pseudo_both" and r["round_index"] == 1)
    assert {gate["reason"]: gate["num_out"] for gate in entry["gates"]} == counts

    ledger = ledger_of(tmp_path / "out", info)
    real = (ledger["snapshot_sha256"] == "").to_numpy()
    assert real.any() and (ledger["gate"][real] == "").all()  # withheld real images pass
    assert entry["pool_size"] == len(ledger) - num_out
    records = read_records(tmp_path / "out")
    with Shelf(records) as shelf:
        examples = find_examples(records, records.select("pseudo_both", 0.5), shelf)
        drawn = [shelf.find(sha256) for sha256 in ledger["archive_sha256"].unique()]
        pictures = [{to_uri(archive.read_image(k)) for k in range(len(archive))} for archive in drawn]
    assert examples is not None
    (done,) = examples.rounds
    shown_uris = {p.uri for row in done.rows for p in row.pictures} | {p.uri for p in done.rejected}
    assert shown_uris <= pictures[0] | pictures[1]
    assert shown_uris & pictures[0] and shown_uris & pictures[1]  # each from the archive that it is of


def test_a_deliberate_fault_has_the_gates_of_the_arm_that_it_is_held_against(people, draw_planted, tmp_path):
    arms = ["supervised", "pseudo_gan_full", "leak_validation", "random_selection"]
    path = write_study(people, tmp_path, arms=arms, allow_leaks=True)
    run_study(path, tmp_path / "out", jobs=1)
    found = by_arm(tmp_path / "out")
    honest = ledger_of(tmp_path / "out", found["pseudo_gan_full"])
    leaky = ledger_of(tmp_path / "out", found["leak_validation"])
    assert (honest["gate"] == leaky["gate"]).all() and (honest["gate"] != "").any()
    plan = make_plan(load_study(path))
    (control,) = (run for run in plan.runs if run.arm == "random_selection")
    with opened_run_data(control, plan.basis(tmp_path / "out")) as data:
        assert data.gate_basis is None  # it repeats what its reference's ledger says


def test_counts_are_means_over_runs_and_half_of_a_pool_turned_away_is_said_first():
    def entry(num_out: int, limit: float | None) -> dict:
        gate = {"num_asked": 100, "num_out": num_out, "limit": limit, "real_share": 0.1, "text": ""}
        return {"gates": [{**gate, "gate": "off manifold"}, {**gate, "gate": "memorised", "num_out": 2}]}

    gates = count_gates([entry(40, 1.0), entry(64, None), {}])
    assert [(gate.reason, gate.num_out, gate.num_not_measured) for gate in gates] == [
        ("off manifold", 52.0, 1),
        ("memorised", 2.0, 1),
    ]
    assert gates[0].limit == 1.0 and gates[0].real_share == pytest.approx(0.1)
    assert gate_warning("pseudo_gan", gates) == (
        'The gate "off manifold" turned away 52 % of the synthetic images of pseudo_gan: most of what the '
        "generator draws is unlike the real training images. See what the gates turned away before reading "
        "on."
    )
    copies = count_gates([{"gates": [{**entry(0, 1.0)["gates"][1], "num_out": 70}]}])
    assert "the generator repeats its training images" in str(gate_warning("pseudo_gan", copies))
    assert gate_warning("pseudo_gan", gates[1:]) is None and gate_warning("pseudo_gan", ()) is None
    assert count_gates([{}, {"gates": []}]) == ()


def test_without_gates_nothing_is_measured_and_the_numbers_are_those_of_passing_all(
    people, draw_planted, tmp_path
):
    none = write_study(
        people, tmp_path / "none", pseudo={**PSEUDO, "gates": []}, arms=["supervised", "pseudo_gan_full"]
    )
    run_study(none, tmp_path / "none" / "out", jobs=1)
    info = by_arm(tmp_path / "none" / "out")["pseudo_gan_full"]
    assert "gates" not in info["settings"]["pseudo"]
    assert not list((tmp_path / "none" / "out").glob(f"pools/*/{COPIES_FILE}"))
    ledger = ledger_of(tmp_path / "none" / "out", info)
    assert (ledger["gate"] == "").all()
    assert info["rounds"][1]["gates"] == [] and info["rounds"][1]["pool_size"] == len(ledger)


def test_the_same_seed_turns_the_same_images_away(people, draw_planted, tmp_path):
    tables = []
    for name in ("first", "second"):
        path = write_study(people, tmp_path / name, arms=["supervised", "pseudo_gan_full"])
        run_study(path, tmp_path / name / "out", jobs=1)
        tables.append(ledger_of(tmp_path / name / "out", by_arm(tmp_path / name / "out")["pseudo_gan_full"]))
    assert tables[0].equals(tables[1])


def test_images_of_known_class_pass_the_gates_too_and_a_measured_generator_is_not_helped(
    people, draw_planted, tmp_path, monkeypatch
):
    from semisup import pool as pools

    seen = trained_pictures(monkeypatch)
    unlabeled = pools.synthetic_pool

    def labeled(*args, conditional, **more):  # the planted pictures have no class of their own
        found = unlabeled(*args, conditional=False, **{**more, "fraction": None})
        given = np.arange(len(found.images)) % 2
        return pools.Pool(**{**vars(found), "given_labels": given if conditional else None})

    monkeypatch.setattr("semisup.run_data.synthetic_pool", labeled)
    monkeypatch.setattr("semisup.plan.generator_data", lambda arm, fraction: (None, False))
    arms = ["supervised", "pseudo_gan_full", "conditional_gan", "gan_only"]
    config_path = write_study(people, tmp_path, arms=arms, gan={**TINY_GAN, "kimg": 0.016})
    monkeypatch.setattr("semisup.run_data.generator_data", lambda arm, fraction: (None, True))
    run_study(config_path, tmp_path / "out", jobs=1)
    found = by_arm(tmp_path / "out")
    ledger = ledger_of(tmp_path / "out", found["conditional_gan"])
    passed = (ledger["gate"] == "").to_numpy()
    assert set(ledger["decision"][passed]) == {"selected"} and 5 <= passed.sum() < 34
    entry = found["conditional_gan"]["rounds"][1]
    assert entry["num_selected"] == entry["pool_size"] == passed.sum()
    assert sum(gate["num_out"] for gate in entry["gates"]) == (~passed).sum()
    assert sorted(len(pictures) for pictures in seen)[-1] == 34  # gan_only: all that the generator draws


def test_judges_have_no_part_in_a_limit(people):
    with open_archive(people / "people.zip") as archive:
        split = read_split(people / "people.split.json", archive)
        images = np.array(open_images(archive))
        seen = seen_images(archive, images, split, 0, None)
        judges = np.setdiff1d(np.arange(len(images)), seen.rows)
        val = split.rows(archive, 0, "val", 1.0)
        pool = np.stack([image for some in planted(people).values() for image in some])[:, None]
        names = np.array([str(k) for k in range(len(pool))])

        def measure(all_images):
            shown = seen_images(archive, all_images, split, 0, None)
            return measure_copies(pool, names, names, shown, all_images, val, "pool")

        first = measure(images)
        changed = images.copy()
        changed[judges] = images[seen.rows[0]]  # all who judge look like one training image
        second = measure(changed)
    assert first.limits.threshold == second.limits.threshold
    assert first.limits.min_correlation == second.limits.min_correlation
    assert first.scores.tolist() == second.scores.tolist()
    assert (first.limits.judged_memorised, second.limits.judged_memorised) == (0.0, 1.0)
    assert set(seen.subjects).isdisjoint(archive.subjects[judges])


def test_a_pool_of_an_older_study_is_measured_when_it_is_asked_about(people, draw_planted, tmp_path):
    study = write_study(people, tmp_path, arms=["supervised", "pseudo_gan_full"])
    run_study(study, tmp_path / "out", jobs=1)
    (file,) = (tmp_path / "out").glob(f"pools/*/{COPIES_FILE}")
    before = file.read_bytes()
    file.unlink()
    basis = make_plan(load_study(study)).basis(tmp_path / "out")
    with open_archive(people / "people.zip") as archive:
        split = read_split(people / "people.split.json", archive)
        copies_of_pool(basis, file.parent.name, archive, open_images(archive), split, 0, None)
    assert file.read_bytes() == before


def test_copies_read_back_as_they_were_and_a_damaged_or_foreign_file_is_not_believed(people, tmp_path):
    with open_archive(people / "people.zip") as archive:
        split = read_split(people / "people.split.json", archive)
        images = np.array(open_images(archive))
        seen = seen_images(archive, images, split, 0, 0.5)
        copies = measure_copies(
            images[:5], np.array(list("abcde")), np.array(list("vwxyz")), seen, images,
            split.rows(archive, 0, "val", 1.0), "pool",
        )  # fmt: skip
    write_copies(copies, tmp_path / "copies.parquet")
    again = read_copies(tmp_path / "copies.parquet", "pool")
    assert again is not None and again.limits == copies.limits
    assert again.nearest.tolist() == copies.nearest.tolist()
    assert again.scores.tolist() == copies.scores.tolist()
    assert read_copies(tmp_path / "copies.parquet", "another pool") is None
    assert read_copies(tmp_path / "none.parquet", "pool") is None
    (tmp_path / "copies.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(StudyError, match=r"copies.parquet: expected the table of copies .* remove it"):
        read_copies(tmp_path / "copies.parquet", "pool")


def keys(people: Path, folder: Path, gates: list[str] | None) -> dict[str, str]:
    pseudo = PSEUDO if gates is None else {**PSEUDO, "gates": gates}
    arms = ["supervised", "pseudo_real", "pseudo_gan_full", "pseudo_both"]
    plan = make_plan(load_study(write_study(people, folder, pseudo=pseudo, arms=arms)))
    return {run.arm: run.key for run in plan.runs}


def test_gates_change_the_keys_of_arms_with_synthetic_images_alone(people, tmp_path):
    default, none, one = (keys(people, tmp_path, gates) for gates in (None, [], ["off_manifold"]))
    assert default == keys(people, tmp_path, ALL_GATES)
    for arm in ("supervised", "pseudo_real"):
        assert default[arm] == none[arm] == one[arm]
    for arm in ("pseudo_gan_full", "pseudo_both"):
        assert len({default[arm], none[arm], one[arm]}) == 3


def test_a_study_begun_before_there_were_gates_goes_on_without_them_and_is_told_so(
    people, draw_planted, tmp_path
):
    arms = ["supervised", "pseudo_gan_full"]
    path = write_study(people, tmp_path, arms=arms, pseudo={**PSEUDO, "gates": []})
    run_study(path, tmp_path / "out", jobs=1)
    assert "gates" not in json.loads((tmp_path / "out" / "study.json").read_text())["plan"]["pseudo"]
    with pytest.raises(StudyError) as caught:
        run_study(write_study(people, tmp_path, arms=arms), tmp_path / "out", jobs=1)
    assert (
        "(pseudo.gates: none there, same_picture, memorised, near_duplicate, off_manifold now; add "
        "`gates: []` under pseudo to go on without)"
    ) in str(caught.value)


def test_gates_of_a_study_without_synthetic_images_are_no_part_of_its_plan(people, tmp_path):
    real = {"arms": ["supervised", "pseudo_real"], "primary": {"arm": "pseudo_real", "fraction": 0.5}}
    run_study(write_study(people, tmp_path, **real), tmp_path / "out", jobs=1)
    path = write_study(people, tmp_path, **real, pseudo={**PSEUDO, "gates": ["memorised"]})
    assert run_study(path, tmp_path / "out", jobs=1).num_performed == 0


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        (["memorized"], r"pseudo.gates: 'memorized' is no gate; did you mean 'memorised'\?; known gates: s"),
        (["off_manifold", "off_manifold"], r"pseudo.gates: names the same gate twice \(off_manifold, off"),
        ("memorised", r"pseudo.gates: expected a list such as \[a, b\], got 'memorised'"),
    ],
)  # fmt: skip
def test_a_wrong_gate_is_refused_in_words(people, tmp_path, gates, expected):
    with pytest.raises(SettingsError, match=expected):
        load_study(write_study(people, tmp_path, pseudo={**PSEUDO, "gates": gates}))
