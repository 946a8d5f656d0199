"""Makers of small pools and score files, and the reference data of the peers."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def reference() -> Path:
    """The peers' data to test against; a test that needs it is skipped where it is absent."""
    folder = Path(os.environ.get("ECODATUM_REFERENCE", ROOT.parent / "shared" / "reference"))
    if not folder.is_dir():
        pytest.skip("the peers' reference data is absent (set ECODATUM_REFERENCE)")
    return folder
