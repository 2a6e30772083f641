"""Is a snapshot complete when it is named, found damaged when it is, and never the reason that state is lost?"""

from collections.abc import Callable, Iterator

import pytest
from storage_lab import Lab, copy_of, forgotten

from aegis_replication.errors import CorruptRecord, IncompatibleVersion, LimitExceeded, StorageError
from aegis_replication.log import EntryId, LogWrite
from aegis_replication.simulation.disk import PowerCut
from aegis_replication.storage import snapshot_format, snapshots
from aegis_replication.storage.memory import MemoryFiles
from aegis_replication.storage.snapshot_format import CHECKSUM, HEAD, seal

PIECES = [b"piece %d;" % count * (count + 1) for count in range(12)]


def with_snapshot(index: int = 9) -> Lab:
    lab = Lab(memory=MemoryFiles())
    lab.start()
    lab.write(lab.append(1, 12))
    lab.write(LogWrite(1, 2, snapshot=lab.save(index, pieces=PIECES)))
    return lab


def path_of(lab: Lab, name: str = "1-1-9.snap") -> str:
    return f"{lab.path}/snapshots/{name}"


def test_every_flipped_byte_of_a_snapshot_is_found() -> None:
    lab = with_snapshot()
    path, size = path_of(lab), len(lab.files._files[path_of(lab)])
    lab.storage.close()

    for at in range(size):
        damaged = copy_of(lab.files)
        damaged._files[path][at] ^= 16
        node = Lab(memory=damaged)
        with pytest.raises((CorruptRecord, IncompatibleVersion)) as caught:
            read_all(node)
        assert path in str(caught.value), f"byte {at}"


def read_all(node: Lab) -> None:
    node.start()
    list(node.storage.snapshots.chunks(1, EntryId(1, 9)))


def test_a_snapshot_of_a_later_format_is_refused_whatever_formats_directories_have() -> None:
    lab = with_snapshot()
    path, later = path_of(lab), snapshot_format.FORMAT_VERSION + 1
    lab.storage.close()
    whole = bytes(lab.files._files[path])
    head_bytes = HEAD.size + HEAD.unpack_from(whole)[-1]
    changed = bytearray(whole[:head_bytes])
    changed[8:10] = later.to_bytes(2, "little")
    lab.files._files[path][: head_bytes + CHECKSUM.size] = seal(bytes(changed))

    with pytest.raises(IncompatibleVersion, match=f"has format {later}, this program knows 1 to {later - 1}"):
        Lab(memory=lab.files).start()

    receiver = Lab(memory=MemoryFiles())
    receiver.start()
    data = bytes(lab.files._files[path])
    assert receiver.storage.snapshots.receive(1, lab.meta(9), 0, len(data), data) == 0


def test_every_shortened_snapshot_is_found_at_the_start() -> None:
    lab = with_snapshot()
    path, whole = path_of(lab), bytes(lab.files._files[path_of(lab)])
    lab.storage.close()

    for size in range(len(whole)):
        damaged = copy_of(lab.files)
        damaged._files[path] = bytearray(whole[:size])
        with pytest.raises(CorruptRecord, match=r"1-1-9\.snap"):
            Lab(memory=damaged).start()


def test_swapped_pieces_are_found() -> None:
    lab = Lab(memory=MemoryFiles())
    lab.start()
    lab.save(9, pieces=[b"aaaa", b"bbbb"])
    content = lab.files._files[path_of(lab)]
    first = content.index(b"aaaa") - 8
    content[first : first + 24] = content[first + 12 : first + 24] + content[first : first + 12]

    with pytest.raises(CorruptRecord, match="2 pieces"):
        list(lab.storage.snapshots.chunks(1, EntryId(1, 9)))


def test_a_snapshot_that_the_log_needs_and_that_is_gone_is_named() -> None:
    lab = with_snapshot()
    lab.storage.close()
    lab.files.unlink(path_of(lab))

    with pytest.raises(CorruptRecord, match=r"1-1-9\.snap.*the snapshot of group 1 before entry 10"):
        lab.start()


def test_a_snapshot_that_is_gone_is_not_missed_where_the_log_still_reaches_back() -> None:
    lab = Lab(memory=MemoryFiles())
    lab.start()
    lab.write(lab.append(1, 12))
    lab.write(LogWrite(1, 2, snapshot=lab.save(9), forget_below=1))
    lab.storage.close()
    lab.files.unlink(path_of(lab))

    found = lab.start()[1]

    assert (found.snapshot, found.entries) == (None, list(lab.entries(1, 12)))
    lab.write(forgotten(lab, 5))
    assert lab.restart()[1].snapshot == lab.meta(5)


def test_leftovers_of_a_crash_are_removed_and_strange_files_are_not(lab: Lab) -> None:
    lab.start()
    lab.save(3)
    half = lab.storage.snapshots.create(1, lab.meta(5))
    half.write(b"half")
    lab.storage.snapshots.receive(2, lab.meta(7), 0, 1000, b"half")
    directory = f"{lab.path}/snapshots"
    lab.disk.close(lab.disk.open(f"{directory}/notes.txt", "create"))
    assert len(lab.disk.list(directory)) == 4

    lab.disk.kill()
    lab.start()

    assert lab.disk.list(directory) == ["1-1-3.snap", "2-1-7.part", "notes.txt"], "what a peer sent is gone on with"


