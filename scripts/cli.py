"""The `synthlabel` command: finds the group that was asked for; errors become sentences and exit codes."""

import errno
import sys
from importlib import import_module
from typing import Any

import click

from extract.errors import SettingsError, SynthlabelError

# Groups are imported when they are used: torch and fastai take seconds, `--help` must not.
GROUPS = {
    "extract": "Volumes and image folders to archives; subjects and splits.",
    "gan": "Train StyleGAN2-ADA on an archive and sample images from it.",
    "classifier": "Train and evaluate classifiers on archives.",
    "semisup": "Pseudo-label studies: plan, run, report.",
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
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            where = f" ({error.filename})" if error.filename else ""
            raise click.ClickException(
                f"the disk is full{where}: free some space and run the same command again; "
                "what was finished before is intact"
            ) from error
        except KeyboardInterrupt:
            click.echo(
                "\nInterrupted: what was finished is intact; the same command goes on or starts over.",
                err=True,
            )
            ctx.exit(130)


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
