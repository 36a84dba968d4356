import json

from click.testing import CliRunner

from classifier.config import read_settings
from classifier.recipes import RECIPES, with_size
from scripts.cli import cli


def run(*arguments):
    return CliRunner().invoke(cli, ["classifier", "recipes", *arguments])


def test_every_recipe_is_listed_with_its_input_and_its_start():
    lines = run().output.splitlines()
    assert [line.split()[0] for line in lines] == list(RECIPES)
    assert "(224 px, published weights)" in lines[list(RECIPES).index("tumour-resnet50")]
    assert "(128 px, from scratch)" in lines[list(RECIPES).index("lung-convnet-1")]


def test_the_settings_of_one_are_a_file_of_settings(tmp_path):
    result = run("--show", "pneumonia-inceptionv3", "--size", "96")
    assert result.exit_code == 0 and json.loads(result.output)["head"] == [1024, 512, 512]
    (tmp_path / "settings.json").write_text(result.output)
    expected = with_size(RECIPES["pneumonia-inceptionv3"], 96).config
    assert read_settings(tmp_path / "settings.json") == expected


def test_a_misspelt_name_and_a_size_for_all_are_wrong_usage():
    result = run("--show", "lung-vit")
    assert result.exit_code == 2 and "did you mean lung-vit-b32, lung-vit-b16" in result.output
    assert run("--size", "64").exit_code == 2
