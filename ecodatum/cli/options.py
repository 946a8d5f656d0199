"""What the text of an option that several commands have says: seeds, a run's name, changes of a recipe."""

from typing import Any

import yaml

from ecodatum.errors import ConfigError


def seeds_of(text: str | None) -> tuple[int, ...] | None:
    """Parse `--seeds 0,1,2`; raises ConfigError."""
    if text is None:
        return None
    try:
        return tuple(int(seed) for seed in text.split(","))
    except ValueError:
        raise ConfigError(
            f"not a list of whole numbers: {text!r}", where="--seeds", todo="such as 0,1,2"
        ) from None


def seeds_of_run(run: str) -> tuple[int, ...]:
    """Return the seed in a run's name, `<filter>-seed<n>`; raises ConfigError."""
    name, seed, number = run.rpartition("-seed")
    if not (name and seed and number.isdigit()):
        raise ConfigError(f"no run's name: {run!r}", todo="a filter and a seed, such as ecodatum-seed0")
    return (int(number),)


def changes_of(changes: list[str] | None) -> dict[str, Any]:
    """Parse `--set KEY=VALUE`, the values as YAML; raises ConfigError."""
    found = {}
    for change in changes or []:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise ConfigError(f"not KEY=VALUE: {change!r}", where="--set")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"not a value: {value!r}", where=f"--set {key}") from error
    return found
