"""The chain of units that a run rests on, and whether what was written down of them holds."""

import json
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from ecodatum.errors import RunError
from ecodatum.fingerprint import content_fingerprints
from ecodatum.pipeline.graph import Graph, Run
from ecodatum.pipeline.units import Output, Unit

#: A unit with the one of its outputs that the chain needs.
Link = tuple[Unit, Output]


def find_run(graph: Graph, name: str) -> Run:
    """Return the run of an experiment with this name, `<filter>-seed<n>`; raises RunError."""
    found = next((run for run in graph.runs if run.name == name), None)
    if found is None:
        known = ", ".join(run.name for run in graph.runs)
        raise RunError("no such run", where=name, todo=f"{graph.experiment.name} has: {known}")
    return found


def chain(graph: Graph, run: Run) -> tuple[Link, ...]:
    """Return what a run's evaluation rests on, itself included, in the order of the graph's units."""
    makers = {output: unit for unit in graph.units for output in unit.outputs}
    wanted, waiting = set[Output](), [run.evaluation]
    while waiting:
        output = waiting.pop()
        if output not in wanted:
            wanted.add(output)
            waiting += makers[output].needs
    return tuple((unit, output) for unit in graph.units for output in unit.outputs if output in wanted)


def contradictions(unit: Unit, output: Output) -> Iterator[str]:
    """Yield in what an output and its manifest are not what the unit makes now, from what it has now.

    Its content is compared by fingerprints, which of a large file cover the ends and the middle.
    """
    try:
        manifest = output.read()
    except FileNotFoundError:
        yield "has not been made, or its manifest is missing"
        return
    except (OSError, ValueError) as error:
        yield f"its manifest cannot be read: {error}"
        return
    if manifest.get("fingerprint") != output.fingerprint:
        yield (
            f"its manifest has the fingerprint {manifest.get('fingerprint')},"
            f" where what it is made from gives {output.fingerprint}"
        )
    yield from _differences("parameters", manifest.get("parameters"), unit.job.parameters(), output.key)
    inputs = {need.path.name: need.fingerprint for need in unit.needs}
    yield from _differences("inputs", manifest.get("inputs"), inputs, "")
    if not output.path.exists():
        yield "is not there"
        return
    yield from _differences("content", manifest.get("content"), content_fingerprints(output.path), "")


def _differences(what: str, written: Any, now: Mapping[str, Any], key: str) -> Iterator[str]:
    """Yield the keys in which a manifest differs from what is; of several outputs' only the one's own."""
    if not isinstance(written, dict):
        yield f"its manifest does not tell its {what}"
        return
    written, plain = _named(written), _named(json.loads(json.dumps(now)))
    for name in sorted({*written, *plain}):
        there, here = written.get(name), plain.get(name)
        if key and isinstance(there, dict) and isinstance(here, dict):
            there, here = there.get(key), here.get(key)
        if there != here:
            yield f"{what}: {name} is {_short(here)}, where its manifest has {_short(there)}"


def _named(value: Any) -> Any:
    """Put a file's name in place of its path: folders move, and fingerprints tell files apart."""
    if isinstance(value, dict):
        return {key: _named(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_named(item) for item in value]
    return PurePath(value).name if isinstance(value, str) and value.startswith("/") else value


def _short(value: Any) -> str:
    text = "absent" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}…"
