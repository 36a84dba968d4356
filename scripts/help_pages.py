"""The `--help` text of every command, as the files of docs/cli (remake them with `make docs`)."""

from pathlib import Path

import click

from extract.atomic import write_text
from scripts.cli import cli

PAGES_DIR = Path(__file__).parent.parent / "docs" / "cli"
WIDTH = 100  # columns; fixed, so that the pages do not depend on a terminal


def help_pages() -> dict[str, str]:
    """Map each command's full name ("synthlabel gan train") to its help text."""
    pages: dict[str, str] = {}
    _collect(cli, "synthlabel", None, pages)
    return pages


def page_path(name: str) -> Path:
    """The file in docs/cli that holds the help of the command `name`."""
    return PAGES_DIR / (name.replace(" ", "-") + ".txt")


def _collect(command: click.Command, name: str, parent: click.Context | None, pages: dict[str, str]) -> None:
    context = command.make_context(
        name.split()[-1],
        [],
        parent=parent,
        resilient_parsing=True,
        terminal_width=WIDTH,
        max_content_width=WIDTH,
    )
    context.info_name = name if parent is None else name.split()[-1]
    pages[name] = command.get_help(context) + "\n"
    if isinstance(command, click.Group):
        for member_name in command.list_commands(context):
            member = command.get_command(context, member_name)
            if member is not None:
                _collect(member, f"{name} {member_name}", context, pages)


def main() -> None:
    """Write every page, and remove those of commands that are gone."""
    pages = help_pages()
    kept = {page_path(name) for name in pages}
    for name, text in pages.items():
        write_text(page_path(name), text)
    for path in PAGES_DIR.glob("*.txt"):
        if path not in kept:
            path.unlink()
    click.echo(f"{PAGES_DIR}: {len(pages)} pages")


if __name__ == "__main__":
    main()
