"""Raft thesis §10.2: how much is on its way to a follower at once, and what if it gets lost?"""

from raft_cluster import Cluster
from raft_replicas import (
    COMMANDS,
    CheckedRaft,
    leader,
    only,
    replicating,
    settle,
    time_out,
)

from aegis_replication.consensus.leader import Leader
from aegis_replication.consensus.messages import AppendEntries, AppendReply
from aegis_replication.consensus.progress import PROBE, REPLICATE, Progress
from aegis_replication.log import FRAME_HEADER_BYTES, EntryId


def progress_of(raft: CheckedRaft, peer: str) -> Progress:
    role = raft.current_role
    assert isinstance(role, Leader)
    return role.progress[peer]


def put(raft: CheckedRaft, size: int = 0, *, count: int = 1) -> None:
    raft.propose(COMMANDS, b"x" * max(size - FRAME_HEADER_BYTES, 0), count=count)


def appends_to(raft: CheckedRaft, peer: str) -> list[AppendEntries]:
    return [message for target, message in settle(raft) if target == peer and isinstance(message, AppendEntries)]


def test_appends_follow_each_other_without_waiting_for_answers() -> None:
    """Thesis §10.2.1: the leader optimistically updates nextIndex as soon as it has sent entries."""
    raft = replicating()

    sent = []
    for _ in range(3):
        put(raft)
        sent += appends_to(raft, "b")

    assert [message.previous.index for message in sent] == [2, 3, 4]
    assert [len(message.entries) for message in sent] == [1, 1, 1]


def test_a_window_of_bytes_bounds_what_is_on_its_way() -> None:
    """Thesis §10.2.1: about two appends deep; more would pile up small writes on the follower."""
    raft = replicating(append_bytes_max=1000, inflight_bytes_max=2000)
    for _ in range(50):
        put(raft, 500)

    sent = appends_to(raft, "b")

    assert [len(message.entries) for message in sent] == [2, 2]
    assert progress_of(raft, "b").in_flight_bytes == 2000


def test_an_ack_opens_the_window_again() -> None:
    """As above."""
    raft = replicating(append_bytes_max=1000, inflight_bytes_max=2000)
    for _ in range(50):
        put(raft, 500)
    first = appends_to(raft, "b")

    raft.step("b", AppendReply(raft.term, 0, first[0].entries[-1].index))
    second = appends_to(raft, "b")

    assert [message.previous for message in second] == [first[-1].entries[-1].id]


def test_a_slow_follower_does_not_hold_up_the_others() -> None:
    """§5.3: a minority of slow servers need not impact overall system performance."""
    raft = replicating(append_bytes_max=1000, inflight_bytes_max=1000)
    sent = []
    for _ in range(10):
        put(raft, 1000)
        for message in appends_to(raft, "b"):
            sent.append(message)
            raft.step("b", AppendReply(raft.term, 0, message.entries[-1].index))

    assert len(sent) == 10
    assert progress_of(raft, "c").in_flight_bytes == 1000
    assert raft.log.committed == raft.log.last_index


def test_an_entry_larger_than_an_append_goes_alone() -> None:
    """A limit must not stop what it can't cut."""
    raft = replicating(append_bytes_max=1000, inflight_bytes_max=1000)
    put(raft, 5000)
    put(raft, 10)

    sent = appends_to(raft, "b")

    assert [len(message.entries) for message in sent] == [1]


def test_an_append_of_several_entries_holds_a_bounded_number_of_commands() -> None:
    """`max_entries_per_request` counts commands; a batch that is larger goes alone."""
    raft = replicating(max_entries_per_request=100)
    for count in (40, 40, 40, 300, 1):
        put(raft, count=count)

    sent = appends_to(raft, "b")

    assert [[held.count for held in message.entries] for message in sent] == [[40, 40], [40], [300], [1]]


def test_a_new_leader_sends_one_append_until_it_knows_where_the_logs_meet() -> None:
    """§5.3: a wrong guess costs one message, not a window full."""
    raft = leader()

    for _ in range(3):
        put(raft)
        assert appends_to(raft, "b") == []
    raft.step("b", AppendReply(raft.term, 0, 2))

    assert progress_of(raft, "b").stance is REPLICATE
    assert [held.index for held in appends_to(raft, "b")[0].entries] == [3, 4, 5]


def test_a_refused_append_sends_the_leader_back_to_asking() -> None:
    """Thesis §10.2.1: if an AppendEntries is rejected, the leader decrements nextIndex and goes back to probing."""
    raft = replicating()
    for _ in range(3):
        put(raft)
        settle(raft)

    raft.step("b", AppendReply(raft.term, 0, 0, refused=4, hint=EntryId(raft.term, 2)))
    again = appends_to(raft, "b")

    assert [held.index for held in again[0].entries] == [3, 4, 5]
    assert progress_of(raft, "b").stance is PROBE


