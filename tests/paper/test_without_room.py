"""Raft §5.3 on a full disk: what does a follower say to entries that it has no room for?"""

from raft_replicas import append, only, replica, settle, told

from aegis_replication.consensus.messages import AppendReply
from aegis_replication.log import EntryId


def follower(room_bytes: int | None):
    """It holds entries 1 to 3 and hears leader `b` of term 1."""
    raft = replica(log=(1, 1, 1))
    told(raft, "b", append(1, (1, 3)))
    raft.on_room_changed(room_bytes)
    return raft


def answers(raft, *appends) -> list[AppendReply]:
    for each in appends:
        raft.step("b", each)
    return only(settle(raft), AppendReply)


def test_entries_that_find_no_room_get_contact_and_so_do_those_behind_them() -> None:
    """A refusal among the answers would have the leader send all of it again at once, again and again."""
    raft = follower(0)

    said = answers(raft, append(1, (1, 3), (1, 1), round=2), append(1, (1, 5), (1,)), append(1, (1, 6), (1,)))

    assert said == [AppendReply(1, 2, 3)] * 3
    assert raft.log.last == EntryId(1, 3)


def test_a_small_append_behind_a_large_one_is_not_refused_either() -> None:
    raft = follower(200)
    large = append(1, (1, 3), (1,) * 20)

    said = answers(raft, large, append(1, (1, 23), (1,)))

    assert all(reply.refused == 0 and reply.matched == 3 for reply in said)
    assert raft.log.last == EntryId(1, 3)


def test_a_heartbeat_finds_out_where_the_logs_meet_also_without_room() -> None:
    raft = follower(0)

    (said,) = answers(raft, append(1, (1, 9)))

    assert (said.refused, said.hint) == (9, EntryId(1, 3))


def test_with_room_again_it_takes_what_it_gets() -> None:
    raft = follower(0)
    answers(raft, append(1, (1, 3), (1, 1)))

    raft.on_room_changed(None)
    said = answers(raft, append(1, (1, 3), (1, 1)))

    assert said[-1].matched == 5
