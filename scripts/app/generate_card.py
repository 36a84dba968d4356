"""A generator's card in words, in the visitor's language."""

from __future__ import annotations

from typing import TYPE_CHECKING

from extract.language import Message
from scripts.app.words import say, spoken

if TYPE_CHECKING:
    from gan.network_card import AuditFinding, NetworkCard

HASH_DIGITS = 12
VERDICTS = {
    "copies": Message("copies of training images were found"),
    "leaning": Message("no copies, but the images lean to the people that the network learned from"),
    "no sign": Message("no sign of memorising; that is no guarantee"),
    "cannot be told": Message("it could not be told whether the network memorises"),
}


def card_rows(card: NetworkCard) -> list[tuple[str, str]]:
    """Names and values, as the page lists them."""
    channels, height, width = card.image_shape
    kind = say("color") if channels == 3 else say("gray")
    rows = [
        (say("Network"), f"{card.name} ({card.run})"),
        (say("Makes"), f"{width} x {height}, {kind}"),
        (say("Classes"), ", ".join(card.classes) or say("none: it makes images without a class")),
        (say("Trained"), _training(card)),
        (say("Learned from"), _people(card)),
        (say("Quality"), _quality(card)),
        (say("Privacy audit"), _audit(card.audit)),
        (
            say("Not for"),
            say(
                "diagnosis, a patient's record, or evidence of anything: nobody was ever seen like this. "
                "Mark the images as synthetic wherever you show them."
            ),
        ),
        (say("Network (SHA-256)"), card.snapshot_sha256[:HASH_DIGITS]),
    ]
    if card.archive_sha256:
        rows.append((say("Archive (SHA-256)"), card.archive_sha256[:HASH_DIGITS]))
    return rows


def _training(card: NetworkCard) -> str:
    if card.is_imported:
        return say("unknown: it comes from an official network file")
    text = say("with {num} thousand images shown", num=spoken().count(card.kimg))
    if card.has_ancestors:
        text += ", " + say("from the weights of another network")
    return text


def _people(card: NetworkCard) -> str:
    if card.is_imported:
        return say("unknown: it comes from an official network file")
    people = say("people: {num}", num=card.num_subjects) if card.num_subjects else say("people: not recorded")
    name = f"{card.archive_name}, " if card.archive_name else ""
    if card.part == "train" and card.fold is not None:
        return f"{name}{people}, " + say("training part of fold {fold}", fold=card.fold)
    return f"{name}{people}, " + say("all images, nobody was held out")


def _quality(card: NetworkCard) -> str:
    if not card.quality:
        return say("never measured; `synthlabel gan evaluate` does it")
    number = spoken().number
    figures = "; ".join(f"{one.name} {number(one.value, 3)}" for one in card.quality)
    counts = {(one.num_real, one.num_fake) for one in card.quality}
    real, fake = max(counts)
    return say(
        "{figures} (fid and kid: lower is better; others: higher; {real} real and {fake} generated images)",
        figures=figures,
        real=real,
        fake=fake,
    )


def _audit(found: AuditFinding | None) -> str:
    if found is None:
        return say("none was found beside this network; `synthlabel gan audit` makes one")
    verdict = say(VERDICTS.get(found.word, VERDICTS["cannot be told"]))
    if found.num_flagged is None or found.num_expected is None:
        return verdict
    return say(
        "{verdict}: {flagged} of {num} images were flagged, {expected} would be by chance",
        verdict=verdict,
        flagged=found.num_flagged,
        num=found.num_images,
        expected=spoken().number(found.num_expected, 1),
    )
