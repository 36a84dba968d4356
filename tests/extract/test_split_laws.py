"""What holds for every table of subjects: a request is kept or refused, and no planted fault passes."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from extract.archive import Archive, ArchiveWriter, ImageRecord, open_archive
from extract.errors import ExtractError
from extract.held_out import HeldOut
from extract.split import check_split, make_split, read_split, write_split
from tests.extract.making import random_pixels, write_archive

LAW = settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
Content = dict[str, Any]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """40 subjects of one or two classes, a few with many images, two of them with one picture in common."""
    images = {f"s{k:02d}": ["a", "b", "ab", "aab"][k % 4] * (1 + k % 3) for k in range(40)}
    with write_archive(tmp_path_factory.mktemp("laws") / "a.zip", images, [("s04", "s08")]) as opened:
        yield opened


@pytest.fixture(scope="module")
def content(archive, tmp_path_factory) -> str:
    split = make_split(
        archive, num_folds=3, fractions=(0.3, 0.6), val_share=0.2, seed=1, links=(("s01", "s03", "s05"),)
    )
    path = tmp_path_factory.mktemp("laws") / "a.split.json"
    write_split(split, path)
    assert read_split(path, archive).linked_subjects == (("s01", "s03", "s05"), ("s04", "s08"))
    return path.read_text()


def _pick(names: list[str], rng: np.random.Generator) -> str:
    return names[int(rng.integers(len(names)))]


def _on_two_sides(fold: Content, rng: np.random.Generator) -> None:
    name = _pick(fold["test"], rng)
    if rng.random() < 0.5:
        fold["train"].append(name)
        fold["labeled"]["1.0"].append(name)
    else:
        fold["val"]["1.0"].append(name)


def _twice_in_a_part(fold: Content, rng: np.random.Generator) -> None:
    part = [fold["test"], fold["train"], *fold["val"].values(), *fold["labeled"].values()]
    chosen = part[int(rng.integers(len(part)))]
    chosen.append(_pick(chosen, rng))


def _nobody(fold: Content, rng: np.random.Generator) -> None:
    for part in (fold["train"], fold["labeled"]["1.0"]):
        part.append("nobody")


def _not_nested(fold: Content, rng: np.random.Generator) -> None:
    kind = ("labeled", "val")[int(rng.integers(2))]
    name = _pick(fold[kind]["0.3"], rng)
    fold[kind]["0.6"] = [other for other in fold[kind]["0.6"] if other != name]


def _labeled_outside_training(fold: Content, rng: np.random.Generator) -> None:
    fold["labeled"]["0.6"].append(_pick(fold["val"]["1.0"], rng))


def _class_missing(fold: Content, rng: np.random.Generator) -> None:
    only_a = {f"s{k:02d}" for k in range(0, 40, 4)}
    part = [fold["test"], fold["labeled"]["0.3"], fold["val"]["0.3"]][int(rng.integers(3))]
    part[:] = [name for name in part if name in only_a]


def _same_fractions(fold: Content, rng: np.random.Generator) -> None:
    fold["labeled"]["0.6"] = list(fold["labeled"]["0.3"])


def _validation_too_large(fold: Content, rng: np.random.Generator) -> None:
    fold["val"]["0.3"] = list(fold["val"]["1.0"])
    moved = fold["train"][-10:]
    for part in (fold["train"], *fold["labeled"].values()):
        part[:] = [name for name in part if name not in moved]
    for part in fold["val"].values():
        part += moved


def _fraction_too_large(fold: Content, rng: np.random.Generator) -> None:
    """The smaller fractions become nearly all of the training part, nested as they should be."""
    first = set(fold["labeled"]["0.3"])
    others = [name for name in fold["train"] if name not in first]
    fold["labeled"]["0.3"] = sorted(first | set(others[:-2]))
    fold["labeled"]["0.6"] = sorted(first | set(others[:-1]))


def _linked_parted(fold: Content, rng: np.random.Generator) -> None:
    """One of three near duplicates' subjects goes elsewhere."""
    group = ["s01", "s03", "s05"]
    name = _pick(group, rng)
    if name in fold["test"]:
        fold["test"].remove(name)
        for part in (fold["train"], fold["labeled"]["1.0"]):
            part.append(name)
    else:
        for part in (fold["train"], *fold["labeled"].values(), *fold["val"].values()):
            part[:] = [other for other in part if other != name]
        fold["test"].append(name)


