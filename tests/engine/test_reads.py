"""Does a replica answer reads only when it may: at the leader, at followers, by lease and by age?"""

import pytest
from engines import Engines

from aegis_replication import wire
from aegis_replication.consensus.messages import ReadIndex
from aegis_replication.engine.effects import Effects
from aegis_replication.engine.events import Persisted
from aegis_replication.engine.spec import ReplicaLimits
from aegis_replication.state_machine import commands


@pytest.fixture
def cluster() -> Engines:
    engines = Engines()
    engines.elect()
    return engines


@pytest.fixture
def leased() -> Engines:
    """A cluster whose leader has a lease, and "k" is "old"."""
    engines = Engines()
    leader = engines.elect()
    engines.put(leader, b"k", b"old")
    engines.run()
    engines.replica(leader).raft.set_lease(150)
    engines.pass_time(200)
    assert engines.replica(leader).raft.lease_until_ms > engines.now_ms
    return engines


def read(cluster: Engines, name: str, key: bytes = b"k", *, staleness_ms: int = 0) -> int:
    """Ask a node for a key, as a client that takes any replica; the request's number."""
    body = wire.encode_read(staleness_ms, commands.encode_query(commands.Get(key)))
    return cluster.ask(name, body, kind=wire.READ)


def follower_of(cluster: Engines) -> str:
    return next(name for name in cluster.names if name != cluster.leader)


# --- at followers ---------------------------------------------------------------------------------------------------


def test_a_follower_answers_what_was_acknowledged_before(cluster: Engines) -> None:
    write = cluster.put(cluster.leader, b"k", b"v")
    cluster.run()
    assert cluster.answer(write)[0] == wire.OK

    request = read(cluster, follower_of(cluster))
    cluster.run()
    cluster.pass_time(100)

    assert cluster.answer(request) == (wire.OK, [b"v", 1])


def test_all_reads_of_a_turn_are_one_question(cluster: Engines) -> None:
    follower = follower_of(cluster)

    requests = [read(cluster, follower) for _ in range(50)]
    cluster.run()
    cluster.pass_time(100)

    assert sum(isinstance(message, ReadIndex) for _, _, message in cluster.messages) == 1
    assert all(cluster.answer(request)[0] == wire.OK for request in requests)


def test_a_follower_waits_for_the_entry_that_the_leader_named(cluster: Engines) -> None:
    follower = follower_of(cluster)
    cluster.held[follower] = []
    write = cluster.put(cluster.leader, b"k", b"v")
    cluster.run()
    assert cluster.answer(write)[0] == wire.OK

    request = read(cluster, follower)
    cluster.run()
    cluster.pass_time(60)
    answered_before = cluster.is_answered(request)
    cluster.finish_writes(follower)
    cluster.pass_time(60)

    assert not answered_before
    assert cluster.answer(request) == (wire.OK, [b"v", 1])


def test_a_follower_that_loses_its_leader_says_so(cluster: Engines) -> None:
    leader, follower = cluster.leader, follower_of(cluster)
    cluster.cut.add(leader)

    request = read(cluster, follower)
    cluster.run()
    cluster.pass_time(1000)

    assert cluster.answer(request)[0] == wire.DROPPED


def test_a_follower_without_a_leader_takes_no_read() -> None:
    cluster = Engines()

    request = read(cluster, "n1")
    cluster.run()

    assert cluster.answer(request) == (wire.NOT_LEADER, [None, None])


def test_a_leader_answers_such_reads_too(cluster: Engines) -> None:
    request = read(cluster, cluster.leader)
    cluster.run()

    assert cluster.answer(request) == (wire.OK, None)


def test_a_read_that_is_cut_is_refused(cluster: Engines) -> None:
    requests = [cluster.ask(follower_of(cluster), body, kind=wire.READ) for body in (b"", b"\0\0\0")]
    cluster.run()

    assert [cluster.answer(request)[0] for request in requests] == [wire.INVALID] * 2


def test_reads_that_wait_are_limited_all_together() -> None:
    cluster = Engines(limits=ReplicaLimits(waiting_reads=10))
    leader = cluster.elect()
    follower = follower_of(cluster)
    cluster.cut.add(leader)

    requests = []
    for _ in range(4):
        requests += [read(cluster, follower) for _ in range(4)]
        cluster.run()
    cluster.run()

    refused = [request for request in requests if cluster.is_answered(request)]
    assert refused == requests[10:]
    assert {cluster.answer(request)[0] for request in refused} == {wire.OVERLOADED}


def test_the_bytes_of_reads_that_wait_are_limited_too() -> None:
    cluster = Engines(limits=ReplicaLimits(waiting_read_bytes=1000))
    leader = cluster.elect()
    cluster.cut.update(name for name in cluster.names if name != leader)

    requests = []
    for _ in range(8):
        requests.append(cluster.get(leader, b"k" * 300))
        cluster.run()
    refused = [request for request in requests if cluster.is_answered(request)]
    cluster.cut.clear()
    cluster.pass_time(100)
    after = cluster.get(leader, b"k" * 300)
    cluster.run()

    assert refused == requests[3:]
    assert {cluster.answer(request)[0] for request in refused} == {wire.OVERLOADED}
    assert {cluster.answer(request)[0] for request in (*requests[:3], after)} == {wire.OK}