def test_an_older_snapshot_that_a_crash_left_is_removed(lab: Lab) -> None:
    lab.start()
    lab.save(3)
    unlink, lab.storage.snapshots._drop_older = lab.storage.snapshots._drop_older, lambda *_: None  # type: ignore[method-assign]
    lab.save(8)
    assert unlink is not None
    lab.disk.kill()

    found = lab.start()

    assert found[1].snapshot == lab.meta(8)
    assert lab.disk.list(f"{lab.path}/snapshots") == ["1-1-8.snap"]


def test_a_power_cut_in_any_call_leaves_the_old_snapshot_or_the_new_one() -> None:
    for cut_at in range(1, 100):
        lab = Lab(cut_at)
        lab.start()
        lab.write(lab.append(1, 12))
        lab.write(LogWrite(1, 2, snapshot=lab.save(4, pieces=PIECES)))
        lab.disk.cut_at = lab.disk.calls + cut_at
        named = False
        try:
            lab.save(9, pieces=PIECES[::-1])
            named = True
            lab.write(LogWrite(1, 3, snapshot=lab.meta(9)))
        except PowerCut:
            pass
        else:
            assert cut_at > 10, "no call was cut"
            return
        lab.lose_power("some")

        found = lab.start()[1]

        assert found.snapshot == lab.meta(9) or (found.snapshot == lab.meta(4) and not named), f"cut in call {cut_at}"
        pieces = list(lab.storage.snapshots.chunks(1, found.snapshot.id))
        assert pieces == (PIECES[::-1] if found.snapshot == lab.meta(9) else PIECES)
        assert found.entries == list(lab.entries(found.snapshot.index + 1, 12))
    raise AssertionError("the snapshot is never finished")


def test_mutant_the_name_comes_before_the_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots._Appending, "sync", lambda self: None)

    with pytest.raises((AssertionError, CorruptRecord)):
        test_a_power_cut_in_any_call_leaves_the_old_snapshot_or_the_new_one()


def test_a_large_snapshot_is_flushed_piece_by_piece(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flushes come in between, not all at the end, so that none takes long."""
    lab.start()
    flushes: list[int] = []
    sync = snapshots._Appending.sync
    monkeypatch.setattr(
        snapshots._Appending, "sync", lambda self: (flushes.append(self.size - self._synced), sync(self))
    )

    def pieces() -> Iterator[bytes]:
        for count in range(40):
            yield bytes([count]) * 1_000_000

    lab.save(9, pieces=list(pieces()))

    assert len(flushes) >= 4
    assert max(flushes) < 10_000_000
    assert all(
        piece == wanted for piece, wanted in zip(lab.storage.snapshots.chunks(1, EntryId(1, 9)), pieces(), strict=True)
    )


def test_a_piece_beyond_the_limit_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "PIECE_BYTES_MAX", 100)
    lab.start()
    writer = lab.storage.snapshots.create(1, lab.meta(5))

    writer.write(bytes(100))
    with pytest.raises(LimitExceeded, match="101 bytes, the limit is 100"):
        writer.write(bytes(101))


def test_a_snapshot_that_a_newer_one_replaced_says_so(lab: Lab) -> None:
    lab.start()
    lab.save(3)
    lab.save(9)

    with pytest.raises(StorageError, match="a newer one has taken its place"):
        list(lab.storage.snapshots.chunks(1, EntryId(1, 3)))


def test_two_snapshots_at_once_and_one_coming_in_do_not_meet(lab: Lab) -> None:
    source = with_snapshot()
    total = source.storage.snapshots.read(1, EntryId(1, 9), 0, 1)[1]
    data = source.storage.snapshots.read(1, EntryId(1, 9), 0, total)[0]
    lab.start()
    one, two = lab.storage.snapshots.create(1, lab.meta(9)), lab.storage.snapshots.create(2, lab.meta(9))

    one.write(b"one")
    lab.storage.snapshots.receive(1, lab.meta(9), 0, total, data[:50])
    two.write(b"two")
    one.finish()
    two.finish()
    assert list(lab.storage.snapshots.chunks(1, EntryId(1, 9))) == [b"one"]
    assert lab.storage.snapshots.receive(1, lab.meta(9), 50, total, data[50:]) == total
    lab.storage.snapshots.keep_received(1)

    assert list(lab.storage.snapshots.chunks(1, EntryId(1, 9))) == PIECES
    assert list(lab.storage.snapshots.chunks(2, EntryId(1, 9))) == [b"two"]


def test_a_snapshot_says_nothing_of_the_node_that_wrote_it() -> None:
    made: list[bytes] = []
    for incarnation in (1, 2):
        lab = Lab(memory=MemoryFiles())
        lab.identity = lab.identity.__class__("c", f"n{incarnation}", incarnation)
        lab.start()
        lab.save(9, pieces=PIECES)
        made.append(lab.read(path_of(lab)))

    assert made[0] == made[1]


@pytest.mark.parametrize("total", [0, 1, 60])
def test_a_peers_nonsense_is_refused_without_harm(lab: Lab, total: int) -> None:
    lab.start()

    receive: Callable[..., int] = lab.storage.snapshots.receive
    assert receive(1, lab.meta(9), 0, total, b"x" * total) == 0
    assert receive(1, lab.meta(9), total, total, b"") == 0

    assert lab.storage.snapshots.newest(1) is None
    assert lab.disk.list(f"{lab.path}/snapshots") == []
