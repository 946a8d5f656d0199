"""A finished experiment and its report, made once for all that look at it."""

from pathlib import Path

import pytest

from ecodatum.pipeline.graph import Graph
from ecodatum.report.page import render
from tests.report.report_experiment import curate, finish, open_graph, write_report_experiment


@pytest.fixture(scope="session")
def reported_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of an experiment that is finished in the folder `work` beside it."""
    return write_report_experiment(tmp_path_factory.mktemp("reported"))


@pytest.fixture(scope="session")
def reported(reported_file: Path) -> Graph:
    """Return the graph of the finished experiment."""
    graph = open_graph(reported_file, reported_file.parent / "work")
    curate(graph)
    finish(graph)
    return graph


@pytest.fixture(scope="session")
def report_html(reported: Graph) -> str:
    """Return the report of the finished experiment."""
    return render(reported)
