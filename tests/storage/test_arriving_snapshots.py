"""What if a node dies, or finds no room, while a peer's snapshot comes in? It goes on with what is good, or anew."""

import errno
from typing import Any

import pytest
from storage_lab import Lab

from aegis_replication.errors import DiskFailed, DiskFull
from aegis_replication.log import EntryId
from aegis_replication.simulation.disk import Losing, PowerCut
from aegis_replication.storage.files import Files
from aegis_replication.storage.memory import MemoryFiles

PIECES = [bytes([65 + count]) * 3_000 for count in range(20)]
CHUNK_BYTES = 2_500


def sent() -> bytes:
    source = Lab(memory=MemoryFiles())
    source.start()
    source.save(9, pieces=PIECES)
    return source.read(f"{source.path}/snapshots/1-1-9.snap")


def take(lab: Lab, data: bytes, wanted: int = 0, *, until: int = 1 << 30, flush: bool = False) -> int:
    """Have chunks received one after another, as a host does; how far it got."""
    snapshots = lab.storage.snapshots
    if snapshots.can_resume(1, lab.meta(9)):
        snapshots.resume(1, lab.meta(9), len(data))
        wanted = snapshots.receive(1, lab.meta(9), 0, len(data), data[:1])
    while wanted < min(until, len(data)):
        wanted = snapshots.receive(1, lab.meta(9), wanted, len(data), data[wanted : wanted + CHUNK_BYTES])
        if flush:
            snapshots.flush_received(1)
    if wanted == len(data):
        snapshots.keep_received(1)
    return wanted


def pieces_of(lab: Lab) -> list[bytes]:
    return list(lab.storage.snapshots.chunks(1, EntryId(1, 9)))


@pytest.mark.parametrize("losing", ["nothing", "some", "unsynced"])
def test_a_power_cut_in_any_call_leaves_a_part_that_can_be_gone_on_with(losing: Losing) -> None:
    data = sent()
    resumed = 0
    for cut_at in range(1, 200):
        lab = Lab(cut_at)
        lab.start()
        lab.disk.cut_at = lab.disk.calls + cut_at
        try:
            take(lab, data, flush=True)
        except PowerCut:
            pass
        else:
            assert cut_at > 20, "no call was cut"
            assert resumed > 10, f"only {resumed} transfers went on where they were"
            return
        lab.lose_power(losing)

        found = lab.start()
        if 1 not in found:
            can_resume = lab.storage.snapshots.can_resume(1, lab.meta(9))
            assert take(lab, data) == len(data), f"cut in call {cut_at}"
            resumed += can_resume
        assert pieces_of(lab) == PIECES, f"cut in call {cut_at}"
    raise AssertionError("the snapshot is never whole")


def test_what_was_flushed_before_a_power_cut_is_not_sent_again() -> None:
    data = sent()
    lab = Lab()
    lab.start()
    got = take(lab, data, until=30_000, flush=True)
    lab.lose_power("unsynced")
    lab.start()

    lab.storage.snapshots.resume(1, lab.meta(9), len(data))
    wanted = lab.storage.snapshots.receive(1, lab.meta(9), 0, len(data), data[:1])

    assert got - 3_008 < wanted <= got, f"{got} bytes were flushed, {wanted} is wanted"


def test_bits_that_turned_meanwhile_are_sent_again(lab: Lab) -> None:
    data = sent()
    lab.start()
    take(lab, data, until=30_000, flush=True)
    lab.disk.kill()
    lab.start()
    lab.overwrite(f"{lab.path}/snapshots/1-1-9.part", 10_000, b"turned")

    lab.storage.snapshots.resume(1, lab.meta(9), len(data))
    wanted = lab.storage.snapshots.receive(1, lab.meta(9), 0, len(data), data[:1])
    take(lab, data, wanted)

    assert 6_000 < wanted <= 10_000, f"{wanted} is wanted"
    assert pieces_of(lab) == PIECES


class _Full:
    """Files without room for more, once told so."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.refused = ("", errno.ENOSPC)

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._files, name)
        if name != self.refused[0]:
            return call

        def refuse(*arguments: Any, **options: Any) -> Any:
            raise OSError(self.refused[1], "refused")

        return refuse


@pytest.mark.parametrize("call", ["open", "pwritev", "sync", "rename"])
@pytest.mark.parametrize(
    ("number", "raised"), [(errno.ENOSPC, DiskFull), (errno.EDQUOT, DiskFull), (errno.EIO, DiskFailed)]
)
def test_a_snapshot_that_finds_no_room_leaves_nothing_and_the_log_lives(
    call: str, number: int, raised: type[Exception]
) -> None:
    data = sent()
    wrapped: list[_Full] = []

    def wrap(files: Files) -> Files:
        wrapped.append(_Full(files))
        return wrapped[-1]  # type: ignore[return-value]

    lab = Lab(wrap=wrap)
    lab.start()
    lab.write(lab.append(1, 4))
    wanted = 0 if call == "open" else take(lab, data, until=20_000)

    wrapped[0].refused = (call, number)
    with pytest.raises(raised, match=r"snapshots.*snapshot can't be kept"):
        take(lab, data, wanted, flush=True)
    wrapped[0].refused = ("", 0)

    assert lab.disk.list(f"{lab.path}/snapshots") == []
    lab.write(lab.append(4, 6))
    assert take(lab, data) == len(data), "with room it is begun anew"
    assert pieces_of(lab) == PIECES
