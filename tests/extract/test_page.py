import json
import re

import numpy as np
import pytest

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.findings import findings_json
from extract.page import MAX_GROUPS, write_page
from extract.split import make_split, write_split
from extract.verify import verify_archive
from tests.extract.altering import alter, people
from tests.extract.making import random_pixels, rewrite_zip, write_archive

IMAGE = re.compile(r'<img src="data:image/png;base64,([A-Za-z0-9+/=]+)"')


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Findings of each kind: text of the page and the JSON."""
    folder = tmp_path_factory.mktemp("page")
    thumbs = people(30, size=32)
    with ArchiveWriter(folder / "a.zip", preparation={"fit": "pad", "left_out": []}) as writer:
        for k, pixels in enumerate(thumbs):
            label = "ab"[k % 2]
            record = ImageRecord(label=label, subject=f"<s{k}>", source=f"{label}/{label}{k}.png")
            writer.add(pixels, record)
        writer.add(thumbs[4], ImageRecord(label="a", subject="twin & co", source="a/copy.png"))
        writer.add(alter(thumbs[7], "mirrored"), ImageRecord(label="a", subject="mirror", source="a/m.png"))
        writer.add(np.zeros((32, 32), np.uint8), ImageRecord(label="b", subject="void", source="b/void.png"))
    with open_archive(folder / "a.zip") as archive:
        split = make_split(archive, num_folds=2, fractions=(0.5,), val_share=0.2, seed=0)
        write_split(split, folder / "a.split.json")
        found = verify_archive(archive, folder / "a.split.json")
        write_page(archive, found, folder / "a.html")
        return (folder / "a.html").read_text(), findings_json(archive, found), found


def test_the_page_needs_no_network_and_no_script(page):
    text = page[0]
    assert "http:" not in text and "https:" not in text and "<script" not in text and "<link" not in text
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]+)', text))


def test_every_finding_is_on_the_page_with_its_pictures(page):
    text, _, found = page
    for sentence in (*found.errors, *found.warnings, *found.remarks):
        assert sentence.replace("'", "&#39;").replace("<", "&lt;").replace(">", "&gt;") in text
    assert "100 % alike, mirrored left-right, beside no. 1" in text
    for name in ("a/copy.png", "a/m.png", "b/void.png", "twin &amp; co", "black throughout"):
        assert name in text
    assert "gives the class away" in text and "labeled at 50 %" in text
    assert len(IMAGE.findall(text)) >= 2 + 2 + 1 + 33


def test_names_from_the_archive_cannot_change_the_page(page):
    assert "<s4>" not in page[0] and "&lt;s4&gt;" in page[0]


def test_the_json_says_the_same_and_is_plain(page):
    _, findings, found = page
    again = json.loads(json.dumps(findings))
    assert again == findings and again["is_sound"] is True and again["num_images"] == 33
    (identical,), (near,) = again["identical"], again["near_duplicates"]
    assert identical["files"] == ["00000/img00000004.png", "00000/img00000030.png"]
    assert near["subjects"] == ["<s7>", "mirror"] and near["classes"] == ["a", "b"]
    assert near["pairs"][0]["difference"] == "100 % alike, mirrored left-right"
    assert again["odd_brightness"] == [
        {"file": "00000/img00000032.png", "kind": "blank", "reason": "black throughout"}
    ]
    assert again["warnings"] == list(found.warnings)
    assert {line["part"] for line in again["split"]["parts"]} >= {"test", "training", "validation"}


def test_a_sound_archive_says_so_and_unknown_subjects_are_remarked(tmp_path):
    with ArchiveWriter(tmp_path / "a.zip") as writer:
        for k in range(3):
            writer.add(random_pixels(k), ImageRecord(label="a", origin="synthetic", seed=k))
    with open_archive(tmp_path / "a.zip") as archive:
        found = verify_archive(archive, look_for_alike=False)
        write_page(archive, found, tmp_path / "a.html")
        assert findings_json(archive, found)["near_duplicates"] is None
    text = (tmp_path / "a.html").read_text()
    assert "No faults, and nothing to look at." in text and "the archive names no subjects" in text
    assert "Not looked for" in text


def test_many_groups_are_cut_and_counted(tmp_path):
    images = {f"s{k:03d}": "a" for k in range(2 * (MAX_GROUPS + 3))}
    twins = [(f"s{k:03d}", f"s{k + 1:03d}") for k in range(0, len(images), 2)]
    with write_archive(tmp_path / "a.zip", images, twins) as archive:
        write_page(archive, verify_archive(archive), tmp_path / "a.html")
    text = (tmp_path / "a.html").read_text()
    assert text.count('<div class="group">') == MAX_GROUPS and "3 more groups are not shown" in text


def test_damaged_pictures_archives_without_lists_and_color_have_their_pages(tmp_path):
    with ArchiveWriter(tmp_path / "a.zip") as writer:
        for k in range(4):
            pixels = np.ascontiguousarray(np.repeat(people(1, size=32, seed=k).transpose(1, 2, 0), 3, axis=2))
            writer.add(pixels, ImageRecord(label="ab"[k % 2], subject=f"s{k}"))
    cut = rewrite_zip(tmp_path / "a.zip", tmp_path / "b.zip", {"00000/img00000002.png": b"cut"})
    with open_archive(cut) as archive:
        found = verify_archive(archive)
        write_page(archive, found, tmp_path / "b.html")
        assert findings_json(archive, found)["is_sound"] is False
    text = (tmp_path / "b.html").read_text()
    assert "1 fault to mend before anything is trained" in text and "00000/img00000002.png" in text
    without = {"manifest.csv": None, "preparation.json": None}
    official = rewrite_zip(tmp_path / "a.zip", tmp_path / "c.zip", without)
    with open_archive(official) as archive:
        found = verify_archive(archive)
        write_page(archive, found, tmp_path / "c.html")
    assert found.errors == () and "in color" in (tmp_path / "c.html").read_text()
