"""How does a replica answer its operators? Requests about members and leadership, by way of the engine alone."""

import msgspec
import pytest
from engines import Engines

from aegis_replication import wire
from aegis_replication.admin import (
    Jointly,
    Members,
    Transfer,
    decode_admin,
    decode_members,
    encode_admin,
    refusal,
)
from aegis_replication.consensus.changes import AddLearner, Demote, Introduction, Promote, Remove
from aegis_replication.engine.administration import WAITING_MAX
from aegis_replication.engine.events import LeavingSoon, PeerSeen, Requested
from aegis_replication.errors import ChangePending, ChangeRefused, InvalidArgument, LearnerLags, ProtocolError


@pytest.fixture
def cluster() -> Engines:
    made = Engines()
    made.elect()
    return made


def administer(cluster: Engines, request, *, at: str | None = None):
    number = cluster.ask(at or cluster.leader, encode_admin(request), kind=wire.ADMIN)
    cluster.run()
    return number


def members_of(body):
    return decode_members(msgspec.msgpack.encode(body))


def test_the_leader_lists_the_members(cluster: Engines):
    leader = cluster.leader

    status, body = cluster.answer(administer(cluster, Members()))

    members = members_of(body)
    assert status == wire.OK
    assert [row.node for row in members.members] == ["n1", "n2", "n3"]
    assert [row.node for row in members.members if row.is_leader] == [leader] == [members.leader]
    assert {row.role for row in members.members} == {"voter"}
    assert all(row.lag_entries == 0 and row.is_level for row in members.members)
    assert members.pending == ""


def test_another_node_points_to_the_leader(cluster: Engines):
    follower = next(name for name in cluster.names if name != cluster.leader)

    status, body = cluster.answer(administer(cluster, Members(), at=follower))

    assert (status, body[0]) == (wire.NOT_LEADER, cluster.leader)


def test_a_change_is_answered_when_it_is_committed(cluster: Engines):
    for name in cluster.names:
        if name != cluster.leader:
            cluster.held[name] = []
    leader = cluster.leader
    number = administer(cluster, AddLearner("n4", "10.0.0.4:7481"))
    assert not cluster.is_answered(number)

    for name in [*cluster.held]:
        cluster.finish_writes(name)
    cluster.run()

    status, body = cluster.answer(number)
    row = members_of(body).find("n4")
    assert (status, row.role, row.address, row.silent_ms) == (wire.OK, "learner", "10.0.0.4:7481", None)
    assert cluster.replica(leader).raft.log.committed >= members_of(body).configuration_index


def test_a_joint_change_is_answered_when_it_is_over(cluster: Engines):
    leader = cluster.leader
    other = next(name for name in cluster.names if name != leader)

    status, body = cluster.answer(administer(cluster, Jointly(Demote(other))))

    assert (status, members_of(body).is_joint) == (wire.OK, False)
    assert members_of(body).find(other).role == "learner"


def test_what_is_so_already_is_answered_at_once(cluster: Engines):
    last = cluster.replica(cluster.leader).raft.log.last_index

    status, _ = cluster.answer(administer(cluster, Remove("n9")))

    assert status == wire.OK
    assert cluster.replica(cluster.leader).raft.log.last_index == last


@pytest.mark.parametrize(
    ("request_", "name", "words"),
    [
        (Promote("n9"), "UnknownMember", "add it first"),
        (Transfer("n9"), "UnknownMember", "not a member"),
        (AddLearner("n2"), "MemberExists", "is a voter already"),
    ],
)
def test_a_refusal_says_which_error_and_what_to_do(cluster: Engines, request_, name, words):
    status, (found, text) = cluster.answer(administer(cluster, request_))

    assert (status, found) == (wire.CHANGE_REFUSED, name)
    assert words in text


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\x91\xa4what", b"\x92\xa7promote\x07", encode_admin(AddLearner("n4", "h:1" + "0" * 400))]
)
def test_nonsense_is_answered_as_invalid(cluster: Engines, body: bytes):
    number = cluster.ask(cluster.leader, body, kind=wire.ADMIN)
    cluster.run()

    assert cluster.answer(number)[0] == wire.INVALID


def test_a_hand_over_is_answered_by_the_one_who_led(cluster: Engines):
    leader = cluster.leader
    target = next(name for name in cluster.names if name != leader)

    number = administer(cluster, Transfer(target))

    assert cluster.answer(number) == (wire.OK, target)
    assert cluster.leader == target


