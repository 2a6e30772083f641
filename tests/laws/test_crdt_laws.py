"""Does every replicated type, nested ones too, keep the laws of a delta-state lattice?"""

from collections.abc import Callable

import pytest
from crdt_histories import LIVES, Step, steps
from crdt_laws import LAWS
from hypothesis import given


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", LIVES)
def test_type_keeps_the_law(name: str, law: Callable[..., None]) -> None:
    @given(taken=steps)
    def keeps(taken: list[Step]) -> None:
        law(LIVES[name], taken)

    keeps()
