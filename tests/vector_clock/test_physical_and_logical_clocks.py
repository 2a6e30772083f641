"""Do Lamport and hybrid clocks follow cause and effect, within their bounds, and across a restart?"""

import random

import pytest

from aegis_replication.errors import ClockSkewError, InvalidArgument, UndecodableBytes
from aegis_replication.vector_clock import (
    HybridClock,
    HybridLogicalClock,
    HybridTimestamp,
    LamportClock,
    LamportTimestamp,
)


def test_a_lamport_receive_is_above_both() -> None:
    clock = LamportClock("a", 3)

    stamps = [clock.tick(), clock.receive(LamportTimestamp(10, "b")), clock.receive(2)]
    clock.merge(20)

    assert [stamp.time for stamp in stamps] == [4, 11, 12]
    assert clock.value == 20
    assert LamportTimestamp(4, "a") < LamportTimestamp(4, "b") < LamportTimestamp(5, "a")
    assert LamportClock.from_bytes(clock.to_bytes()) == LamportClock.from_json(clock.to_json()) == clock


def test_a_lamport_clock_refuses_what_is_no_time() -> None:
    with pytest.raises(InvalidArgument):
        LamportClock("a", -1)
    with pytest.raises(InvalidArgument):
        LamportClock("a").receive(-1)
    with pytest.raises(UndecodableBytes):
        LamportClock.from_json('["a"]')


@pytest.mark.parametrize("seed", range(20))
def test_lamport_and_hybrid_stamps_rise_along_every_message(seed: int) -> None:
    """Kulkarni et al., Theorem 1: e happened before f implies hlc(e) < hlc(f); |l - pt| within the bound."""
    rng = random.Random(seed)
    skew_ms = {name: rng.randint(-100, 100) for name in "abc"}
    hybrid = {name: HybridLogicalClock(name, max_offset_ms=250) for name in "abc"}
    lamport = {name: LamportClock(name) for name in "abc"}
    wall_ms = 1_000
    last: dict[str, tuple[HybridTimestamp, LamportTimestamp]] = {}
    sent: list[tuple[HybridTimestamp, LamportTimestamp]] = []

    for step in range(300):
        wall_ms += rng.choice([0, 0, 0, 1, 5])
        name = rng.choice("abc")
        now_ms = wall_ms + skew_ms[name]
        causes = [last[name]] if name in last else []
        if sent and rng.random() < 0.5:
            message = rng.choice(sent)
            causes.append(message)
            stamps = hybrid[name].update(message[0], now_ms), lamport[name].receive(message[1])
        else:
            stamps = hybrid[name].now(now_ms), lamport[name].tick()
            sent.append(stamps)
        assert all(cause[0] < stamps[0] and cause[1] < stamps[1] for cause in causes), f"seed {seed}, step {step}"
        assert abs(stamps[0].physical_ms - now_ms) <= 250, f"seed {seed}, step {step}"
        last[name] = stamps


def test_a_remote_stamp_beyond_the_bound_is_refused_and_not_absorbed() -> None:
    clock = HybridLogicalClock("a", max_offset_ms=250)
    before = clock.now(1_000)

    with pytest.raises(ClockSkewError) as error:
        clock.update(HybridTimestamp(1_251, 0, "b"), 1_000)
    accepted = clock.update(HybridTimestamp(1_250, 0, "b"), 1_000)

    assert (error.value.ahead_ms, error.value.max_offset_ms) == (251, 250)
    assert before < accepted == HybridTimestamp(1_250, 1, "a")
    assert clock.offset_ms(1_000) == 250


def test_a_clock_whose_wall_clock_fell_back_beyond_the_bound_refuses_to_stamp() -> None:
    clock = HybridLogicalClock("a", max_offset_ms=250)
    clock.now(10_000)

    with pytest.raises(ClockSkewError, match="its own past"):
        clock.now(9_000)

    assert clock.now(9_750) == HybridTimestamp(10_000, 1, "a")


def test_a_full_counter_moves_to_the_next_millisecond() -> None:
    clock = HybridLogicalClock("a")
    clock.update(HybridTimestamp(1_000, 2**16 - 1, "b"), 900)

    stamp = clock.now(900)

    assert stamp == HybridTimestamp(1_001, 1, "a")
    assert clock.read() == stamp


def test_stamps_stay_below_the_persisted_bound_and_above_it_after_a_restart() -> None:
    persisted: list[int] = []
    clock = HybridLogicalClock("a", persist=persisted.append, persist_step_ms=100)

    stamps = [clock.now(1_000 + step) for step in range(250)]
    restarted = HybridLogicalClock("a", resume_after_ms=persisted[-1], persist=persisted.append)
    after = restarted.now(1_200)  # the wall clock fell back a little meanwhile

    assert persisted[:3] == [1_099, 1_199, 1_299]
    assert all(stamp.physical_ms <= 1_299 for stamp in stamps)
    assert after > stamps[-1]
    assert after.physical_ms > 1_299
    assert restarted.upper_bound_ms == persisted[-1] >= after.physical_ms


def test_no_stamp_is_given_when_the_bound_could_not_be_persisted() -> None:
    def refuse(bound_ms: int) -> None:
        raise OSError("disk full")

    clock = HybridLogicalClock("a", persist=refuse)

    with pytest.raises(OSError, match="disk full"):
        clock.now(1_000)

    assert clock.read().physical_ms == 0


def test_a_hybrid_stamp_packs_into_64_bits_that_sort_as_it() -> None:
    stamps = [
        HybridTimestamp(1, 65535),
        HybridTimestamp(2, 0),
        HybridTimestamp(2, 1),
        HybridTimestamp(2**48 - 1, 65535),
    ]

    packed = [stamp.pack() for stamp in stamps]

    assert packed == sorted(packed)
    assert packed[-1] == 2**64 - 1
    assert [HybridTimestamp.unpack(number) for number in packed[:3]] == stamps[:3]
    assert (
        HybridTimestamp.from_bytes(stamps[1].to_bytes()) == HybridTimestamp.from_json(stamps[1].to_json()) == stamps[1]
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: HybridTimestamp(-1),
        lambda: HybridTimestamp(2**48),
        lambda: HybridTimestamp(1, 2**16),
        lambda: HybridLogicalClock("a", max_offset_ms=0),
        lambda: HybridLogicalClock("a", max_offset_ms=50, persist_step_ms=100),
        lambda: HybridLogicalClock("a").now(-1),
        lambda: HybridLogicalClock(""),
        lambda: HybridTimestamp.from_json('[1,2,"a",4]'),
        lambda: HybridTimestamp.from_json("[1,2,3]"),
    ],
)
def test_values_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(InvalidArgument):
        make()  # type: ignore[operator]


def test_the_original_name_is_an_alias() -> None:
    assert HybridClock is HybridLogicalClock
