"""Sharing: which filters of an experiment use a unit, so that it is seen what is made once for several."""

from collections.abc import Mapping

from ecodatum.pipeline.graph import Graph
from ecodatum.pipeline.units import Unit

#: The names of the filters that use a unit, by its stage and name.
Users = Mapping[tuple[str, str], frozenset[str]]


def unit_users(graph: Graph) -> Users:
    """Return for each unit of a graph the filters whose runs rest on it."""
    makers = {output.path: unit for unit in graph.units for output in unit.outputs}
    found: dict[tuple[str, str], set[str]] = {(unit.stage, unit.name): set() for unit in graph.units}
    for run in graph.runs:
        open_units, seen = [makers[run.evaluation.path]], set()
        while open_units:
            unit = open_units.pop()
            if (unit.stage, unit.name) not in seen:
                seen.add((unit.stage, unit.name))
                open_units += [makers[need.path] for need in unit.needs]
        for key in seen:
            found[key].add(run.filter.name)
    return {key: frozenset(names) for key, names in found.items()}


def users_of(unit: Unit, users: Users) -> frozenset[str]:
    """Return the filters that use a unit; none for one that is no part of the graph."""
    return users.get((unit.stage, unit.name), frozenset())
