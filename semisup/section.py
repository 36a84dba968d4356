"""What all parts of a study file have in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the study file: unknown keys are errors, values do not change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