FAULTS: tuple[Callable[[Content, np.random.Generator], None], ...] = (
    _on_two_sides, _twice_in_a_part, _nobody, _not_nested, _labeled_outside_training, _class_missing,
    _same_fractions, _validation_too_large, _fraction_too_large, _linked_parted,
)  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_no_planted_fault_passes(archive, content, tmp_path, fault):
    for number in range(3):
        for seed in range(4):
            changed = json.loads(content)
            fault(changed["folds"][number], np.random.default_rng(seed))
            (tmp_path / "b.split.json").write_text(json.dumps(changed))
            with pytest.raises(ExtractError, match=rf"fold {number}|of one fold, got s"):
                read_split(tmp_path / "b.split.json", archive)


def test_test_parts_of_very_different_sizes_are_refused(archive, content, tmp_path):
    changed = json.loads(content)
    test = changed["folds"][1]["test"]
    changed["folds"][1]["test"] = [name for name in test if int(name[1:]) % 4 == 2][:2]  # of both classes
    (tmp_path / "b.split.json").write_text(json.dumps(changed))
    with pytest.raises(
        ExtractError, match=r"expected about \d+ subjects in the test part, got \d+; make the"
    ):
        read_split(tmp_path / "b.split.json", archive)


def test_one_subject_left_out_by_hand_is_no_fault(archive, content, tmp_path):
    changed = json.loads(content)
    for fold in changed["folds"]:
        for part in (fold["test"], fold["train"], *fold["labeled"].values(), *fold["val"].values()):
            part[:] = [name for name in part if name != "s30"]
    (tmp_path / "b.split.json").write_text(json.dumps(changed))
    read_split(tmp_path / "b.split.json", archive)


@given(
    table=st.lists(
        st.tuples(st.sampled_from("xyz"), st.text("abc", min_size=1, max_size=3)), min_size=4, max_size=24
    ),
    fraction=st.sampled_from([0.2, 0.5, 0.8]),
    val_share=st.floats(0.05, 0.5),
    seed=st.integers(0, 3),
    links=st.lists(st.tuples(st.integers(0, 23), st.integers(0, 23)), max_size=2),
    whole=st.booleans(),
)
@LAW
def test_a_site_is_held_out_whole_or_the_request_is_refused(
    tmp_path_factory, table, fraction, val_share, seed, links, whole
):
    with _write_sites(tmp_path_factory.mktemp("law") / "a.zip", table) as archive:
        named = [(f"s{a}", f"s{b}") for a, b in links if a < b < len(table)]
        try:
            split = make_split(
                archive, fractions=(fraction,), val_share=val_share, seed=seed, links=named,
                held_out=HeldOut("plane", ()), whole_subjects=whole,
            )  # fmt: skip
        except ExtractError as error:
            assert any(
                words in str(error)
                for words in (
                    "hold out something else",
                    "--whole-subjects",
                    "to hold out in turn",
                    "in several",
                )
            )
            return
        check_split(split, archive)
        assert split.held_out is not None
        for fold, site in zip(split.folds, split.held_out.values, strict=True):
            of_site = {f"s{k}" for k, (place, _) in enumerate(table) if place == site}
            assert of_site <= set(fold.test) and not of_site & {*fold.train, *fold.val[1.0]}
            assert set(fold.test) - of_site <= {name for pair in named for name in pair}
            for part in split.fractions:
                num_labeled = len(split.rows(archive, split.folds.index(fold), "train", part))
                assert 0 < len(split.rows(archive, split.folds.index(fold), "val", part)) <= num_labeled


def _write_sites(path, table) -> Archive:
    with ArchiveWriter(path) as writer:
        for k, (site, labels) in enumerate(table):
            for j, label in enumerate(labels):
                writer.add(random_pixels(k, j), ImageRecord(label=label, subject=f"s{k}", plane=site))
    return open_archive(path)
