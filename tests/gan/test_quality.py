"""Quality measures: names and counts, figures for images one understands, and who may judge whom."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.errors import SettingsError
from gan.data import open_training_images
from gan.errors import GanError
from gan.evaluation import StoredImages, evaluate_archives, evaluate_network, refuse_taught
from gan.features import PixelExtractor, extract_features
from gan.generate import generate_archive
from gan.metric_names import PathSettings
from gan.metrics import density_coverage, frechet_distance, kernel_distance, precision_recall
from gan.path_length import path_length
from gan.quality import (
    is_better,
    measure_generator,
    measure_images,
    needed_extractors,
    parse_metrics,
)
from gan.snapshot import load_generator
from scripts.cli import cli

PIXELS = {"pixels": PixelExtractor()}


def rows(num: int, width: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num, width)).astype(np.float32)


def pictures(num: int, seed: int, brightness: int = 100) -> StoredImages:
    values = np.random.default_rng(seed).integers(brightness - 60, brightness + 60, (num, 1, 4, 4))
    images = values.astype(np.uint8).repeat(4, axis=2).repeat(4, axis=3)
    return StoredImages(images, np.arange(num))


# Names


def test_official_names_mean_the_official_detector_counts_and_result_names():
    fid, kid, pr, score, old = parse_metrics("fid50k_full,kid50k_full,pr50k3_full,is50k,fid50k@inception")
    assert (fid.text, fid.extractor, fid.num_fakes, fid.max_reals) == (
        "fid50k_full",
        "inception",
        50_000,
        None,
    )
    assert (kid.result_names, kid.max_reals) == (("kid50k_full",), 1_000_000)
    assert (pr.extractor, pr.max_reals) == ("vgg16", 200_000)
    assert pr.result_names == ("pr50k3_full_precision", "pr50k3_full_recall")
    assert score.result_names == ("is50k_mean", "is50k_std")
    assert (old.text, old.max_reals, old.has_mirrored, fid.has_mirrored) == ("fid50k", 50_000, True, False)


def test_another_extractor_is_part_of_the_name():
    fid, kid, pr = parse_metrics("fid50k_full@task, kid@dinov2, pr@task")
    assert (fid.text, fid.result_names) == ("fid50k_full@task", ("fid50k_full@task",))
    assert kid.result_names == ("kid@dinov2", "kid_se@dinov2")
    assert pr.result_names == ("pr_precision@task", "pr_recall@task")
    assert needed_extractors((fid, kid, pr)) == {"task", "dinov2"}


def test_path_lengths_say_that_their_distance_is_not_the_learned_one():
    official, ours = parse_metrics("ppl2_wend,ppl@task")
    assert official.result_names == ("ppl2_wend@vgg16-unweighted",)
    assert ours.result_names == ("ppl@task-squared",)
    cropped = parse_metrics("ppl_zfull")[0].path
    assert cropped == PathSettings("z", whole=True, crop=True)


@pytest.mark.parametrize("text", ["none", "", " none "])
def test_no_measure_is_a_measure_list(text):
    assert parse_metrics(text) == ()


@pytest.mark.parametrize("text", ["fid51k", "fid@", "fid@a b", "fid50k_full,,"])
def test_unknown_names_are_refused_with_the_list(text):
    with pytest.raises(
        SettingsError, match="--metrics can only contain the following values: none, fid50k_full"
    ):
        parse_metrics(text)


def test_our_measures_want_an_extractor():
    with pytest.raises(SettingsError, match="as in kid@task"):
        parse_metrics("kid")


# Figures over features


def test_frechet_distance_of_shifted_and_scaled_gaussians_is_the_formula_even_where_flat():
    real = rows(5000, 4)
    real[:, 3] = 0  # a direction without any spread
    fake = 2 * real + np.array([3, 0, 0, 0], dtype=np.float32)
    mean, cov = real.mean(axis=0), np.cov(real, rowvar=False, bias=True)
    shift = np.square(fake.mean(axis=0) - mean).sum()
    assert frechet_distance(real, fake) == pytest.approx(shift + np.trace(cov), rel=1e-4)  # (2 - 1)^2 tr


def test_density_and_coverage_are_the_slow_loops():
    real, fake = rows(30), rows(20, seed=1) * 1.5
    k = 5
    inside = np.zeros((30, 20), dtype=bool)
    for i in range(30):
        to_reals = sorted(np.linalg.norm(real[i] - real[j]) for j in range(30) if j != i)
        for j in range(20):
            inside[i, j] = np.linalg.norm(real[i] - fake[j]) < to_reals[k - 1]
    found = density_coverage(real, fake, k, block=7)
    assert found.density == pytest.approx(inside.sum() / (k * 20))
    assert found.coverage == pytest.approx(inside.any(axis=1).mean())


def test_density_and_coverage_of_one_distribution_are_about_one_and_of_a_far_one_zero():
    found = density_coverage(rows(400), rows(400, seed=1))
    assert found.density == pytest.approx(1, abs=0.15) and found.coverage > 0.9
    far = density_coverage(rows(400), rows(400, seed=1) + 50)
    assert (far.density, far.coverage) == (0, 0)


def test_one_outlying_real_image_does_not_open_density_as_it_opens_precision():
    real = np.concatenate([rows(200), np.full((1, 3), 40, dtype=np.float32)])
    fake = rows(100, seed=1) + 20  # far from all but inside the outlier's wide ball
    assert precision_recall(real, fake).precision == 1
    assert density_coverage(real, fake).density < 0.3


def test_the_standard_error_of_kid_is_the_spread_over_fresh_images():
    values, errors = [], []
    for repeat in range(30):
        found = kernel_distance(
            rows(120, seed=2 * repeat), rows(120, seed=2 * repeat + 1) + 0.7, max_subset_size=60
        )
        values.append(found.mean)
        errors.append(found.standard_error)
    assert np.mean(errors) == pytest.approx(np.std(values, ddof=1), rel=0.4)


def test_kid_on_one_whole_set_does_not_pretend_to_know_its_error():
    assert np.isnan(kernel_distance(rows(20), rows(20, seed=1)).standard_error)


class Ramp(nn.Module):
    """A generator whose image is a linear function of w: its path length is known."""

    z_dim, c_dim = 4, 0

    def mapping(self, z, c):
        return z[:, None].repeat(1, 2, 1)  # w = z, two layers

    def synthesis(self, ws, noise_mode, force_fp32):
        return ws.mean(dim=1).reshape(-1, 1, 2, 2)


class Plain:
    """Squared distances of plain intensities."""

    def squared_distances(self, first, second):
        return np.square(first.astype(np.float64) - second).sum(axis=(1, 2, 3))


def test_path_length_of_a_linear_generator_is_the_squared_distance_of_its_latents():
    reported = []
    found = path_length(
        Ramp(), lambda n: torch.zeros(n, 0), Plain(), PathSettings("w", whole=False, crop=False), 40,
        seed=5, batch_size=40, device=torch.device("cpu"), report=reported.append,
    )  # fmt: skip
    z = torch.randn([80, 4], generator=torch.Generator().manual_seed(5)).numpy()
    expected = np.sort(np.square((z[40:] - z[:40]) * 127.5).sum(axis=1))
    assert found == pytest.approx(expected.mean(), rel=0.02)
    assert reported == [40]


def test_features_come_in_batches_and_must_be_one_finite_row_an_image():
    batches = []
    images = pictures(5, 0)
    found = extract_features(PIXELS["pixels"].features, 5, images.pixels, 2, batches.append)
    np.testing.assert_allclose(found, PIXELS["pixels"].features(images.images), atol=1e-6)
    assert batches == [2, 2, 1]
    with pytest.raises(GanError, match=r"expected features of shape \(2, D\)"):
        extract_features(lambda part: np.zeros((1, 3)), 5, images.pixels, 2)
    with pytest.raises(GanError, match="expected finite features"):
        extract_features(lambda part: np.full((len(part), 3), np.nan), 5, images.pixels, 2)


# Sets of images


def test_images_against_themselves_are_perfect_and_darker_ones_are_not():
    metrics = parse_metrics("fid@pixels,pr@pixels,dc@pixels,kid@pixels")
    real = pictures(60, 0)
    same = measure_images(real, real, metrics, PIXELS)
    darker = measure_images(real, pictures(60, 1, brightness=60), metrics, PIXELS)
    assert same[0].value == pytest.approx(0, abs=1e-4)
    assert same[1].results == {"pr_precision@pixels": 1, "pr_recall@pixels": 1}
    assert darker[0].value > 1 and is_better(same[0], darker[0]) and not is_better(darker[0], same[0])
    assert darker[1].value < 0.1 and is_better(same[1], darker[1])
    assert same[2].results["dc_coverage@pixels"] == 1


def test_our_measures_take_equally_many_images_of_each_side():
    (result,) = measure_images(pictures(40, 0), pictures(25, 1), parse_metrics("fid@pixels"), PIXELS)
    assert (result.num_real, result.num_fake) == (25, 25)
    (fewer,) = measure_images(pictures(40, 0), pictures(25, 1), parse_metrics("fid@pixels"), PIXELS, num=10)
    assert (fewer.num_real, fewer.num_fake) == (10, 10)


def test_figures_of_other_extractors_weights_or_counts_are_never_compared():
    (result,) = measure_images(pictures(20, 0), pictures(20, 1), parse_metrics("fid@pixels"), PIXELS)
    other = replace(result, metric=parse_metrics("fid@task")[0], results={"fid@task": 0.0})
    for changed, reason in (
        (other, r"fid@pixels and fid@task cannot be compared: the measure differs"),
        (replace(result, weights_sha256="0" * 64), "the extractor's weights differs"),
        (replace(result, num_fake=19), "number of generated images differs"),
    ):
        with pytest.raises(GanError, match=reason):
            is_better(result, changed)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "fid@task",
            "expected the extractor 'task', got none of that name; give it with --extractor task=PATH",
        ),
        ("is50k@pixels", "expected 50,000 generated images, got 5"),
        ("ppl@pixels", "a path length needs a generator"),
        ("dc@pixels", "expected at least 6 images on each side, got 5"),
    ],
)
def test_what_cannot_be_measured_is_said_before_any_work(text, sentence):
    with pytest.raises(SettingsError, match=sentence):
        measure_images(pictures(5, 0), pictures(5, 1), parse_metrics(text), PIXELS)


# Generators


@pytest.fixture(scope="module")
def reals(shapes, shapes_split):
    return open_training_images(shapes, shapes_split, 1, mirror=True)


def test_a_generator_is_measured_alike_each_time_and_no_random_state_moves(trained, reals):
    G, _ = load_generator(trained)
    metrics = parse_metrics("fid@pixels,kid@pixels,ppl@pixels")
    torch.manual_seed(7)
    before = torch.get_rng_state()
    cache: dict = {}
    first = measure_generator(G, reals, metrics, PIXELS, cache=cache, batch_size=8)
    again = measure_generator(G, reals, metrics, PIXELS, cache=cache, batch_size=8)
    assert [result.results for result in first] == [result.results for result in again]
    assert torch.equal(before, torch.get_rng_state())
    assert (first[0].num_real, first[0].num_fake) == (len(reals.rows), len(reals.rows))
    assert len(cache) == 1 and next(iter(cache.values())).shape == (len(reals.rows), 256)
    other = measure_generator(G, reals, metrics[:1], PIXELS, seed=1, batch_size=8)
    assert other[0].value != first[0].value


def test_official_counts_are_kept_and_legacy_measures_count_mirrored_reals(trained, reals):
    G, _ = load_generator(trained)
    full, legacy = (replace(m, num_fakes=40) for m in parse_metrics("fid50k_full@pixels,fid50k@pixels"))
    results = measure_generator(G, reals, [full, legacy], PIXELS)
    assert [(r.num_real, r.num_fake) for r in results] == [
        (len(reals.rows), 40),
        (2 * len(reals.rows), 40),
    ]
    line = results[0].line("network-snapshot-000000.safetensors")
    official = ["results", "metric", "total_time", "total_time_str", "num_gpus", "snapshot_pkl", "timestamp"]
    assert list(line)[:7] == official
    assert line["results"] == {"fid50k_full@pixels": results[0].value}
    assert (line["extractor"], line["num_real"], line["num_fake"]) == ("pixels", len(reals.rows), 40)


def test_a_conditional_generator_draws_the_labels_of_real_images(trained_conditional, shapes):
    G, _ = load_generator(trained_conditional)
    reals = open_training_images(shapes, cond=True)
    (result,) = measure_generator(G, reals, parse_metrics("fid@pixels"), PIXELS)
    assert result.num_fake == len(reals.rows) and np.isfinite(result.value)


# From files


def test_evaluation_finds_what_the_run_was_trained_on_and_adds_a_line(trained, shapes_split):
    metrics = parse_metrics("fid@pixels")
    found = evaluate_network(trained.parent, metrics, PIXELS)
    assert found.reference == "shapes.zip, train part of fold 1"
    (path,) = found.written
    assert path == trained.parent / "metric-fid@pixels.jsonl"
    evaluate_network(trained, metrics, PIXELS, seed=1)
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    assert [line["seed"] for line in lines] == [0, 1]
    assert lines[0]["snapshot_pkl"] == trained.name and lines[0]["fold"] == 1
    path.unlink()


def test_truncated_or_held_out_figures_are_not_mixed_with_those_of_training(trained):
    metrics = parse_metrics("fid@pixels")
    assert evaluate_network(trained, metrics, PIXELS, truncation_psi=0.5).written == []
    held_out = evaluate_network(trained, metrics, PIXELS, part="test")
    assert held_out.reference == "shapes.zip, test part of fold 1" and held_out.written == []


def test_held_out_measures_refuse_a_generator_that_saw_those_people(trained, shapes_split):
    with pytest.raises(GanError, match=r"was trained on \d+ of the \d+ subjects of the test part of fold 0"):
        evaluate_network(
            trained, parse_metrics("fid@pixels"), PIXELS, split=shapes_split, fold=0, part="test"
        )


class Taught(PixelExtractor):
    name = "task"

    def __init__(self, train, val, archive):
        self.train_subjects, self.val_subjects, self.archive_sha256 = train, val, archive


def test_held_out_measures_refuse_a_network_that_learned_from_those_people():
    extractor = Taught(["s01", "s02"], ["s03"], "a" * 64)
    refuse_taught({"task": extractor}, ["s04"], "a" * 64, "the test part")
    with pytest.raises(GanError, match=r"learned from, or was chosen on, 2 of the 2 subjects .*s02, s03"):
        refuse_taught({"task": extractor}, ["s02", "s03"], "a" * 64, "the test part")
    with pytest.raises(GanError, match="so it cannot be checked whether it learned from the test part"):
        refuse_taught({"task": extractor}, ["s04"], "b" * 64, "the test part")


def test_another_archive_is_measured_with_a_note_and_not_recorded(trained, shapes, tmp_path):
    generate_archive(trained, range(24), tmp_path / "fakes.zip")
    found = evaluate_archives(shapes, tmp_path / "fakes.zip", parse_metrics("fid@pixels"), PIXELS)
    assert found.results[0].num_real == 24 and found.written == []
    with pytest.raises(SettingsError, match="give --split FILE"):
        evaluate_network(
            trained, parse_metrics("fid@pixels"), PIXELS, data=write_other(tmp_path), part="test"
        )
    noted = evaluate_network(trained, parse_metrics("fid@pixels"), PIXELS, data=write_other(tmp_path))
    assert "is not the archive that the generator was trained on" in noted.notes[0] and not noted.written


def write_other(folder: Path) -> Path:
    """Four people whom no generator knows."""
    with ArchiveWriter(folder / "other.zip", overwrite=True) as writer:
        for number, image in enumerate(np.random.default_rng(0).integers(0, 255, (8, 16, 16))):
            writer.add(image.astype(np.uint8), ImageRecord(label="disc", subject=f"other{number // 2}"))
    return folder / "other.zip"


def test_a_snapshot_without_its_run_folder_asks_for_the_data(trained, tmp_path):
    alone = tmp_path / trained.name
    alone.write_bytes(trained.read_bytes())
    with pytest.raises(GanError, match="Could not look up dataset options; please specify --data"):
        evaluate_network(alone, parse_metrics("fid@pixels"), PIXELS)


def run(*arguments: object):
    return CliRunner().invoke(cli, ["gan", "evaluate", *map(str, arguments)])


def test_the_command_prints_a_table_and_writes_json(trained, tmp_path):
    result = run("--network", trained, "--metrics=fid@pixels,dc@pixels", "--trunc=0.9", "--device=cpu",
                 "--json", tmp_path / "a.json")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "fid@pixels" in result.output and "dc_coverage@pixels" in result.output
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["results"][0]["truncation_psi"] == 0.9
    again = run("--network", trained, "--metrics=fid@pixels", "--json", tmp_path / "a.json")
    assert again.exit_code == 2 and "exists already" in again.output


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--metrics=fid@pixels"], 2, "expected either --network SNAPSHOT or both --reals"),
        (["--network=x", "--gpus=0"], 2, "must be at least 1"),
        (["--network=x", "--metrics=abc"], 2, "--metrics can only contain the following values"),
        (["--network=x", "--metrics=none"], 2, "expected at least one measure"),
        (["--network=x", "--metrics=fid@task"], 2, "give --extractor task=RUN"),
        (["--network=x", "--extractor=task"], 2, "expected NAME=PATH"),
        (
            ["--network=x.safetensors", "--metrics=fid@pixels"],
            1,
            "expected a GAN snapshot, got nothing there",
        ),
    ],
)
def test_wrong_options_end_in_a_sentence(arguments, code, sentence):
    result = run(*arguments)
    assert result.exit_code == code and sentence in " ".join(result.output.split())


def test_the_extractor_of_intensities_repeats_itself_and_sees_colour(shapes):
    with open_archive(shapes) as archive:
        image = archive.read_image(0)[None]
    features = PIXELS["pixels"].features(image)
    assert features.shape == (1, 256) and features.min() >= 0 and features.max() <= 1
    coloured = PIXELS["pixels"].features(np.concatenate([image, image // 2, image], axis=1))
    np.testing.assert_allclose(coloured[:, :256], features, atol=1e-6)
    assert coloured.shape == (1, 768)
