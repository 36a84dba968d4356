"""The `synthlabel` command: finds the group that was asked for; errors become sentences and exit codes."""

import errno
import os
import sys
from importlib import import_module
from typing import Any

import click

from extract.errors import SettingsError, SynthlabelError

# Waiting threads shall spin for some microseconds and then sleep: beside other busy processes spinning on
# takes ten times the time, and sleeping at once costs a third of the speed where the cores are free. The
# variable is read when torch is first imported, which is after this, and worker processes inherit it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# Groups are imported when they are used: torch and fastai take seconds, `--help` must not.
GROUPS = {
    "extract": "Volumes and image folders to archives; subjects and splits.",
    "gan": "Train StyleGAN2-ADA on an archive and sample images from it.",
    "classifier": "Train and evaluate classifiers on archives.",
    "semisup": "Pseudo-label studies: plan, run, report.",
    "app": "The web page: predict, and see what speaks for it.",
    "demo": "The whole pipeline on phantom volumes, in minutes.",
}


class LazyGroups(click.Group):
    """A click group whose members live in `scripts/<name>.py` as `commands`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(GROUPS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in GROUPS:
            return None
        return import_module(f"scripts.{name}").commands

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(GROUPS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            raise click.UsageError(str(error)) from error
        except SynthlabelError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            raise click.ClickException(describe_os_error(error)) from error
        except KeyboardInterrupt:
            click.echo(
                "\nInterrupted: what was finished is intact; the same command goes on or starts over.",
                err=True,
            )
            ctx.exit(130)


def describe_os_error(error: OSError) -> str:
    """What the system refused, as a sentence; an error's notes say how to go on.

    Raises:
        OSError: the error itself, where it is not about a file that the user named.
    """
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = (
            "; ".join(getattr(error, "__notes__", ())) or "free some space and run the same command again"
        )
        return f"the disk is full{where}: {remedy}; what was finished before is intact"
    if error.errno == errno.EPIPE or not error.filename:  # a reader that left is click's business
        raise error
    place = error.filename2 or error.filename
    return (
        f"{place}: expected a file or folder that can be read or written there, got: "
        f"{str(error.strerror).lower()}; name another place, or mend this one"
    )


@click.group(cls=LazyGroups, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="synthlabel")
def cli() -> None:
    """Train medical-image classifiers from few labels with synthetic images, and say whether it helped.

    The pipeline: extract volumes -> extract split -> gan train -> gan generate -> semisup run.
    """


def main() -> None:
    """Entry point of the `synthlabel` command."""
    sys.exit(cli())


if __name__ == "__main__":
    main()
