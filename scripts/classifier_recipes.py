"""`synthlabel classifier recipes`: which recipes there are, and the settings of one."""

from __future__ import annotations

import json
from dataclasses import asdict

import click


@click.command()
@click.option("--show", "name", metavar="NAME", help="Print one recipe's settings, as --settings takes them.")
@click.option("--size", type=int, metavar="PIXELS", help="With --show: on images of another size.")
def recipes(name: str | None, size: int | None) -> None:
    """List the recipes that `classifier train --recipe NAME` knows."""
    from classifier.recipes import RECIPES, find_recipe, with_size
    from extract.json_values import json_value

    if size is not None and name is None:
        raise click.UsageError("--size goes with --show NAME")
    if name is None:
        width = max(map(len, RECIPES))
        for recipe in RECIPES.values():
            start = recipe.start.partition(" (")[0] or "from scratch"
            click.echo(f"{recipe.name:{width}s}  {recipe.summary} ({recipe.input_size} px, {start})")
        return
    recipe = find_recipe(name)
    if size is not None:
        recipe = with_size(recipe, size)
    click.echo(json.dumps(json_value(asdict(recipe.config)), indent=2))
