"""`ecodatum schema`: JSON Schemas of the YAML files that people write."""

import json
from enum import StrEnum
from typing import Annotated

import typer


class Kind(StrEnum):
    """The kinds of files that have a schema."""

    EXPERIMENT = "experiment"
    RECIPE = "recipe"
    CLUSTER = "cluster"


def schema(
    kind: Annotated[
        Kind, typer.Argument(help="experiment (experiments/), recipe (baselines/), cluster (slurm/).")
    ],
) -> None:
    """Print the JSON Schema of experiments, recipes or cluster profiles, for an editor.

    An editor with the YAML language server (VS Code with the YAML extension, Neovim, Emacs and others) then
    completes keys, shows what they mean and underlines what is wrong. Write the schema to a file, and name
    that in the first line of the YAML file:

    `# yaml-language-server: $schema=experiment.schema.json`

    Example: `ecodatum schema experiment > experiments/experiment.schema.json`
    """
    print(json.dumps(document(kind), indent=1))


def document(kind: Kind) -> dict[str, object]:
    """Return the JSON Schema (draft 2020-12) of a kind of file, from the models that read it."""
    match kind:
        case Kind.EXPERIMENT:
            from ecodatum.pipeline.experiment import experiment_schema

            found = experiment_schema()
        case Kind.RECIPE:
            from ecodatum.curate.recipe import Recipe

            found = Recipe.model_json_schema()
        case Kind.CLUSTER:
            from ecodatum.launch.profile import Profile

            found = Profile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}
