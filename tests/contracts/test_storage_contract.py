"""Does every storage keep the contract of storage/base.py? One suite over a directory on disk and one in memory."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from aegis_replication.errors import DiskFailed, WrongIdentity
from aegis_replication.log import (
    NOTHING,
    Entry,
    EntryId,
    HardState,
    Kind,
    LogWrite,
    RecoveredGroup,
    SnapshotMeta,
    make_entry,
)
from aegis_replication.storage.base import Identity, Storage
from aegis_replication.storage.directory import DirectoryStorage
from aegis_replication.storage.memory import MemoryStorage

IDENTITY = Identity("contract", "n1", 0x1234_5678_9ABC_DEF0)

Open = Callable[[], Storage]
"""Opens the same storage anew each time, as a node's restart does; the one before is closed first."""


@pytest.fixture(params=["directory", "memory"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterable[Open]:
    opened: list[Storage] = []
    memory = MemoryStorage(IDENTITY)

    def open_() -> Storage:
        if opened:
            opened[-1].close()
        if request.param == "memory":
            opened.append(memory)
        else:
            opened.append(DirectoryStorage.open(tmp_path / "data", IDENTITY, segment_bytes=128 * 1024))
        return opened[-1]

    yield open_
    if opened:
        opened[-1].close()


def entry(index: int, *, term: int = 1, group: int = 1, payload: bytes = b"payload") -> Entry:
    return make_entry(group, term, index, Kind.COMMANDS, payload, count=1, stamp=index << 16)


def entries(first: int, after: int, *, term: int = 1, group: int = 1) -> tuple[Entry, ...]:
    return tuple(entry(index, term=term, group=group) for index in range(first, after))


def meta(index: int, *, term: int = 1) -> SnapshotMeta:
    return SnapshotMeta(term, index, index << 16, b"configuration", 1)


def save(storage: Storage, group: int, snapshot: SnapshotMeta, pieces: Iterable[bytes] = (b"one", b"two")) -> int:
    writer = storage.snapshots.create(group, snapshot)
    for piece in pieces:
        writer.write(piece)
    return writer.finish()


def restarted(reopen: Open, group: int = 1) -> RecoveredGroup:
    return reopen().recover()[group]


# --- the log --------------------------------------------------------------------------------------------------------


def test_a_new_storage_holds_nothing(reopen: Open) -> None:
    storage = reopen()

    assert storage.recover() == {}
    assert storage.identity == IDENTITY


def test_what_was_written_comes_back_after_a_restart(reopen: Open) -> None:
    storage = reopen()
    storage.recover()

    storage.write([LogWrite(1, 1, hard_state=HardState(3, "n2"), entries=entries(1, 4, term=3))], durable=True)

    assert restarted(reopen) == RecoveredGroup(HardState(3, "n2"), NOTHING, list(entries(1, 4, term=3)))


def test_frames_come_back_byte_for_byte(reopen: Open) -> None:
    storage = reopen()
    storage.recover()
    written = [entry(index, payload=bytes([index]) * (index * 37)) for index in range(1, 30)]

    storage.write([LogWrite(1, 1, entries=tuple(written))], durable=True)

    assert [found.frame for found in restarted(reopen).entries] == [made.frame for made in written]


def test_groups_share_one_write_and_stay_apart(reopen: Open) -> None:
    storage = reopen()
    storage.recover()

    storage.write([LogWrite(g, 1, HardState(g), entries(1, 3, group=g)) for g in (0, 7, 4_294_967_295)], durable=True)

    found = reopen().recover()
    assert sorted(found) == [0, 7, 4_294_967_295]
    for group, recovered in found.items():
        assert recovered.hard_state == HardState(group)
        assert recovered.entries == list(entries(1, 3, group=group))


def test_an_entry_replaces_the_one_of_its_index_and_all_after(reopen: Open) -> None:
    storage = reopen()
    storage.recover()
    storage.write([LogWrite(1, 1, entries=entries(1, 6))], durable=True)

    storage.write([LogWrite(1, 2, entries=entries(3, 5, term=2))], durable=True)

    assert [found.id for found in restarted(reopen).entries] == [(1, 1), (1, 2), (2, 3), (2, 4)]


def test_two_writes_of_one_group_in_one_flush_apply_in_order(reopen: Open) -> None:
    storage = reopen()
    storage.recover()

    storage.write(
        [
            LogWrite(1, 1, HardState(1, "n1"), entries(1, 4)),
            LogWrite(1, 2, HardState(2, None), entries(2, 3, term=2)),
        ],
        durable=True,
    )

    recovered = restarted(reopen)
    assert recovered.hard_state == HardState(2, None)
    assert [found.id for found in recovered.entries] == [(1, 1), (2, 2)]


def test_a_gap_is_refused_as_a_bug(reopen: Open) -> None:
    storage = reopen()
    storage.recover()
    storage.write([LogWrite(1, 1, entries=entries(1, 3))], durable=True)

    with pytest.raises(AssertionError, match="hole"):
        storage.write([LogWrite(1, 2, entries=entries(4, 5))], durable=True)


def test_writes_flushed_later_come_back_too(reopen: Open) -> None:
    storage = reopen()
    storage.recover()

    storage.write([LogWrite(1, 1, entries=entries(1, 3))], durable=False)
    storage.write([LogWrite(1, 2, entries=entries(3, 5))], durable=False)
    storage.flush()

    assert len(restarted(reopen).entries) == 4


def test_a_restarted_storage_goes_on_where_it_was(reopen: Open) -> None:
    storage = reopen()
    for first in range(1, 40):
        storage.recover()
        storage.write([LogWrite(1, first, entries=entries(first, first + 1))], durable=True)
        storage = reopen()

    assert storage.recover()[1].entries == list(entries(1, 40))


def test_marks_and_housekeeping_change_nothing(reopen: Open) -> None:
    storage = reopen()
    storage.recover()
    for first in range(1, 400, 2):
        storage.write([LogWrite(1, first, entries=entries(first, first + 2))], durable=True)
        storage.mark()
        while storage.maintain():
            pass

    assert restarted(reopen).entries == list(entries(1, 401))


def test_after_a_failed_flush_elsewhere_everything_is_refused(reopen: Open) -> None:
    storage = reopen()
    storage.recover()

    storage.fail("no power")

    for call in (
        lambda: storage.write([LogWrite(1, 1)], durable=True),
        storage.flush,
        storage.mark,
        storage.maintain,
        storage.unflushed,
    ):
        with pytest.raises(DiskFailed, match="no power"):
            call()


# --- snapshots and the log's beginning ------------------------------------------------------------------------------


def test_a_snapshot_with_a_tail_keeps_the_entries_that_may_be_asked_for(reopen: Open) -> None:
    storage = reopen()
    storage.recover()
    storage.write([LogWrite(1, 1, entries=entries(1, 11))], durable=True)

    save(storage, 1, meta(8))
    storage.write([LogWrite(1, 2, snapshot=meta(8), forget_below=6)], durable=True)

    recovered = restarted(reopen)
    assert recovered.snapshot == meta(8)
    assert recovered.base == EntryId(1, 5)
    assert recovered.entries == list(entries(6, 11))


def test_a_snapshot_alone_is_where_the_log_begins(reopen: Open) -> None:
    storage = reopen()
    storage.recover()
    storage.write([LogWrite(1, 1, entries=entries(1, 11))], durable=True)

    save(storage, 1, meta(8))
    storage.write([LogWrite(1, 2, snapshot=meta(8))], durable=True)

    recovered = restarted(reopen)
    assert (recovered.base, recovered.snapshot) == (EntryId(1, 8), meta(8))
    assert recovered.entries == list(entries(9, 11))


def test_a_reset_leaves_nothing_of_the_old_log(reopen: Open) -> None:
    storage = reopen()
    storage.recover()
    storage.write([LogWrite(1, 1, HardState(2), entries(1, 31, term=2))], durable=True)

    save(storage, 1, meta(20, term=5))
    storage.write(
        [LogWrite(1, 2, HardState(5), entries(21, 22, term=5), snapshot=meta(20, term=5), reset=True)], durable=True
    )

    recovered = restarted(reopen)
    assert recovered == RecoveredGroup(HardState(5), EntryId(5, 20), list(entries(21, 22, term=5)), meta(20, term=5))


def test_a_snapshot_that_contradicts_the_log_leaves_nothing_of_it(reopen: Open) -> None:
    """Raft §7: only a log that holds the snapshot's last entry may keep what follows it."""
    storage = reopen()
    storage.recover()
    storage.write([LogWrite(1, 1, HardState(2), entries(1, 31, term=2))], durable=True)

    save(storage, 1, meta(20, term=5))
    storage.write([LogWrite(1, 2, HardState(5), snapshot=meta(20, term=5))], durable=True)

    assert restarted(reopen) == RecoveredGroup(HardState(5), EntryId(5, 20), [], meta(20, term=5))


def test_an_older_snapshot_changes_nothing(reopen: Open) -> None:
    storage = reopen()
    storage.recover()
    storage.write([LogWrite(1, 1, entries=entries(1, 11))], durable=True)
    save(storage, 1, meta(8))
    storage.write([LogWrite(1, 2, snapshot=meta(8))], durable=True)

    save(storage, 1, meta(4))
    storage.write([LogWrite(1, 3, snapshot=meta(4))], durable=True)

    recovered = restarted(reopen)
    assert (recovered.base, recovered.snapshot) == (EntryId(1, 8), meta(8))
    assert recovered.entries == list(entries(9, 11))


def test_a_named_snapshot_that_the_log_does_not_know_yet_is_taken_up(reopen: Open) -> None:
    storage = reopen()
    storage.recover()
    storage.write([LogWrite(1, 1, HardState(1, "n1"), entries(1, 11))], durable=True)
    save(storage, 1, meta(8))
    save(storage, 2, meta(50, term=6))

    found = reopen().recover()

    assert found[1] == RecoveredGroup(HardState(1, "n1"), EntryId(1, 8), list(entries(9, 11)), meta(8))
    assert found[2] == RecoveredGroup(HardState(6, None), EntryId(6, 50), [], meta(50, term=6))
    assert reopen().recover() == found


def test_a_snapshot_gives_back_its_pieces(reopen: Open) -> None:
    storage = reopen()
    storage.recover()
    pieces = [bytes([count % 251]) * (count * 1000 + 1) for count in range(50)]

    size = save(storage, 3, meta(9), pieces)

    for _ in range(2):
        assert list(storage.snapshots.chunks(3, meta(9).id)) == pieces
        assert storage.snapshots.newest(3) == meta(9)
        assert storage.snapshots.read(3, meta(9).id, 0, 1)[1] == size
        storage = reopen()
        storage.recover()


def test_only_the_newest_snapshot_is_kept(reopen: Open) -> None:
    storage = reopen()
    storage.recover()

    for index in (3, 9, 27):
        save(storage, 1, meta(index))

    assert storage.snapshots.newest(1) == meta(27)
    assert storage.snapshots.read(1, meta(9).id, 0, 100) == (b"", 0)


def test_an_aborted_snapshot_leaves_no_trace(reopen: Open) -> None:
    storage = reopen()
    storage.recover()

    writer = storage.snapshots.create(1, meta(5))
    writer.write(b"half")
    writer.abort()

    assert storage.snapshots.newest(1) is None
    assert storage.stats().live_bytes == 0


@pytest.mark.parametrize("chunk_bytes", [1, 7, 100, 1 << 20])
def test_a_snapshot_travels_in_raw_chunks(reopen: Open, chunk_bytes: int) -> None:
    source = MemoryStorage(Identity("contract", "n2", 99))
    pieces = [b"state of", b" another node"]
    total = save(source, 1, meta(9), pieces)
    target = reopen()
    target.recover()

    offset = 0
    while offset < total:
        data, found_total = source.snapshots.read(1, meta(9).id, offset, chunk_bytes)
        assert found_total == total
        wanted = target.snapshots.receive(1, meta(9), offset, total, data)
        assert wanted == offset + len(data)
        offset = wanted
    assert target.snapshots.newest(1) is None
    target.snapshots.keep_received(1)

    assert target.snapshots.newest(1) == meta(9)
    assert list(target.snapshots.chunks(1, meta(9).id)) == pieces


def sent_snapshot(pieces: tuple[bytes, ...] = (b"state" * 100, b"of", b"several pieces" * 20)) -> bytes:
    """A whole snapshot file, as a peer sends it."""
    source = MemoryStorage(Identity("contract", "n2", 99))
    total = save(source, 1, meta(9), list(pieces))
    return source.snapshots.read(1, meta(9).id, 0, total)[0]


@pytest.mark.parametrize("chunk_bytes", [40, 10_000])
def test_a_damaged_chunk_is_found_and_only_what_lies_behind_the_last_good_piece_is_wanted_again(
    reopen: Open, chunk_bytes: int
) -> None:
    data = sent_snapshot()
    target = reopen()
    target.recover()
    take = target.snapshots.receive

    for at in range(0, len(data), 13):
        flipped = data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]
        wanted, before = 0, -1
        while before < wanted < len(data):
            before, wanted = wanted, take(1, meta(9), wanted, len(data), flipped[wanted : wanted + chunk_bytes])
        assert wanted <= at, f"byte {at} is damaged, {wanted} is wanted"
        while wanted < len(data):
            wanted = take(1, meta(9), wanted, len(data), data[wanted : wanted + chunk_bytes])
        target.snapshots.keep_received(1)
        assert list(target.snapshots.chunks(1, meta(9).id)) == [b"state" * 100, b"of", b"several pieces" * 20]


def test_a_chunk_out_of_order_is_answered_with_the_offset_wanted(reopen: Open) -> None:
    data = sent_snapshot()
    total = len(data)
    target = reopen()
    target.recover()

    assert target.snapshots.receive(1, meta(9), 10, total, data[10:]) == 0
    assert target.snapshots.receive(1, meta(9), 0, total, data[:20]) == 20
    assert target.snapshots.receive(1, meta(9), 30, total, data[30:]) == 20
    assert target.snapshots.receive(1, meta(9), 20, total, data[20:] + b"more") == 20
    assert target.snapshots.receive(1, meta(9), 0, total, data[:5]) == 20, "what is there stays"
    assert target.snapshots.receive(1, meta(9), 20, total, data[20:]) == total


def test_bytes_of_another_snapshot_are_never_added(reopen: Open) -> None:
    """Not at the offset that is wanted, and not although both are whole: the one that begins anew counts."""
    data = sent_snapshot()
    total = len(data)
    target = reopen()
    target.recover()
    target.snapshots.receive(1, meta(9), 0, total, data[:20])

    assert target.snapshots.receive(1, meta(10), 20, total, data[20:]) == 0
    assert target.snapshots.receive(1, meta(9), 20, total + 1, data[20:]) == 0
    assert target.snapshots.receive(1, meta(10), 0, total, data) == 0, "its head says that it is another one"
    assert target.snapshots.newest(1) is None


@pytest.mark.parametrize("sent_bytes", [1, 60, 530, 570, 880, 895])
def test_after_a_restart_a_transfer_goes_on_behind_the_last_whole_piece(reopen: Open, sent_bytes: int) -> None:
    data = sent_snapshot()
    total = len(data)
    target = reopen()
    target.recover()
    target.snapshots.receive(1, meta(9), 0, total, data[:sent_bytes])

    target = reopen()
    target.recover()
    assert target.snapshots.can_resume(1, meta(9))
    assert not target.snapshots.can_resume(2, meta(9))
    assert not target.snapshots.can_resume(1, meta(10))
    target.snapshots.resume(1, meta(9), total)
    wanted = target.snapshots.receive(1, meta(9), 0, total, data[:1])

    first = data.index(b"state" * 100)
    ends = [end for end in (0, first - 8, first + 500, first + 500 + 10, total - 32, total) if end <= sent_bytes]
    assert wanted == (ends[-1] or 1), f"whole were {ends}, and now one byte more came if that is 0"
    assert target.snapshots.receive(1, meta(9), wanted, total, data[wanted:]) == total
    target.snapshots.keep_received(1)
    assert list(target.snapshots.chunks(1, meta(9).id)) == [b"state" * 100, b"of", b"several pieces" * 20]


def test_what_came_before_a_restart_gives_way_to_another_snapshot(reopen: Open) -> None:
    data = sent_snapshot()
    target = reopen()
    target.recover()
    target.snapshots.receive(1, meta(9), 0, len(data), data[:600])
    target = reopen()
    target.recover()

    save(target, 1, meta(12))

    assert not target.snapshots.can_resume(1, meta(9))
    assert list(target.snapshots.chunks(1, meta(12).id)) == [b"one", b"two"]


def test_two_snapshots_of_one_name_never_become_one(reopen: Open) -> None:
    """Two leaders may have written the state at one index in different pieces: each of a mixture's pieces is good."""
    one = sent_snapshot((b"a" * 400, b"b" * 400, b"c" * 400))
    other = sent_snapshot((b"d" * 400, b"e" * 400, b"f" * 400))
    boundless = sent_snapshot((b"g" * 300, b"h" * 500, b"i" * 400))
    total = len(one)
    assert len(other) == len(boundless) == total
    target = reopen()
    target.recover()

    for second in (other, boundless):
        wanted = target.snapshots.receive(1, meta(9), 0, total, one[:700])
        answers = [wanted]
        while wanted < total and len(answers) < 10:
            wanted = target.snapshots.receive(1, meta(9), wanted, total, second[wanted:])
            answers.append(wanted)
        target.snapshots.keep_received(1)

        assert 0 in answers, f"{answers}: it is begun anew"
        pieces = b"".join(target.snapshots.chunks(1, meta(9).id))
        assert pieces in (b"d" * 400 + b"e" * 400 + b"f" * 400, b"g" * 300 + b"h" * 500 + b"i" * 400)


def test_a_snapshot_of_another_group_or_cluster_is_refused_by_name(reopen: Open) -> None:
    data = sent_snapshot()
    stranger = MemoryStorage(Identity("elsewhere", "n2", 99))
    total = save(stranger, 1, meta(9))
    foreign = stranger.snapshots.read(1, meta(9).id, 0, total)[0]
    target = reopen()
    target.recover()

    with pytest.raises(WrongIdentity, match=r"holds group 1, not group 2: nothing was taken from it"):
        target.snapshots.receive(2, meta(9), 0, len(data), data)
    with pytest.raises(WrongIdentity, match=r"is of cluster 'elsewhere', this directory of cluster 'contract'"):
        target.snapshots.receive(1, meta(9), 0, total, foreign)

    assert target.snapshots.receive(1, meta(9), 0, len(data), data) == len(data)


def test_status_counts_what_is_needed(reopen: Open) -> None:
    storage = reopen()
    storage.recover()
    storage.write([LogWrite(1, 1, entries=entries(1, 101))], durable=True)
    before = storage.stats()

    size = save(storage, 1, meta(100))
    storage.write([LogWrite(1, 2, snapshot=meta(100))], durable=True)

    after = storage.stats()
    assert before.live_bytes >= sum(len(made.frame) for made in entries(1, 101))
    assert after.live_bytes - size < before.live_bytes / 10
    assert after.allocated_bytes >= after.live_bytes
