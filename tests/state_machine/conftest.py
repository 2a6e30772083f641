"""How do these tests find stores.py, and which store do they begin with?"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from stores import Node, Store


@pytest.fixture
def node() -> Node:
    node = Node()
    for sku in ("a", "b", "c"):
        node(Store.add, sku, 10)
    node(Store.order, "a", 3)
    node(Store.order, "b", 1)
    node(Store.configure, {"a": {"b": 1}})
    return node
