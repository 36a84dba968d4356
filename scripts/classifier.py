"""`synthlabel classifier`: train on the labeled part of a split, judge, explain, use."""

import click

from scripts.classifier_evaluate import evaluate
from scripts.classifier_explain import explain
from scripts.classifier_export import export
from scripts.classifier_predict import predict
from scripts.classifier_pretrain import pretrain
from scripts.classifier_recipes import recipes
from scripts.classifier_segment import segment
from scripts.classifier_train import find_rate, train
from scripts.classifier_tune import tune


@click.group()
def commands() -> None:
    """Train classifiers on archives, judge them, and use them."""


for command in (recipes, pretrain, find_rate, tune, train, evaluate, explain, predict, export, segment):
    commands.add_command(command)
