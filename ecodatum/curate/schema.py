"""What the models of a recipe have in common: strictness, and the form of a score's name and a share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

ScoreName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$")]
Fraction = Annotated[float, Field(gt=0, le=1)]


class Model(BaseModel):
    """A frozen mapping that refuses unknown keys and values of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)
