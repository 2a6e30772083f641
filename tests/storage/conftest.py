"""How do these tests find the helper beside them, and what do they start from?"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from storage_lab import Lab


@pytest.fixture
def lab() -> Lab:
    """A node that was never started."""
    return Lab()
