"""The parts of a network from input to output: what may be frozen, and learn at rates of its own.

A body is cut where its resolution falls (into its blocks where it never does, as in transformers). The head
is what turns the features into logits.
"""

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from classifier.network import OwnNetwork


def body_stages(model: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of each stage of the body, from input to output.

    Every parameter of the network is in exactly one stage or in the head. What has no parameters (a pooling
    layer) is no stage; a network of timm that tells no stages has one.
    """
    if isinstance(model, OwnNetwork):
        stages = [list(stage.parameters()) for stage in model.stages()]
        return [stage for stage in stages if stage]
    return _timm_stages(model)


def head_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that are in no stage of the body: those of the last layer and hidden ones before it."""
    in_body = {id(parameter) for stage in body_stages(model) for parameter in stage}
    return [parameter for parameter in model.parameters() if id(parameter) not in in_body]


def body_norms(model: nn.Module) -> list[nn.Module]:
    """The batch normalisations of the body, which may be kept at the moments they have stored."""
    if isinstance(model, OwnNetwork):
        modules = [module for stage in model.stages() for module in stage.modules()]
    else:
        in_head = {id(module) for part in _timm_heads(model) for module in part.modules()}
        modules = [module for module in model.modules() if id(module) not in in_head]
    return [module for module in modules if isinstance(module, _BatchNorm)]


def _timm_stages(model: nn.Module) -> list[list[nn.Parameter]]:
    """Cut in order of registration behind each module that `feature_info` names; the rest joins the last.

    Parameters of the network itself (class token, position table) belong to the first stage.
    """
    modules = dict(model.named_modules())  # containers stand before what they contain
    place = {name: number for number, name in enumerate(modules)}
    told = [info["module"] for info in getattr(model, "feature_info", []) if info["module"] in modules]
    # A stage ends with the last module inside the one that is named.
    ends = [max(place[name] for name in modules if f"{name}.".startswith(f"{last}.")) for last in told]
    taken = {id(parameter) for part in _timm_heads(model) for parameter in part.parameters()}
    groups: list[list[nn.Parameter]] = [[] for _ in range(len(ends) + 1)]
    for name, module in modules.items():
        group = groups[sum(end < place[name] for end in ends)]
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in taken:  # a shared one counts where it comes first
                taken.add(id(parameter))
                group.append(parameter)
    stages = [group for group in groups[:-1] if group]
    if not stages:
        return [groups[-1]]
    stages[-1] += groups[-1]
    return stages


def _timm_heads(model: nn.Module) -> list[nn.Module]:
    """What gives the logits: two layers in distilled transformers, otherwise one."""
    last = model.get_classifier()  # type: ignore[operator]
    return list(last) if isinstance(last, tuple) else [last]
