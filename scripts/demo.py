"""`synthlabel demo`: the whole pipeline on phantom volumes, by the very commands that a user would type."""

import json
import shlex
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click

from extract.atomic import write_text
from extract.errors import SettingsError, SynthlabelError
from extract.language import LANGUAGES

STUDY_FILE = """\
# The study that `synthlabel demo` runs; docs/studies.md explains every key.
name: phantom-demo
data: planes.zip
split: planes.split.json
folds: all
seeds: {seeds}
fractions: [0.2, 0.5, 0.7]
arms: [supervised, supervised_full, pseudo_real, pseudo_gan_full]
primary: {{arm: pseudo_gan_full, baseline: supervised, fraction: 0.2, metric: balanced_accuracy}}
classifier: {{arch: small_resnet, steps: {steps}, batch_size: 64}}
gan: {{cfg: small, kimg: {kimg:g}}}
pool: {{num_images: {pool}, truncation_psi: 1.0}}
pseudo: {{threshold: 0.75, rounds: 2}}
"""


@dataclass(frozen=True)
class DemoConfig:
    """How large the demo is; the defaults take some minutes on two cores."""

    subjects: int = 44  # each is tested once, over two folds; a headline needs twenty
    size: int = 32  # pixels
    kimg: float = 22.0  # training of each fold's generator, thousands of images
    seeds: int = 3
    steps: int = 160  # optimiser steps a classifier training
    pool: int = 2000  # synthetic images a fold
    seed: int = 0


QUICK = DemoConfig(subjects=24, kimg=0.5, seeds=1, steps=20, pool=64)  # shows that everything runs, no more


@dataclass(frozen=True)
class Step:
    """One command of the pipeline, and the file that says it is done."""

    title: str
    arguments: tuple[str, ...]
    result: Path | None  # None: the command itself skips what is done


def plan_steps(outdir: Path, config: DemoConfig, lang: str = "en") -> list[Step]:
    """The commands of the demo, in order; the report at its end is written in `lang`."""
    volumes, planes, split = outdir / "volumes", outdir / "planes.zip", outdir / "planes.split.json"
    subjects = volumes / "subjects.csv"  # written last
    return [
        Step(
            "brain phantoms, as NRRD volumes in five different axis orders",
            ("extract", "phantom", "--out", f"{volumes}", "--subjects", f"{config.subjects}",
             "--seed", f"{config.seed}", "--voxel-mm", "3", "--noise", "0.06"),
            subjects,
        ),
        Step(
            "oblique planes, labeled sagittal, coronal or (with little tissue) noise",
            ("extract", "volumes", "--source", f"{volumes}", "--subjects", f"{subjects}",
             "--dest", f"{planes}", "--size", f"{config.size}", "--planes", "sagittal,coronal",
             "--angles", "-42:42:14", "--slices-per-plane", "3", "--noise-below", "0.4"),
            planes,
        ),
        Step(
            "a contact sheet to look at",
            ("extract", "show", "--data", f"{planes}", "--dest", f"{outdir / 'planes.png'}"),
            outdir / "planes.png",
        ),
        Step(
            "one split by subject for everything that follows",
            ("extract", "split", "--data", f"{planes}", "--dest", f"{split}", "--folds", "2",
             "--seed", f"{config.seed}"),
            split,
        ),
        Step(
            "the study: a StyleGAN2-ADA a fold, synthetic images, pseudo-label rounds, three label fractions",
            ("semisup", "run", "--study", f"{outdir / 'study.yaml'}", "--outdir", f"{outdir / 'study'}",
             *(() if lang == "en" else ("--lang", lang))),
            None,
        ),
    ]  # fmt: skip


@click.command("demo")
@click.option(
    "--outdir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder to work in; the same command goes on where it was stopped.",
)
@click.option(
    "--quick", is_flag=True, help="Tiny settings: shows that everything runs here, and nothing more."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--lang",
    type=click.Choice(LANGUAGES),
    default="en",
    show_default=True,
    help="Language of the report.",
)
def commands(outdir: Path, quick: bool, seed: int, lang: str) -> None:
    """The whole pipeline on phantom volumes, in minutes: volumes, slices, split, GAN, study, report."""
    config = replace(QUICK if quick else DemoConfig(), seed=seed)
    started = time.monotonic()
    run_demo(outdir, config, lang)
    from semisup.report import report_name  # numpy and pandas, which the run has loaded by now

    minutes, seconds = divmod(int(time.monotonic() - started), 60)
    report = outdir / "study" / report_name(lang)
    click.echo(f"\nDemo done in {minutes} min {seconds:02d} s. Open {report} in a browser.")


def run_demo(outdir: Path, config: DemoConfig, lang: str = "en") -> None:
    """Run every step that is not done yet, by its command.

    Raises:
        SettingsError: if the folder holds a demo of other settings.
    """
    _begin(outdir, config)
    steps = plan_steps(outdir, config, lang)
    for number, step in enumerate(steps, start=1):
        click.secho(f"\n[{number}/{len(steps)}] {step.title}", bold=True)
        click.echo(f"$ {shlex.join(('synthlabel', *step.arguments))}")
        if step.result is not None and step.result.exists():
            click.echo(f"{step.result}: done before")
            continue
        _run(step)


def _begin(outdir: Path, config: DemoConfig) -> None:
    record = outdir / "demo.json"
    wanted = asdict(config)
    if record.exists():
        there = json.loads(record.read_text(encoding="utf-8"))
        if there != wanted:
            raise SettingsError(
                f"{outdir} holds a demo with other settings ({there}); choose another --outdir or remove it"
            )
        return
    if outdir.exists() and any(outdir.iterdir()):
        raise SettingsError(f"{outdir} is not empty and holds no demo; choose another --outdir")
    study = STUDY_FILE.format(
        seeds=list(range(config.seeds)), steps=config.steps, kimg=config.kimg, pool=config.pool
    )
    write_text(outdir / "study.yaml", study)
    write_text(record, json.dumps(wanted) + "\n")


def _run(step: Step) -> None:
    from scripts.cli import cli  # here, because the command line imports this module

    typed = sys.argv
    sys.argv = ["synthlabel", *step.arguments]  # what a command records as the way to repeat it
    try:
        code = cli.main(list(step.arguments), standalone_mode=False)
    except click.ClickException as error:
        raise SynthlabelError(error.format_message()) from error
    finally:
        sys.argv = typed
    if code:  # an interrupted command ends with a code, not with an error
        raise click.exceptions.Exit(code)
