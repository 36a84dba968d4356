"""Whom an encoder has seen follows it into every classifier that is made of it."""

import json
import shutil

import numpy as np
import pytest

from classifier.config import ClassifierConfig
from classifier.encoder_file import check_weights_for_fold, find_record, read_record, refuse_seen_by_weights
from classifier.errors import ClassifierError
from classifier.job import evaluate_run, train_run
from classifier.pretrain_config import PretrainConfig
from classifier.pretrain_job import pretrain_run
from extract.archive import open_archive
from extract.split import read_split
from tests.classifier.toy_archive import write_toys

CONFIG = ClassifierConfig(
    arch="denoiser_se", steps=2, batch_size=8, validate_every=1, preprocessing="pneumonia-backbone", lr=1e-3
)


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    return write_toys(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def encoder(toys, tmp_path_factory):
    """An encoder that has seen the training part of fold 0."""
    outdir = tmp_path_factory.mktemp("run")
    config = PretrainConfig(steps=1, batch_size=8, preprocessing="pneumonia-backbone")
    return pretrain_run(toys[0], outdir, config, split_path=toys[1]).encoder


def with_weights(encoder):
    return ClassifierConfig(**{**vars(CONFIG), "weights": encoder})


def test_a_training_on_the_same_fold_takes_the_encoder_and_remembers_whom_it_saw(toys, encoder, tmp_path):
    classifier, _ = train_run(*toys, 0, 0.5, with_weights(encoder), tmp_path / "run")
    with open_archive(toys[0]) as archive:
        split = read_split(toys[1], archive)
    whole_part = set(split.subjects(0, "train", 1.0))
    assert set(split.subjects(0, "train", 0.5)) < whole_part == set(classifier.train_subjects)
    with pytest.raises(ClassifierError, match=r"was trained on .* of the subjects it would be evaluated on"):
        evaluate_run(tmp_path / "run", *toys, "test", fold=1)  # whom the encoder alone has seen


def test_an_encoder_that_saw_a_judge_is_refused_and_the_subjects_are_named(toys, encoder, tmp_path):
    with open_archive(toys[0]) as archive:
        split = read_split(toys[1], archive)
        seen = sorted(set(split.subjects(0, "train")) & set(split.subjects(1, "test")))
        assert seen
        with pytest.raises(
            ClassifierError, match=r"subjects of the test part of fold 1.*Train it on"
        ) as told:
            check_weights_for_fold(encoder, archive, split, 1)
        assert all(name in str(told.value) for name in seen[:5])
    with pytest.raises(ClassifierError, match=f"was trained on {len(seen)} of the .*{seen[0]}"):
        train_run(*toys, 1, 1.0, with_weights(encoder), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_strangers_of_another_archive_pass_only_on_the_users_word(encoder):
    record = read_record(encoder)
    known = {*record.subjects, "judge"}

    def check(known_subjects, **more):
        refuse_seen_by_weights(
            record,
            ["judge"],
            "test",
            "fold 0",
            archive_sha256="f" * 64,
            known_subjects=known_subjects,
            **more,
        )

    check(known)  # another size of the same pictures: everybody has a name here, and none is a judge
    with pytest.raises(ClassifierError, match=r"another archive .* 1 of whose subjects are not in this one"):
        check(known - {record.subjects[0]})
    check(known - {record.subjects[0]}, allow_other_archive=True)


def test_record_and_weights_belong_together(encoder, tmp_path):
    for name in ("encoder.safetensors", "encoder.json"):
        shutil.copy(encoder.with_name(name), tmp_path / name)
    weights = tmp_path / "encoder.safetensors"
    assert read_record(weights).content["channels"] == 1
    content = json.loads((tmp_path / "encoder.json").read_text())
    (tmp_path / "encoder.json").write_text(json.dumps(content | {"weights_sha256": "0" * 64}))
    with pytest.raises(ClassifierError, match="one of other weights"):
        find_record(weights)
    (tmp_path / "encoder.json").write_text(json.dumps(content | {"subjects": {}}))
    with pytest.raises(ClassifierError, match="got a fault at 'train'"):
        find_record(weights)
    (tmp_path / "encoder.json").unlink()
    with pytest.raises(ClassifierError, match="nobody knows whom the encoder has seen"):
        find_record(weights)


def test_weights_of_another_kind_have_no_record(tmp_path):
    from safetensors.numpy import save_file

    save_file({"conv.weight": np.zeros(3, np.float32)}, tmp_path / "published.safetensors")
    assert find_record(tmp_path / "published.safetensors") is None
    assert find_record(None) is None


def test_weights_of_an_own_run_are_held_to_the_same_rule(toys, tmp_path):
    plain = ClassifierConfig(steps=1, batch_size=8, validate_every=1)
    first, _ = train_run(*toys, 0, 0.5, plain, tmp_path / "first")
    further = ClassifierConfig(**{**vars(plain), "weights": tmp_path / "first" / "model.safetensors"})
    second, _ = train_run(*toys, 0, 1.0, further, tmp_path / "second")  # its validation may validate again
    assert set(first.val_subjects) <= set(second.val_subjects)
    with open_archive(toys[0]) as archive:
        split = read_split(toys[1], archive)
    fold = next(fold for fold in (1, 2) if set(first.train_subjects) & set(split.subjects(fold, "test")))
    with pytest.raises(ClassifierError, match=f"the classifier was trained on .* test part of fold {fold}"):
        train_run(*toys, fold, 1.0, further, tmp_path / "third")
    record = find_record(further.weights)
    chooser = [first.val_subjects[0]]
    known = {"archive_sha256": record.archive_sha256, "known_subjects": ()}
    refuse_seen_by_weights(record, chooser, "val", "fold 0", **known)
    with pytest.raises(ClassifierError, match="results on them would be too good"):
        refuse_seen_by_weights(record, chooser, "test", "fold 0", **known)
