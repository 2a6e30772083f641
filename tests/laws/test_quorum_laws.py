"""Does the quorum arithmetic agree with its definition, said as slowly as possible? (Raft §5.3; joint: thesis §4.3.)"""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from aegis_replication.consensus.quorum import (
    NO_LIMIT,
    committed,
    election_outcome,
    has_majority,
    is_supported,
    jointly_committed,
    majority,
)

NAMES = "abcdefg"
voters = st.sets(st.sampled_from(NAMES), max_size=7)
some_voters = st.sets(st.sampled_from(NAMES), min_size=1, max_size=7)
matches = st.dictionaries(st.sampled_from(NAMES + "xyz"), st.integers(0, 20))
votes = st.dictionaries(st.sampled_from(NAMES + "xyz"), st.booleans())


def majorities(of: set[str]) -> list[tuple[str, ...]]:
    """Every group of more than half, by counting groups of all sizes."""
    return [group for size in range(len(of) + 1) for group in combinations(sorted(of), size) if 2 * size > len(of)]


def committed_slowly(of: set[str], held: dict[str, int]) -> int:
    """The definition itself: the best index that some majority reaches together."""
    return max(min(held.get(voter, 0) for voter in group) for group in majorities(of))


@given(voters=some_voters, matches=matches)
def test_committed_agrees_with_its_definition(voters: set[str], matches: dict[str, int]) -> None:
    assert committed(voters, matches) == committed_slowly(voters, matches)


@given(voters=some_voters, outgoing=some_voters, matches=matches)
def test_jointly_committed_is_held_by_a_majority_of_each_half(
    voters: set[str], outgoing: set[str], matches: dict[str, int]
) -> None:
    expected = max(
        min(matches.get(voter, 0) for voter in (*one, *other))
        for one in majorities(voters)
        for other in majorities(outgoing)
    )

    assert jointly_committed(voters, outgoing, matches) == expected


@given(voters=some_voters, supporters=voters)
def test_a_majority_is_more_than_half(voters: set[str], supporters: set[str]) -> None:
    assert has_majority(voters, supporters) == (2 * len(voters & supporters) > len(voters))


@given(voters=some_voters, outgoing=voters, votes=votes)
def test_an_election_is_decided_exactly_when_no_missing_vote_can_change_it(
    voters: set[str], outgoing: set[str], votes: dict[str, bool]
) -> None:
    granted = {name for name, is_granted in votes.items() if is_granted}
    missing = (voters | outgoing) - votes.keys()
    outcomes = {
        is_supported(voters, outgoing, granted | set(more))
        for size in range(len(missing) + 1)
        for more in combinations(sorted(missing), size)
    }

    outcome = election_outcome(voters, outgoing, votes)

    assert outcome == (outcomes.pop() if len(outcomes) == 1 else None)


@given(voters=some_voters, votes=votes)
def test_votes_of_strangers_change_nothing(voters: set[str], votes: dict[str, bool]) -> None:
    of_voters = {name: granted for name, granted in votes.items() if name in voters}

    assert election_outcome(voters, (), votes) == election_outcome(voters, (), of_voters)


@given(one=some_voters, size=st.integers(0, 7))
def test_any_two_majorities_share_a_voter(one: set[str], size: int) -> None:
    groups = [set(group) for group in combinations(sorted(one), min(majority(len(one)) + size, len(one)))]

    assert all(first & second for first in groups for second in groups)


def test_an_empty_half_of_a_joint_configuration_holds_nobody_back() -> None:
    assert committed((), {"a": 3}) == NO_LIMIT
    assert jointly_committed(("a",), (), {"a": 3}) == 3
    assert has_majority((), ())


def test_half_of_an_even_number_is_no_majority() -> None:
    assert [majority(count) for count in range(1, 8)] == [1, 2, 2, 3, 3, 4, 4]
    assert committed("abcd", {"a": 5, "b": 5, "c": 1, "d": 0}) == 1
