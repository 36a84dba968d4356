import json
import re
from collections import Counter
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner

from extract.errors import SettingsError
from scripts.cli import cli
from semisup.report import report_language, write_report
from semisup.verdict import decide, describe_ceiling, explain, require_audit
from tests.semisup.study_folder import FakeStudy, fail_run, make_study
from tests.semisup.test_verdict import PRIMARY, estimate

SMALL = FakeStudy(
    num_subjects=24,
    images_per_subject=3,
    folds=(0,),
    fractions=(0.125, 0.5),
    pool_size=1234,
    image_size=16,
    coverage=0.97,
)
ENGLISH_WORDS = set(
    re.findall(
        r"\w+",
        """all alone an and another any are arms as at be been before below between but by cause class classes
        could did does done each every failed finished first fold for from had has have his how if images in
        interval into is it its label labels less made mean means more most none not of on once one only or
        other out over page pool right round rounds run runs same seed seeds selected share so such than that
        the their them then there they this those to training true two under until was were what when where
        which while whose with without""",
    )
)
VOID = {"meta", "link", "img", "br", "hr", "input"}
spanish = report_language("es")


class Prose(HTMLParser):
    """The words of a page: what is neither code, nor marked as another language, nor a name of the study."""

    def __init__(self, text: str, leave_out: tuple[str, ...] = ()) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[tuple[str, bool]] = []
        self.leave_out = {"code", "pre", "style", "h1", *leave_out}
        self.pieces: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if self._is_shown():
            self.pieces += [found[name] for name in ("alt", "aria-label", "title") if found.get(name)]
        if tag not in VOID:
            self.open.append((tag, tag in self.leave_out or (tag != "html" and found.get("lang") == "en")))

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if self._is_shown():
            self.pieces.append(data)

    def _is_shown(self) -> bool:
        return not any(is_left_out for _, is_left_out in self.open)


def english_left_in(page: str) -> Counter:
    words = re.findall(r"(?<![\w/._-])[a-z]+(?![\w/._-])", " ".join(Prose(page).pieces).lower())
    return Counter(word for word in words if word in ENGLISH_WORDS)


def numbers_in(page: str, decimal: str, thousands: str) -> Counter:
    """All numbers of tables and texts; those of axes depend on the room that a language's words leave."""
    page = re.sub(
        r'<h2 id="repeat">.*?<h2', "<h2", page, flags=re.DOTALL
    )  # settings and versions, as they are
    number = rf"\d{{1,3}}(?:{re.escape(thousands)}\d{{3}})+|\d+(?:{re.escape(decimal)}\d+)?"
    found = re.findall(number, " ".join(Prose(page, leave_out=("svg",)).pieces))
    return Counter(text.replace(thousands, "").replace(decimal, ".") for text in found)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = make_study(tmp_path_factory.mktemp("study"), SMALL)
    fail_run(folder, "CUDA out of memory: this is what the library said")
    content = json.loads((folder / "study.json").read_text())
    content["runs"].append({"key": "f" * 16, "arm": "pseudo_real", "fold": 0, "seed": 9, "fraction": 0.5})
    (folder / "study.json").write_text(json.dumps(content))
    return folder


@pytest.fixture(scope="module")
def pages(study):
    """The English and the Spanish page, and the result files after each."""
    found = {}
    for lang in ("en", "es"):
        text = write_report(study, lang).path.read_text(encoding="utf-8")
        results = [(study / name).read_bytes() for name in ("results.json", "results.csv")]
        found[lang] = (text, results)
    return found


def test_both_pages_stand_side_by_side_and_say_their_language(study, pages):
    assert (study / "report.html").read_text(encoding="utf-8") == pages["en"][0]
    assert (study / "report.es.html").read_text(encoding="utf-8") == pages["es"][0]
    assert '<html lang="en">' in pages["en"][0] and '<html lang="es">' in pages["es"][0]


def test_result_files_do_not_depend_on_the_language(pages):
    assert pages["en"][1] == pages["es"][1]


def test_no_english_is_left_in_the_spanish_page(pages):
    assert not english_left_in(pages["es"][0])
    assert len(english_left_in(pages["en"][0])) > 60  # the same test sees what is English


def test_both_pages_hold_the_same_numbers(pages):
    english, spanish_numbers = numbers_in(pages["en"][0], ".", ","), numbers_in(pages["es"][0], ",", "\u202f")
    assert english == spanish_numbers
    assert english.total() > 400 and any("." in number for number in english)


