"""Catalogues are complete, and a language writes texts and numbers as its readers expect."""

import copy
import json
import re
import string
from collections import Counter
from pathlib import Path

import pytest

from extract.errors import SettingsError
from extract.language import ENGLISH, LANGUAGES, Message, Number, Percent, Text, read_catalogue, read_language
from extract.page_parts import from_template, page_templates, to_template
from tests.language_texts import texts_of

ROOT = Path(__file__).parent.parent
CATALOGUES = sorted(ROOT.glob("*/languages/*.yaml"))
NAMES = [str(path.relative_to(ROOT)) for path in CATALOGUES]
spanish = read_language("es", ROOT / "semisup" / "languages")


def forms(text: Text) -> tuple[str, ...]:
    return (text,) if isinstance(text, str) else text


def values_in(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


@pytest.mark.parametrize("path", CATALOGUES, ids=NAMES)
def test_every_text_is_translated_and_no_translation_is_left_over(path):
    shown, translated = texts_of(path.parent.parent), read_catalogue(path)
    missing = {text: where for text, where in shown.items() if text not in translated}
    assert not missing, f"{path.name} lacks {missing}"
    unused = translated.keys() - shown.keys()
    assert not unused, f"{path.name} has texts that nothing shows: {unused}"


@pytest.mark.parametrize("path", CATALOGUES, ids=NAMES)
def test_translations_keep_the_values_and_the_markup_of_their_texts(path):
    for english, other in read_catalogue(path).items():
        assert len(forms(english)) == len(forms(other)), english
        for ours, theirs in zip(forms(english), forms(other), strict=True):
            assert values_in(ours) == values_in(theirs), ours
            for pattern in (r"</?(?:code|em|b)>", r"`[^`]*`"):
                assert Counter(re.findall(pattern, ours)) == Counter(re.findall(pattern, theirs)), ours
            assert theirs.strip() == theirs != "", ours
            assert ours.endswith(".") == theirs.endswith("."), ours


@pytest.mark.parametrize("path", CATALOGUES, ids=NAMES)
def test_translations_name_the_same_numbers(path):
    def numbers(text: str) -> list[str]:
        without_grouping = re.sub(r"(?<=\d),(?=\d{3}\b)", "", text)
        return sorted(re.findall(r"\d+(?:[.,]\d+)?", without_grouping.replace(",", ".")))

    for english, other in read_catalogue(path).items():
        for ours, theirs in zip(forms(english), forms(other), strict=True):
            assert numbers(ours) == numbers(theirs), ours


def test_every_package_with_a_catalogue_has_one_for_each_language():
    others = set(LANGUAGES) - {"en"}
    assert CATALOGUES
    for folder in {path.parent for path in CATALOGUES}:
        assert {path.stem for path in folder.glob("*.yaml")} == others


def test_catalogues_travel_with_the_package():
    listed = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    for package in {path.parent.parent.name for path in CATALOGUES}:
        section = re.search(
            rf"^{package} =\n((?:    .*\n)+)", listed.partition("package_data]")[2], re.MULTILINE
        )
        assert section and "languages/*.yaml" in section[1], package


def test_an_unknown_language_is_refused_in_one_sentence():
    with pytest.raises(SettingsError, match=r"^--lang: expected one of en, es, got 'fr'$"):
        read_language("fr")


def test_a_text_stands_once_in_a_catalogue(tmp_path):
    path = tmp_path / "es.yaml"
    path.write_text("- {en: one, es: uno}\n- {en: one, es: una}\n")
    with pytest.raises(ValueError, match="'one' stands twice"):
        read_catalogue(path)


# Numbers --------------------------------------------------------------------------------------------


def test_spanish_numbers_have_a_decimal_comma_and_thin_spaces():
    assert spanish.number(0.7825, 3) == "0,782"
    assert [spanish.count(value) for value in (38.25, 4000, 12_345, None)] == [
        "38,2",
        "4000",
        "12\u202f345",
        "–",
    ]
    assert spanish.percent(0.125) == "12,5 %"
    assert spanish.points(0.0312) == "+3,1"
    assert spanish.interval(spanish.points(-0.008), spanish.points(0.009)) == "[-0,8; +0,9]"
    assert [spanish.p_value(value) for value in (0.0004, 0.25)] == ["< 0,001", "0,250"]
    assert spanish.duration(6000) == "1,7 h"


def test_english_numbers_have_a_decimal_point_and_commas():
    assert [ENGLISH.count(value) for value in (38.25, 4000, 1, float("nan"))] == ["38.2", "4,000", "1", "–"]
    assert ENGLISH.interval("-0.8", "+0.9") == "[-0.8, +0.9]"
    assert ENGLISH.duration(80) == "80 s" and ENGLISH.duration(600) == "10 min"


# Texts ----------------------------------------------------------------------------------------------


def test_a_text_is_put_together_in_the_order_of_its_language():
    message = Message(
        "{arm} at {fraction}, fold {fold}, seed {seed}",
        arm="a",
        fraction=Percent(0.125),
        fold="0",
        seed="2024",
    )
    assert message == "a at 12.5 %, fold 0, seed 2024"
    assert spanish.text(message) == "a con el 12,5 %, pliegue 0, semilla 2024"


def test_a_count_chooses_the_form_of_a_text():
    assert [spanish.plural("{number} seed", "{number} seeds", n) for n in (1, 3)] == [
        "1 semilla",
        "3 semillas",
    ]
    assert [ENGLISH.plural("{number} seed", "{number} seeds", n) for n in (1, 3)] == ["1 seed", "3 seeds"]


def test_a_message_inside_a_message_is_translated_too():
    assert (
        spanish.text(Message("{arm} (ceiling)", arm=Message("all labels"))) == "todas las etiquetas (techo)"
    )


def test_a_message_is_a_text_to_everything_else():
    message = Message("{arm} (ceiling)", arm="x")
    assert json.dumps([message]) == '["x (ceiling)"]'
    again = copy.deepcopy(message)
    assert (again, again.english, again.values) == (message, message.english, message.values)


def test_numbers_in_a_message_have_the_decimals_that_it_names():
    message = copy.deepcopy(Message("p = {value}", value=Number(0.5, 3)))
    assert message == "p = 0.500" and spanish.text(message) == "p = 0,500"


def test_braces_and_percent_signs_in_values_are_left_alone():
    assert spanish.text("{arm} (ceiling)", arm="{x} 50 %s") == "{x} 50 %s (techo)"


def test_what_a_catalogue_lacks_is_said_in_english():
    assert spanish.text("never heard of {name}", name="this") == "never heard of this"


# Templates ------------------------------------------------------------------------------------------


def test_both_notations_of_a_value_mean_the_same():
    text = "%(arm)s: 95 %% of {x}"
    assert from_template(text.replace("{x}", "%(x)s")) == "{arm}: 95 % of {x}"
    assert to_template("{arm}: 95 %") == "%(arm)s: 95 %%"


def test_a_template_is_translated_whatever_its_line_ends_and_its_values_are_escaped(tmp_path):
    (tmp_path / "es.yaml").write_text("- {en: 'at least 95 % of {arm}', es: 'de {arm}, el 95 % al menos'}\n")
    (tmp_path / "page.j2").write_text("{% trans arm=arm %}at least\n95 % of {{ arm }}{% endtrans %}")
    pages = {
        name: page_templates(tmp_path, read_language(name, tmp_path))
        .get_template("page.j2")
        .render(arm="<b>")
        for name in LANGUAGES
    }
    assert pages == {"en": "at least\n95 % of &lt;b&gt;", "es": "de &lt;b&gt;, el 95 % al menos"}


def test_words_of_other_programs_are_marked_as_english(tmp_path):
    (tmp_path / "es.yaml").write_text("- {en: gone, es: desaparecido}\n")
    (tmp_path / "page.j2").write_text("{{ said|verbatim }}<dd{{ foreign }}>")
    for language, said, expected in [
        ("en", "disk < full", "disk &lt; full<dd>"),
        ("es", "disk < full", '<span lang="en">disk &lt; full</span><dd lang="en">'),
        ("es", Message("gone"), 'desaparecido<dd lang="en">'),
    ]:
        page = page_templates(tmp_path, read_language(language, tmp_path)).get_template("page.j2")
        assert page.render(said=said) == expected
