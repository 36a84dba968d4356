"""Whether an archive was sliced from phantoms, and from which: what it takes to make more of their kind."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from extract.errors import ExtractError
from extract.phantom import PhantomConfig
from extract.planes import SliceConfig

KEY = "phantom"  # in preparation.json
# What else it says of an archive of volumes; anything more was done to the images afterwards.
KNOWN_KEYS = {"kind", "left_out", KEY, *(field.name for field in fields(SliceConfig))}


@dataclass(frozen=True)
class PhantomOrigin:
    """The process behind an archive of phantoms."""

    seeds: tuple[int, ...]  # of its volumes: whoever wants new subjects takes another
    phantom: PhantomConfig
    slicing: SliceConfig  # with the field of view that was found


def phantom_origin(recipes: Sequence[str]) -> dict[str, Any]:
    """What `preparation.json` says of an archive's phantoms; empty where any volume is none, or they differ.

    Args:
        recipes: of each volume, as its NRRD's header has it; empty for a volume that is no phantom.
    """
    try:
        known = [json.loads(recipe or "null") for recipe in recipes]
        configs = {PhantomConfig(**{f.name: one[f.name] for f in fields(PhantomConfig)}) for one in known}
        seeds = sorted({int(one["seed"]) for one in known})
    except (ValueError, TypeError, KeyError):  # no phantom, or a header that somebody changed
        return {}
    return {"seeds": seeds, **asdict(configs.pop())} if len(configs) == 1 else {}


def read_phantom_origin(preparation: Mapping[str, Any], what: str) -> PhantomOrigin:
    """The process that an archive's images are samples of.

    Raises:
        ExtractError: if they were not sliced from phantoms alone, all of one kind, or changed afterwards.
    """
    described = preparation.get(KEY)
    if not described:
        raise ExtractError(
            f"{what}: expected an archive whose volumes were all made by `extract phantom`, with one set of "
            "settings, and sliced by `extract volumes`, got one that does not say so"
        )
    changed = sorted(set(preparation) - KNOWN_KEYS)
    if changed:
        raise ExtractError(
            f"{what}: expected slices of phantoms as `extract volumes` makes them, got images that were "
            f"changed afterwards ({', '.join(changed)})"
        )
    settings: dict[str, Any] = {
        field.name: tuple(value) if isinstance(value, list) else value
        for field in fields(SliceConfig)
        if (value := preparation.get(field.name)) is not None
    }
    own = {field.name: described[field.name] for field in fields(PhantomConfig)}
    return PhantomOrigin(tuple(described["seeds"]), PhantomConfig(**own), SliceConfig(**settings))