def test_what_a_library_said_is_marked_as_english(pages):
    said = "CUDA out of memory: this is what the library said"
    assert f'<span lang="en">{said}</span>' in pages["es"][0]
    assert f"<td>{said}</td>" in pages["en"][0]
    assert 'lang="en"' not in pages["en"][0].replace('<html lang="en">', "")


def test_spanish_numbers_are_written_with_a_comma(pages):
    shown = " ".join(Prose(pages["es"][0]).pieces)
    assert "12,5 %" in shown.replace("\u00a0", " ")
    assert not re.search(r"(?<![\w.])\d+\.\d+(?![\w.])", shown)
    assert re.search(r"\[-?\d+,\d; [+-]?\d+,\d\]", shown)


def test_the_command_writes_the_page_of_a_study_without_runs_or_archives_too(tmp_path):
    folder = make_study(tmp_path, FakeStudy(**{**vars(SMALL), "has_images": False}))
    for path in folder.glob("runs/*/*"):
        path.unlink()
    result = CliRunner().invoke(cli, ["semisup", "report", "--outdir", str(folder), "--lang", "es"])
    assert result.exit_code == 0, result.output
    assert "Aviso: sin conclusión principal, porque la comparación que nombra el plan" in result.output
    assert result.output.rstrip().endswith(f"report: {folder / 'report.es.html'}")
    page = (folder / "report.es.html").read_text(encoding="utf-8")
    assert "Todavía no ha terminado ninguna ejecución." in page
    assert "no tiene ningún par de ejecuciones terminadas" in page
    assert not english_left_in(page)


def test_an_unknown_language_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(SettingsError, match="expected one of en, es, got 'fr'"):
        write_report(tmp_path, "fr")
    result = CliRunner().invoke(cli, ["semisup", "report", "--outdir", str(tmp_path), "--lang", "fr"])
    assert result.exit_code == 2
    assert "'fr' is not one of 'en', 'es'" in result.output


# Sentences ------------------------------------------------------------------------------------------


def test_the_headline_in_spanish():
    gain = decide(estimate(0.031, 0.012, 0.05), *PRIMARY, spanish)
    assert gain.headline == (
        "Mejora: con el 20 % de las etiquetas, añadir pseudoetiquetas en imágenes sintéticas cambia la "
        "exactitud equilibrada en +3,1 puntos frente a solo etiquetas, intervalo de confianza del 95 %: "
        "[+1,2; +5,0]."
    )
    assert decide(estimate(0.0, -0.01, 0.01), *PRIMARY, spanish).headline.startswith(
        "Sin mejora: con el 20 %"
    )
    assert decide(estimate(-0.02, -0.04, -0.001), *PRIMARY, spanish).headline.startswith("Perjuicio: ")
    small = decide(estimate(0.2, 0.1, 0.3, seeds=1, subjects=1), *PRIMARY, spanish)
    assert small.headline.startswith(
        "Aviso: sin conclusión principal, porque la comparación se apoya en 1 semilla (se necesitan 3) y "
        "1 sujeto de prueba (se necesitan 20). Solo como indicio: con el 20 %"
    )


def test_a_pending_audit_comes_first_in_spanish_too():
    gain = decide(estimate(0.031, 0.012, 0.05), *PRIMARY, spanish)
    waiting = require_audit(gain, 0.1, None, 0, spanish).headline
    assert (
        "`semisup audit export`), y esa auditoría está pendiente. Solo como indicio: con el 20 %" in waiting
    )
    small = decide(estimate(0.2, 0.1, 0.3, seeds=2), *PRIMARY, spanish)
    assert "está pendiente. Además, la comparación se apoya en 2 semillas" in (
        require_audit(small, None, None, 0, spanish).headline
    )


def test_the_details_in_spanish():
    arm, baseline, _, metric = PRIMARY
    difference = estimate(0.025, 0.01, 0.04)
    values = estimate(0.78), estimate(0.805)
    text = explain(difference, *values, arm, baseline, metric, spanish)[0]
    assert text == (
        "Exactitud equilibrada: 78,0 % con solo etiquetas y 80,5 % con pseudoetiquetas en imágenes "
        "sintéticas, en 900 imágenes de prueba de 60 sujetos con 3 semillas."
    )
    ceiling = describe_ceiling(estimate(0.9), estimate(0.8), difference, spanish)
    assert ceiling == (
        "Con todas las etiquetas, el mismo clasificador alcanza el 90,0 %, de modo que había 10,0 puntos por "
        "ganar; se ganó el 25 % de ellos."
    )