def test_a_leader_that_has_contact_and_cannot_commit_holds_no_more_reads_than_its_limit() -> None:
    cluster = Engines(limits=ReplicaLimits(waiting_reads=10))
    leader = cluster.elect()
    follower = follower_of(cluster)
    cluster.cut.update(name for name in cluster.names if name != leader)
    cluster.put(leader, b"k", b"only the old leader has it, so that no other can be the next")
    cluster.pass_time(1000)
    cluster.cut.discard(follower)
    cluster.held[follower] = []
    for _ in range(200):
        cluster.pass_time(10)
        if cluster.replica(leader).raft.is_leader:
            break
        held, cluster.held[follower] = cluster.held[follower], []
        for write in held:  # its vote, but not what the leader then asks it to store
            cluster.tell(follower, Persisted(write.group, write.number))
        cluster.run()

    requests = []
    for _ in range(30):
        requests.append(cluster.get(leader, b"k"))
        cluster.pass_time(20)
    is_leader_still = cluster.replica(leader).raft.is_leader
    refused = [request for request in requests if cluster.is_answered(request)]
    cluster.finish_writes(follower)
    cluster.pass_time(100)

    assert is_leader_still
    assert refused == requests[10:]
    assert {cluster.answer(request)[0] for request in refused} == {wire.OVERLOADED}
    assert {cluster.answer(request)[0] for request in requests[:10]} == {wire.OK}


def test_the_limit_is_free_again_once_reads_are_answered() -> None:
    cluster = Engines(limits=ReplicaLimits(waiting_reads=10))
    cluster.elect()
    follower = follower_of(cluster)

    for _ in range(5):
        requests = [read(cluster, follower) for _ in range(10)]
        cluster.run()
        cluster.pass_time(100)

        assert {cluster.answer(request)[0] for request in requests} == {wire.OK}


# --- of a bounded age -----------------------------------------------------------------------------------------------


def test_a_follower_that_asked_lately_answers_by_itself(cluster: Engines) -> None:
    follower = follower_of(cluster)
    read(cluster, follower, staleness_ms=1000)
    cluster.run()
    cluster.pass_time(100)
    asked = sum(isinstance(message, ReadIndex) for _, _, message in cluster.messages)

    request = read(cluster, follower, staleness_ms=1000)
    cluster.run()

    assert cluster.answer(request)[0] == wire.OK
    assert sum(isinstance(message, ReadIndex) for _, _, message in cluster.messages) == asked


def test_a_proof_that_is_too_old_is_made_anew(cluster: Engines) -> None:
    follower = follower_of(cluster)
    read(cluster, follower, staleness_ms=1000)
    cluster.run()
    cluster.pass_time(1000)
    asked = sum(isinstance(message, ReadIndex) for _, _, message in cluster.messages)

    request = read(cluster, follower, staleness_ms=1000)
    cluster.run()
    cluster.pass_time(100)

    assert cluster.answer(request)[0] == wire.OK
    assert sum(isinstance(message, ReadIndex) for _, _, message in cluster.messages) == asked + 1


# --- by lease -------------------------------------------------------------------------------------------------------


def get(cluster: Engines, name: str) -> tuple[int, Effects]:
    """Ask the leader and take what it wants done; the request's number."""
    request = cluster.get(name, b"k")
    return request, cluster.engines[name].take_effects()


def test_a_read_by_lease_sends_nothing(leased: Engines) -> None:
    leader = leased.leader

    _, effects = get(leased, leader)

    assert effects.messages == []
    assert len(effects.leased) == 1


def test_replies_by_lease_leave_while_the_lease_lasts(leased: Engines) -> None:
    leader = leased.leader
    request, effects = get(leased, leader)
    until_ms = effects.leased[0].until_ms

    leased.engines[leader].settle_leased(effects, until_ms - 0.001)

    assert [wire.decode_reply(packet[4:])[0] for _, packet in effects.replies] == [request]
    assert effects.leased == []


def test_replies_by_lease_are_withheld_when_the_clock_says_that_it_is_over(leased: Engines) -> None:
    """However long the process stood still after it had looked at the clock."""
    leader = leased.leader
    request, effects = get(leased, leader)

    leased.engines[leader].settle_leased(effects, effects.leased[0].until_ms)
    withheld = effects.replies == []
    leased.run()

    assert withheld
    assert leased.answer(request) == (wire.OK, [b"old", 1]), "a majority has confirmed it after all"


def test_withheld_reads_of_a_leader_that_is_one_no_more_are_sent_elsewhere(leased: Engines) -> None:
    leader = leased.leader
    leased.cut.add(leader)
    request, effects = get(leased, leader)

    leased.engines[leader].settle_leased(effects, effects.leased[0].until_ms)
    leased.run()
    leased.pass_time(1000)

    assert leased.answer(request)[0] in (wire.NOT_LEADER, wire.DROPPED)
