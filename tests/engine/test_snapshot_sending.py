"""Does a snapshot get to its followers within the window, at the pace allowed, and on from where it broke?"""

from aegis_replication.consensus.messages import SnapshotReply
from aegis_replication.engine.events import ChunkRead
from aegis_replication.engine.snapshot_sending import WINDOW_CHUNKS, Pace, SnapshotSending
from aegis_replication.log import SnapshotMeta

META = SnapshotMeta(2, 20, 0, b"", 1)
CHUNK, TOTAL = 100, 1000


def sending(bytes_per_second: int = 0) -> SnapshotSending:
    made = SnapshotSending(1, Pace(bytes_per_second), CHUNK)
    made.begin("b", META, 0.0)
    return made


def send(some: SnapshotSending, now_ms: float = 0.0) -> list[int]:
    """Read and send all that may leave now; the offsets."""
    sent: list[int] = []
    while reads := some.reads(now_ms):
        for read in reads:
            data = bytes(min(read.size_bytes, TOTAL - read.offset))
            if some.on_read(ChunkRead(1, read.target, read.meta, read.offset, TOTAL, data), now_ms):
                sent.append(read.offset)
    return sent


def take(some: SnapshotSending, offset: int, meta: SnapshotMeta = META) -> None:
    some.on_reply("b", SnapshotReply(3, META.id, offset), meta, 0.0)


def test_the_first_chunk_asks_and_then_a_window_is_under_way() -> None:
    some = sending()

    first = send(some)
    take(some, 100)
    then = send(some)

    assert first == [0]
    assert then == [100, 200, 300, 400]
    assert some.in_flight_bytes("b") == WINDOW_CHUNKS * CHUNK
    take(some, 200)
    assert send(some) == [500], "an answer opens the window by one"


def test_a_transfer_begun_anew_goes_on_where_the_follower_stands() -> None:
    some = sending()
    send(some)

    take(some, 700)

    assert send(some) == [700, 800, 900]


def test_a_lost_chunk_is_sent_again_once_and_not_for_each_answer() -> None:
    some = sending()
    send(some)
    take(some, 100)
    send(some)

    take(some, 100)  # the chunk at 200 came and didn't fit
    again = send(some)
    take(some, 100)
    take(some, 100)

    assert again == [100, 200, 300, 400]
    assert send(some) == []


def test_a_follower_that_keeps_falling_back_is_left_alone_until_it_is_asked_anew() -> None:
    some = sending()
    send(some)
    take(some, 500)
    send(some)

    counts = []
    for offset in (400, 300, 200, 100, 0):
        take(some, offset)
        counts.append(len(send(some)))

    assert counts == [4, 4, 4, 0, 0]


def test_a_newer_snapshot_takes_the_place_of_one_under_way() -> None:
    some = sending()
    send(some)
    newer = SnapshotMeta(2, 40, 0, b"", 1)

    take(some, 100, newer)

    assert some.targets() == {"b": newer}
    assert [read.offset for read in some.reads(0.0)] == [0]


def test_the_pace_is_kept_and_shared_in_turn() -> None:
    pace = Pace(10_000)  # a chunk takes 10 ms
    some = SnapshotSending(1, pace, 100)
    for target in "bc":
        some.begin(target, META, 1000.0)
    sent: list[tuple[float, str]] = []

    for now in range(1000, 2000):
        for read in some.reads(float(now)):
            some.on_read(ChunkRead(1, read.target, META, read.offset, 10**6, bytes(read.size_bytes)), now)
            some.on_reply(read.target, SnapshotReply(3, META.id, read.offset + read.size_bytes), META, now)
            sent.append((now, read.target))

    assert 100 <= len(sent) <= 107
    assert abs(sum(target == "b" for _, target in sent) - len(sent) / 2) <= 1
    assert some.due_ms > 1999


def test_a_snapshot_that_is_gone_is_not_asked_for_again_and_again() -> None:
    some = sending()
    some.reads(0.0)

    assert not some.on_read(ChunkRead(1, "b", META, 0, 0, b""), 0.0)

    assert not some.is_busy
    assert some.reads(0.0) == []
