"""`synthlabel app`: start the web page."""

from __future__ import annotations

from pathlib import Path

import click

from scripts.app.settings import LANGUAGES, LOCAL, AppSettings, check_settings


@click.command("app")
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder of a finished classifier run, or an .onnx file of `classifier export`.",
)
@click.option(
    "--study",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder of a pseudo-label study.",
)
@click.option(
    "--audit",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder that `semisup audit export` wrote of that study, to read on the page.",
)
@click.option(
    "--archive",
    type=click.Path(path_type=Path),
    default=None,
    help="Archive that the model was trained on, for the nearest training images, or that is to be reviewed.",
)
@click.option(
    "--split",
    type=click.Path(path_type=Path),
    default=None,
    help="Split of the archive, to review its training part.  [default: the one beside it]",
)
@click.option(
    "--fold", type=click.IntRange(min=0), default=0, show_default=True, help="Fold that is reviewed."
)
@click.option(
    "--network",
    type=click.Path(path_type=Path),
    default=None,
    help="Generator to make images with: snapshot, or run folder for its newest.",
)
@click.option(
    "--lang",
    type=click.Choice(tuple(LANGUAGES)),
    default="en",
    show_default=True,
    help="Language to begin with; the page has a switch.",
)
@click.option(
    "--address",
    default=LOCAL[0],
    show_default=True,
    help="Where to listen. Any other than this machine's own lets others in.",
)
@click.option("--port", type=click.IntRange(1, 65535), default=8501, show_default=True)
@click.option("--no-browser", is_flag=True, help="Do not open a browser, only print the address.")
def app(
    model: Path | None,
    study: Path | None,
    audit: Path | None,
    archive: Path | None,
    split: Path | None,
    fold: int,
    network: Path | None,
    lang: str,
    address: str,
    port: int,
    no_browser: bool,
) -> None:
    """Open the web page for people who label images: predict, with what speaks for it.

    It runs on this machine alone: no account, no request to anywhere else, and what is uploaded stays in
    memory until the page is closed. Ctrl-C ends it. For research, not for diagnosis.
    """
    settings = AppSettings(
        model=model,
        study=study,
        audit=audit,
        archive=archive,
        split=split,
        fold=fold,
        network=network,
        language=lang,
        is_local=address in LOCAL,
    )
    check_settings(settings)
    from scripts.app.server import page_address, require_streamlit, run_server

    require_streamlit()
    if not settings.is_local:
        click.secho(
            f"Warning: --address {address} lets everyone who reaches this machine's port {port} use the "
            "page, without a password and without encryption. Do so only in a network whose users you trust, "
            "and only with images that they may see.",
            fg="yellow",
            err=True,
        )
    click.echo(f"{page_address(address, port)}: the page (Ctrl-C ends it; for research, not for diagnosis)")
    run_server(settings, address, port, open_browser=not no_browser)
    click.echo("\nThe page is closed.")