def test_of_several_refusals_of_one_gap_the_first_is_answered() -> None:
    """Thesis §10.2.1: the appends behind a lost one are all refused; one resend repairs all of it."""
    raft = replicating()
    for _ in range(4):
        put(raft)
        settle(raft)

    sent = []
    for refused in (3, 4, 5):
        raft.step("b", AppendReply(raft.term, 0, 0, refused=refused, hint=EntryId(raft.term, 2)))
        sent += appends_to(raft, "b")

    assert len(sent) == 1


def test_a_lost_connection_makes_the_leader_ask_where_the_follower_stands() -> None:
    """§5.5: what was on its way may be lost, and nothing is sent until the follower is heard again."""
    raft = replicating()
    put(raft)
    settle(raft)

    raft.on_peer_lost("b")
    put(raft)
    assert appends_to(raft, "b") == []
    assert progress_of(raft, "b").in_flight_bytes == 0

    raft.tick(raft.deadline_ms - 1)
    raft.step("b", AppendReply(raft.term, 0, 2))

    assert [held.index for held in appends_to(raft, "b")[0].entries] == [3, 4]


def test_appends_without_an_ack_for_an_election_timeout_count_as_lost() -> None:
    """§5.5: the last append may be lost with nothing behind it to be refused."""
    raft = replicating()
    put(raft)
    settle(raft)
    resent = []

    for _ in range(6):
        time_out(raft)
        resent += [message for message in appends_to(raft, "b") if message.entries]
        raft.step("b", AppendReply(raft.term, 0, 2))
        raft.step("c", AppendReply(raft.term, 0, 3))
        if resent:
            break

    assert [held.index for held in resent[0].entries] == [3]
    assert raft.is_leader


def test_a_follower_that_answers_but_never_stores_is_asked_at_a_heartbeats_pace() -> None:
    """A slow disk must not be buried under repeated entries."""
    raft = leader(voters="abc")
    for _ in range(5):
        put(raft, 1000)
    settle(raft)
    raft.step("c", AppendReply(raft.term, 0, raft.log.last_index))
    sent = 0

    for _ in range(20):
        for _ in range(10):
            raft.step("b", AppendReply(raft.term, 0, 0))
            sent += len([message for message in appends_to(raft, "b") if message.entries])
        raft.step("c", AppendReply(raft.term, 0, raft.log.last_index))
        time_out(raft)

    assert sent <= 20


def test_nothing_but_heartbeats_goes_to_a_follower_that_is_gone() -> None:
    """§5.3: it retries indefinitely, with little."""
    raft = replicating()
    raft.on_peer_lost("b")
    for _ in range(20):
        put(raft, 1000)
        settle(raft)
        raft.step("c", AppendReply(raft.term, 0, raft.log.last_index))
        time_out(raft)

        assert [message.entries for message in appends_to(raft, "b")] == [()]


def test_an_idle_leader_says_no_more_than_its_heartbeats() -> None:
    """§5.2: during idle periods; a commit rides on the next append or heartbeat."""
    raft = replicating()
    put(raft)
    settle(raft)

    for peer in "bc":
        raft.step(peer, AppendReply(raft.term, 0, 3))

    assert only(settle(raft), AppendEntries) == []
    time_out(raft)
    assert [message.commit for message in only(settle(raft), AppendEntries)] == [3, 3]


def test_acks_free_the_window_in_whatever_order_they_come() -> None:
    """§5.5."""
    raft = replicating()
    for _ in range(3):
        put(raft)
        settle(raft)

    raft.step("b", AppendReply(raft.term, 0, 5))
    raft.step("b", AppendReply(raft.term, 0, 3))

    assert progress_of(raft, "b").in_flight_bytes == 0
    assert progress_of(raft, "b").next == 6


def test_a_flood_is_replicated_through_small_windows_over_a_bad_network() -> None:
    """Thesis §10.2, end to end: every fourth message is lost, and messages overtake each other."""
    for seed in range(5):
        cluster = Cluster("abc", seed=seed, append_bytes_max=300, inflight_bytes_max=600)
        cluster.elect("a")
        for number in range(60):
            if cluster["a"].is_leader:
                cluster.propose(b"%d" % number, to="a")
            for name in "abc":
                cluster.take(name)
                cluster.finish_writes(name)
            cluster.random.shuffle(cluster.network)
            del cluster.network[: len(cluster.network) // 4]
            while cluster.network:
                cluster.deliver()
            cluster.now_ms += 5
            for name in "abc":
                cluster[name].tick(cluster.now_ms)

        cluster.pass_time(1500)

        assert cluster.applied["a"] == cluster.applied["b"] == cluster.applied["c"], f"seed {seed}"
        assert len(cluster.applied["a"]) >= 60, f"seed {seed}"
