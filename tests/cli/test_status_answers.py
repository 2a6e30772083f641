"""Does status say who leads and who is missing, whatever the nodes answer?"""

import pytest

from aegis_replication.cli import status
from aegis_replication.errors import Unavailable

VOTERS = ["n1", "n2", "n3"]
ADDRESSES = {"n1": "h:1", "n2": "h:2", "n3": "h:3"}


def answer(
    node: str, role: str, term: int = 5, leader: str | None = "n1", known: tuple[str, ...] = (), format_highest: int = 1
) -> dict:
    group = {"role": role, "term": term, "leader": leader, "voters": VOTERS}
    indexes = {"last_index": 9, "committed_index": 8, "applied_index": 7, "format": 1, "format_highest": format_highest}
    return {
        "node": node,
        "client_address": ADDRESSES[node],
        "addresses": {name: ADDRESSES[name] for name in known},
        "groups": {"1": {**group, **indexes}},
        "disk": {"flush_p50_ms": 0.5, "flush_p99_ms": 1.0, "flush_mode": "inline"},
    }


@pytest.fixture
def nodes(monkeypatch):
    """By address: what each node answers; the others are silent."""
    answers: dict[str, dict] = {}

    def ask(address: str, *, timeout: float) -> dict:
        if address not in answers:
            raise Unavailable(f"no node answers at {address}")
        return answers[address]

    monkeypatch.setattr(status, "ask_status", ask)
    return answers


def shown(aegis, *endpoints: str):
    return aegis("status", "--endpoints", ",".join(endpoints), "-o", "json")


def test_others_are_found_through_one(aegis, nodes):
    nodes["h:1"] = answer("n1", "leader", known=("n2", "n3"))
    nodes["h:2"], nodes["h:3"] = answer("n2", "follower"), answer("n3", "follower")

    ran = shown(aegis, "h:1")

    assert ran.code == 0
    assert ran.json["leader"] == "n1"
    assert [(row["node"], row["role"], row["lag_entries"]) for row in ran.json["nodes"]] == [
        ("n1", "leader", 2),
        ("n2", "follower", 2),
        ("n3", "follower", 2),
    ]


def test_a_silent_address_and_a_missing_voter_are_the_same_node(aegis, nodes):
    nodes["h:1"], nodes["h:2"] = answer("n1", "leader", known=("n2",)), answer("n2", "follower")

    ran = shown(aegis, "h:1", "h:2", "h:3")

    assert ran.code == 7
    assert [(row["node"], row["role"], row["address"]) for row in ran.json["nodes"]][2] == ("n3", "unreachable", "h:3")
    assert ran.json["leader"] == "n1"
    assert len(ran.json["troubles"]) == 1


def test_a_voter_without_an_address_is_missed_too(aegis, nodes):
    nodes["h:1"], nodes["h:2"] = answer("n1", "leader", known=("n2",)), answer("n2", "follower")

    ran = shown(aegis, "h:1")

    assert ran.code == 7
    assert [(row["node"], row["address"]) for row in ran.json["nodes"]][2] == ("n3", "?")


def test_a_leader_without_a_majority_is_none(aegis, nodes):
    nodes["h:1"] = answer("n1", "leader", term=4)
    nodes["h:2"], nodes["h:3"] = (answer(name, "candidate", 5, leader=None) for name in ("n2", "n3"))

    ran = shown(aegis, "h:1", "h:2", "h:3")

    assert ran.code == 7
    assert ran.json["leader"] is None
    assert ran.json["troubles"] == ["no node leads with a majority"]


def test_the_newer_of_two_leaders_counts(aegis, nodes):
    nodes["h:1"] = answer("n1", "leader", term=4)
    nodes["h:2"], nodes["h:3"] = answer("n2", "leader", 5, leader="n2"), answer("n3", "follower", 5, leader="n2")

    assert shown(aegis, "h:1", "h:2", "h:3").json["leader"] == "n2"


def test_an_error_beside_the_table_names_the_silent_node(aegis, nodes):
    nodes["h:1"], nodes["h:2"] = answer("n1", "leader", known=("n2",)), answer("n2", "follower")

    ran = aegis("status", "--endpoints", "h:1,h:2,h:3")

    assert "n3 at h:3 does not answer" in ran.err
    assert "unreachable" in ran.out


def test_the_format_and_who_holds_back_the_next_are_shown(aegis, nodes):
    nodes["h:1"] = answer("n1", "leader", format_highest=2)
    nodes["h:2"], nodes["h:3"] = answer("n2", "follower"), answer("n3", "follower", format_highest=2)

    table = aegis("status", "--endpoints", "h:1,h:2,h:3")
    rows = shown(aegis, "h:1", "h:2", "h:3").json["nodes"]
    del nodes["h:2"]
    without = aegis("status", "--endpoints", "h:1,h:2,h:3")
    nodes["h:2"] = answer("n2", "follower", format_highest=2)
    equal = aegis("status", "--endpoints", "h:1,h:2,h:3")

    assert [(row["format"], row["format_highest"]) for row in rows] == [(1, 2), (1, 1), (1, 2)]
    assert "format 1 is written until all members know 2: n2 knows up to 1\n" in table.err
    assert "format 1 is written until all members know 2: n2 is not there to say\n" in without.err
    assert "is written until" not in equal.err
