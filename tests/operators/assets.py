"""Assets that a machine may lack; a test that needs one is skipped there."""

import pytest

from ecodatum.errors import AssetError
from ecodatum.operators.operator import Operator, create


def require_wordnet(**parameters: object) -> Operator:
    """Return the operator `wordnet`."""
    try:
        return create("wordnet", parameters)
    except AssetError as error:
        pytest.skip(str(error))
