"""Lines of the leakage sheet about generators: whom each saw, and whether its pool is what it drew."""

from collections.abc import Iterator
from typing import Any

from extract.errors import SynthlabelError
from extract.language import Message
from semisup.checks import Check, Material, brief, name_few
from semisup.folders import RECORDS, read_json
from semisup.guards import read_fit_snapshot

POOL_ARCHIVE = "synthetic.zip"  # as `semisup.pool`, which needs torch, names it


def generator_checks(material: Material) -> list[Check]:
    """One line a pool."""
    return list(_each_pool(material))


def _each_pool(material: Material) -> Iterator[Check]:
    for path in sorted(material.records.study_dir.glob(f"pools/*/{RECORDS['pool']}")):
        made = read_json(path)
        if made.get("leak"):  # a deliberate fault serves no result
            continue
        if made.get("oracle"):  # drawn without a generator
            yield from _pool_line(material, path.parent.name, made)
            continue
        fold, key = made.get("fold"), path.parent.name
        seen = Message("the labeled images alone") if made.get("fraction") else Message("all training images")
        what = Message(
            "The generator of pool {key} (fold {fold}) saw nobody of validation or test",
            key=key[:8], fold=str(fold),
        )  # fmt: skip
        name = f"generator of pool {key}"
        network = material.records.study_dir / str(made.get("network", ""))
        split, problem = material.shelf.split()
        if not network.exists():
            found = Message("its snapshot is not there any more; the run refused others when it began")
            yield Check(name, what, "unknown", found, f"SHA-256 {str(made.get('snapshot_sha256'))[:12]}")
            continue
        if split is None or material.archive is None or not isinstance(fold, int):
            yield Check(name, what, "unknown", Message("archive or split cannot be used"), brief(problem))
            continue
        try:
            snapshot = read_fit_snapshot(
                network,
                material.archive,
                split,
                fold,
                fraction=made.get("fraction"),
                conditional=bool(made.get("conditional")),
            )
        except SynthlabelError as error:
            text = " ".join(str(error).split()).replace(f"{network.parent}/", "")
            yield Check(name, what, "failed", Message("refused; see the evidence"), text, vetoes=True)
            continue
        judges = set(split.subjects(fold, "test")) | set(split.subjects(fold, "val"))
        evidence = Message(
            "subjects in its header: {seen}, of them among the {judges} who judge: {both}; SHA-256 {sha256}",
            seen=len(snapshot.subjects),
            judges=len(judges),
            both=len(set(snapshot.subjects) & judges),
            sha256=snapshot.sha256[:12],
        )
        if snapshot.sha256 != made.get("snapshot_sha256"):
            found = Message("the snapshot was replaced since its images were drawn")
            yield Check(name, what, "failed", found, evidence)
            continue
        yield Check(name, what, "passed", Message("it saw {what}", what=seen), evidence)
        yield from _pool_line(material, path.parent.name, made)


def _pool_line(material: Material, key: str, made: dict[str, Any]) -> Iterator[Check]:
    what = Message("Pool {key} holds what this generator drew", key=key[:8])
    name = f"pool {key}"
    archive = material.shelf.find(str(made.get("archive_sha256", "")))
    if archive is None:
        found = Message("{file} is missing or was replaced", file=POOL_ARCHIVE)
        yield Check(name, what, "failed" if _is_there(material, key) else "unknown", found)
        return
    others = sorted(set(archive.manifest["snapshot_sha256"]) - {made.get("snapshot_sha256", "")})
    num_real = 0 if made.get("oracle") else int(archive.is_real.sum())  # fresh phantoms are true samples
    evidence = Message(
        "images: {images}, real: {real}, SHA-256 {sha256}",
        images=len(archive),
        real=num_real,
        sha256=archive.sha256[:12],
    )
    if others or num_real:
        found = Message(
            "images of another origin: {names}", names=name_few([o[:12] for o in others]) or "real"
        )
        yield Check(name, what, "failed", found, evidence, vetoes=True)
        return
    yield Check(name, what, "passed", Message("the same to the byte, every image with its seed"), evidence)


def _is_there(material: Material, key: str) -> bool:
    return (material.records.study_dir / "pools" / key / POOL_ARCHIVE).exists()