def test_a_hand_over_that_fails_is_refused_and_the_leader_goes_on(cluster: Engines):
    leader = cluster.leader
    target = next(name for name in cluster.names if name != leader)
    cluster.held[target] = []
    put = cluster.put(leader, b"k", b"1")
    cluster.run()
    number = administer(cluster, Transfer(target))
    assert not cluster.is_answered(number)

    cluster.pass_time(400)

    status, (name, text) = cluster.answer(number)
    assert (status, name) == (wire.CHANGE_REFUSED, "ChangeRefused")
    assert "did not take over in time" in text
    assert cluster.leader == leader
    assert cluster.answer(put)[0] == wire.OK


def test_commands_wait_while_the_leader_hands_over_and_then_go_on_here(cluster: Engines):
    leader = cluster.leader
    target = next(name for name in cluster.names if name != leader)
    cluster.held[target] = []
    cluster.put(leader, b"k", b"1")
    cluster.run()
    administer(cluster, Transfer(target))

    put = cluster.put(leader, b"k", b"2")
    cluster.run()
    assert not cluster.is_answered(put)
    cluster.pass_time(400)

    assert cluster.answer(put)[0] == wire.OK


def test_commands_that_waited_are_sent_on_when_the_office_has_gone(cluster: Engines):
    leader = cluster.leader
    target = next(name for name in cluster.names if name != leader)
    cluster.tell(leader, _request(cluster, Transfer(target)))
    put = cluster.put(leader, b"k", b"2")

    cluster.run()

    status, body = cluster.answer(put)
    assert status == wire.NOT_LEADER
    assert body[0] in (target, None)


def _request(cluster: Engines, request):
    return Requested(9, 4711, wire.ADMIN, 1, encode_admin(request))


def test_a_node_that_is_about_to_leave_hands_over(cluster: Engines):
    leader = cluster.leader

    cluster.tell(leader, LeavingSoon())
    cluster.run()

    assert cluster.leader != leader


def test_a_lonely_node_leaves_without_a_hand_over():
    cluster = Engines(["n1"])
    cluster.elect()

    cluster.tell("n1", LeavingSoon())
    cluster.run()

    assert cluster.leader == "n1"


def test_changes_of_a_deposed_leader_have_an_unknown_outcome(cluster: Engines):
    leader = cluster.leader
    for name in cluster.names:
        if name != leader:
            cluster.held[name] = []
    number = administer(cluster, AddLearner("n4"))
    cluster.held.clear()
    cluster.cut.add(leader)

    cluster.pass_time(600)

    assert cluster.answer(number)[0] == wire.UNKNOWN


def test_too_many_operators_are_told_to_come_back(cluster: Engines):
    for name in cluster.names:
        if name != cluster.leader:
            cluster.held[name] = []
    leader = cluster.leader
    administration = cluster.replica(leader).administration
    administration._changes = [(10**9, (1, number)) for number in range(WAITING_MAX)]

    status, (name, _) = cluster.answer(administer(cluster, Members()))

    assert (status, name) == (wire.CHANGE_REFUSED, "ChangePending")
    administration._changes.clear()


def test_the_host_is_told_whom_to_speak_with_and_where(cluster: Engines):
    leader = cluster.leader
    cluster.tell(leader, PeerSeen("n2" if leader != "n2" else "n3", "c:1", Introduction(5, "10.0.0.2:7481")))
    engine = cluster.engines[leader]

    effects = engine.take_effects()

    assert "10.0.0.2:7481" in effects.peers.values()
    assert set(effects.peers) == set(cluster.names) - {leader}


def test_what_operators_send_is_read_back_as_it_was():
    for request in (
        Members(),
        Transfer(None),
        Transfer("n2"),
        Jointly(Demote("n1")),
        AddLearner("n4", "h:1", 2**64 - 1),
    ):
        assert decode_admin(encode_admin(request)) == request


def test_what_nobody_can_read_has_one_error():
    with pytest.raises(InvalidArgument):
        decode_admin(b"\x91\x91")
    with pytest.raises(ProtocolError):
        decode_members(b"\x80")


def test_refusals_become_the_errors_they_were():
    assert isinstance(refusal("LearnerLags", "x"), LearnerLags)
    assert isinstance(refusal("ChangePending", "x"), ChangePending)
    assert type(refusal("of a later version", "x")) is ChangeRefused
