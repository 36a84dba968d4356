"""The settings of a `PseudoLabelClassifier` as the `pseudo` section of a study, which the engine knows."""

from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from extract.errors import SettingsError
from semisup.pseudo_config import RULES, ErrorControlledRule, PseudoConfig, PseudoSection, settings_of

WITH_EVERY_RULE = frozenset(
    {"align", "labels", "weight_by", "relabel", "stop_class_drift"}
)  # of the section, beside what the classifier sets
RuleSettings = str | Mapping[str, Any] | PseudoConfig
_SECTION: TypeAdapter[PseudoConfig] = TypeAdapter(PseudoSection)


def resolve_settings(rule: RuleSettings, own: Mapping[str, Any], has_validation: bool) -> PseudoConfig:
    """A rule's settings and those of the classifier in one section.

    Args:
        rule: its name, its settings, or a mapping of them.
        own: what the classifier sets itself, by name.

    Raises:
        SettingsError: for an unknown or impossible setting, one that stands in both, or one that needs
            held-out rows where there are none.
    """
    content = {"rule": rule} if isinstance(rule, str) else dict(rule) if isinstance(rule, Mapping) else None
    try:
        chosen = _SECTION.validate_python(rule if content is None else content)
        content = {name: getattr(chosen, name) for name in chosen.model_fields_set}
        twice = sorted(content.keys() & own.keys())
        if twice:
            raise SettingsError(
                f"rule: {twice[0]} is a setting of the classifier itself; give it as {twice[0]}=... and not "
                "among the settings of the rule"
            )
        not_here = sorted(content.keys() & PseudoConfig.model_fields.keys() - WITH_EVERY_RULE)
        if not_here:
            raise SettingsError(f"rule: {not_here[0]} is a setting of studies alone; leave it out here")
        resolved = type(chosen).model_validate({**content, **own})
    except ValidationError as error:
        raise SettingsError(_in_words(error, own)) from error
    needs = [name for name in ("calibrate", "stop_without_gain") if getattr(resolved, name)]
    needs += ["rule: error_controlled"] if isinstance(resolved, ErrorControlledRule) else []
    if needs and not has_validation:
        raise SettingsError(
            f"{needs[0]} needs held-out rows, and validation is None; hold a share of 0.2 or so out, or do "
            "without"
        )
    return resolved


def _in_words(error: ValidationError, own: Mapping[str, Any]) -> str:
    """The first problem, with the setting's name and what is known about it."""
    first = error.errors()[0]
    place = [str(part) for part in first["loc"] if part not in RULES]
    name = ".".join(place)
    if first["type"] == "union_tag_invalid":
        return f"rule: {first['ctx']['tag']} is no rule; known rules: {', '.join(RULES)}"
    if first["type"] == "extra_forbidden":
        named = [str(part) for part in first["loc"] if part in RULES] or ["fixed"]
        allowed = [setting for setting in settings_of(RULES[named[0]]) if setting not in {*own, "rule"}]
        return f"rule: {named[0]} has no setting {name!r}; it has {', '.join(allowed)}"
    if first["type"] == "missing":
        return f"rule: its setting {name} is required and missing"
    if first["type"] == "value_error":
        return f"rule: {first['ctx']['error']}"
    if not name:
        return f"rule: expected a rule's name or its settings, got {first['input']!r} ({first['msg']})"
    return f"{name}: {first['msg'][0].lower()}{first['msg'][1:]}, got {first['input']!r}"
