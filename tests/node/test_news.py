"""Is every change of state told once, and nothing else?"""

import logging

import msgspec
import pytest

from aegis_replication.consensus.configuration import Configuration
from aegis_replication.engine.effects import ConfigurationChanged, Effects, RoleChanged, no_effects
from aegis_replication.node.news import News


def effects(*changes: RoleChanged, configurations: tuple[ConfigurationChanged, ...] = ()) -> Effects:
    return msgspec.structs.replace(no_effects(), changes=[*changes], configurations=[*configurations])


def test_a_leader_that_is_seen_again_is_no_change_of_leader(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    news = News("n1")

    news.tell(effects(RoleChanged(1, 1, "candidate", None, "it was silent")))
    news.tell(effects(RoleChanged(1, 1, "follower", "n2", "n2 leads")))
    news.tell(effects(RoleChanged(1, 1, "follower", None, "n2 is lost"), RoleChanged(1, 1, "follower", "n2", "back")))
    news.tell(effects(RoleChanged(1, 2, "leader", "n1", "won")))

    assert (news.elections, news.leader_changes) == ({1: 1}, {1: 2})
    assert [record.getMessage() for record in caplog.records][:2] == [
        "group=1 node=n1 term=1 role=candidate leader=none: it was silent",
        "group=1 node=n1 term=1 role=follower leader=n2: n2 leads",
    ]
    assert len(caplog.records) == 5


def test_members_are_told_when_they_changed_and_not_when_an_address_did(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    news = News("n1")
    one = Configuration(("n1",))

    for index, configuration in enumerate(
        [one, msgspec.structs.replace(one, addresses={"n1": "h:1"}), Configuration(("n1",), learners=("n2",))]
    ):
        news.tell(effects(configurations=(ConfigurationChanged(1, index, configuration),)))

    assert [record.getMessage() for record in caplog.records] == [
        "group=1 node=n1 index=0 voters=n1 outgoing= learners= lease_ms=0: these are the members",
        "group=1 node=n1 index=2 voters=n1 outgoing= learners=n2 lease_ms=0: these are the members",
    ]


def test_observers_hear_of_roles_only() -> None:
    news, heard = News("n1"), list[object]()
    news.observers.append(heard.append)
    change = RoleChanged(1, 1, "leader", "n1", "won")

    news.tell(effects(change, configurations=(ConfigurationChanged(1, 0, Configuration(("n1",))),)))

    assert heard == [change]
