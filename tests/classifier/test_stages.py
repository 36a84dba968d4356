import pytest
import torch
from torch import nn

from classifier.models import build_model
from classifier.stages import body_norms, body_stages, head_parameters

# Network -> number of stages, and what stands at the edges of some stages, checked by eye against its layers.
TIMM = {
    "resnet50": (5, {"conv1.weight": 0, "layer1.0.conv1.weight": 1, "layer4.2.conv3.weight": 4}),
    "vgg16": (
        5,
        {"features.2.weight": 0, "features.5.weight": 1, "features.28.weight": 4, "pre_logits.fc1.weight": 4},
    ),
    "vgg19": (5, {"features.5.weight": 1, "features.34.weight": 4}),
    "densenet201": (
        5,
        {
            "features.conv0.weight": 0,
            "features.denseblock1.denselayer1.conv1.weight": 1,
            "features.transition1.conv.weight": 2,
            "features.denseblock4.denselayer32.conv2.weight": 4,
        },
    ),
    "mobilenetv3_large_100": (
        5,
        {"conv_stem.weight": 0, "blocks.3.0.conv_pw.weight": 3, "conv_head.weight": 4},
    ),
    "mobilenetv2_100": (5, {"conv_stem.weight": 0, "blocks.1.0.conv_pw.weight": 1, "bn2.weight": 4}),
    "mobilenetv1_100": (5, {"conv_stem.weight": 0, "blocks.4.0.conv_pw.weight": 4}),
    "inception_v3": (
        5,
        {
            "Conv2d_1a_3x3.conv.weight": 0,
            "Mixed_5b.branch1x1.conv.weight": 2,
            "Mixed_6a.branch3x3.conv.weight": 3,
            "Mixed_7c.branch1x1.conv.weight": 4,
        },
    ),
    "convnext_tiny": (4, {"stem.0.weight": 0, "stages.3.blocks.2.mlp.fc2.weight": 3, "head.norm.weight": 3}),
    "vit_base_patch16_224": (
        12,
        {
            "cls_token": 0,
            "pos_embed": 0,
            "patch_embed.proj.weight": 0,
            "blocks.1.norm1.weight": 1,
            "norm.weight": 11,
        },
    ),
    "vit_base_patch32_224": (12, {"blocks.11.mlp.fc2.weight": 11}),
    "efficientnet_b0": (5, {"blocks.5.0.conv_pw.weight": 4, "conv_head.weight": 4}),
    "swin_tiny_patch4_window7_224": (4, {"patch_embed.proj.weight": 0, "norm.weight": 3}),
    "deit_tiny_distilled_patch16_224": (12, {"dist_token": 0}),
}


def on_meta(arch: str) -> nn.Module:
    with torch.device("meta"):
        return build_model(arch, 3, 1, (224, 224))


def assert_each_parameter_is_in_one_group(model: nn.Module) -> None:
    groups = [*body_stages(model), head_parameters(model)]
    found = [id(parameter) for group in groups for parameter in group]
    assert sorted(found) == sorted(id(parameter) for parameter in model.parameters())
    assert all(groups)  # none is empty


@pytest.mark.parametrize("arch", TIMM)
def test_timm_networks_are_cut_where_their_resolution_falls(arch):
    model = on_meta(arch)
    assert_each_parameter_is_in_one_group(model)
    number, places = TIMM[arch]
    stages = body_stages(model)
    assert len(stages) == number
    named = dict(model.named_parameters())
    where = {id(parameter): place for place, stage in enumerate(stages) for parameter in stage}
    assert {name: where[id(named[name])] for name in places} == places
    last = model.get_classifier()
    heads = last if isinstance(last, tuple) else (last,)
    assert {id(p) for p in head_parameters(model)} == {id(p) for head in heads for p in head.parameters()}


def test_the_small_net_has_its_stem_and_blocks_as_stages():
    model = build_model("small_resnet", 3, 1, (32, 32))
    assert_each_parameter_is_in_one_group(model)
    stages = body_stages(model)
    assert len(stages) == 4
    assert stages[0][0] is model.stem.weight and stages[3][0] is model.blocks[2].conv1.weight
    assert [id(p) for p in head_parameters(model)] == [id(model.head.weight), id(model.head.bias)]


def test_norms_of_the_body_are_its_batch_normalisations_alone():
    model = build_model("small_resnet", 3, 1, (32, 32))
    assert len(body_norms(model)) == 1 + 3 * 3
    assert body_norms(on_meta("convnext_tiny")) == []
    resnet = on_meta("resnet50")
    assert len(body_norms(resnet)) == sum(isinstance(module, nn.BatchNorm2d) for module in resnet.modules())
    resnet.fc = nn.Sequential(nn.Linear(2048, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    assert resnet.fc[1] not in body_norms(resnet)


def test_a_network_that_tells_no_stages_is_one_stage_and_a_head():
    model = on_meta("resnet10t")
    model.feature_info = []
    assert_each_parameter_is_in_one_group(model)
    assert len(body_stages(model)) == 1
