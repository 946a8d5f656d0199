"""What the models of a recipe have in common: strictness, and the form of a score's name and a share."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

#: What a filter may be called in tables and folders.
ROW_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$"

ScoreName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$")]
Fraction = Annotated[float, Field(gt=0, le=1)]


class Model(BaseModel):
    """A frozen mapping that refuses unknown keys and values of another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)
