"""Is everything acknowledged there, and nothing invented, after a power cut in any call that changes the disk?"""

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest
from storage_lab import Lab

from aegis_replication.errors import DiskFull
from aegis_replication.ids import GroupId, LogIndex
from aegis_replication.log import NOTHING, Entry, HardState, LogWrite, RecoveredGroup, SnapshotMeta
from aegis_replication.simulation.disk import Losing, PowerCut
from aegis_replication.storage.files import Files
from aegis_replication.storage.recycling import Recycler
from aegis_replication.storage.segments import SegmentFiles
from aegis_replication.storage.wal import Wal

State = dict[GroupId, RecoveredGroup]


class Model:
    """What the disk may hold: a state for each record written since the last acknowledgement, and that one's."""

    def __init__(self) -> None:
        self.states: list[State] = [{}]
        self.named: dict[GroupId, list[SnapshotMeta]] = {}

    @property
    def last(self) -> State:
        return self.states[-1]

    def acknowledge(self) -> None:
        """All written so far was flushed."""
        del self.states[:-1]

    def write(self, write: LogWrite) -> None:
        """The states in between too: a torn write leaves a prefix of its records."""
        group = write.group
        if write.snapshot is not None:
            self._change(group, lambda of: adopt(of, write.snapshot, reset=write.reset, keep_from=write.forget_below))
        if write.hard_state is not None:
            self._change(group, lambda of: RecoveredGroup(write.hard_state, of.base, of.entries, of.snapshot))
        for entry in write.entries:
            self._change(group, lambda of, entry=entry: append(of, entry))

    def _change(self, group: GroupId, change: Callable[[RecoveredGroup], RecoveredGroup]) -> None:
        before = self.last.get(group) or RecoveredGroup(HardState(), NOTHING, [])
        self.states.append({**self.last, group: change(before)})

    def allows(self, found: State) -> bool:
        return any(self._is_it(state, found) for state in self.states)

    def _is_it(self, state: State, found: State) -> bool:
        groups = {*state, *found}
        return all(self._may_be(group, state.get(group), found.get(group)) for group in groups)

    def _may_be(self, group: GroupId, of: RecoveredGroup | None, found: RecoveredGroup | None) -> bool:
        if of == found:
            return True
        if found is None or found.snapshot is None or found.snapshot not in self.named.get(group, []):
            return False
        of = of or RecoveredGroup(HardState(), NOTHING, [])
        if of.snapshot is not None and of.snapshot.index >= found.snapshot.index:
            return False
        taken_up = adopt(of, found.snapshot)
        if taken_up.hard_state.term < found.snapshot.term:
            taken_up.hard_state = HardState(found.snapshot.term)
        return taken_up == found


def adopt(
    of: RecoveredGroup, meta: SnapshotMeta | None, *, reset: bool = False, keep_from: LogIndex = 0
) -> RecoveredGroup:
    assert meta is not None
    if meta.index <= of.base.index:
        return of
    held = {entry.index: entry for entry in of.entries}
    if reset or meta.index not in held or held[meta.index].term != meta.term:
        return RecoveredGroup(of.hard_state, meta.id, [], meta)
    first = keep_from or meta.index + 1
    before = held.get(first - 1)
    base = before.id if before is not None else of.base
    return RecoveredGroup(of.hard_state, base, [entry for entry in of.entries if entry.index > base.index], meta)


def append(of: RecoveredGroup, entry: Entry) -> RecoveredGroup:
    kept = [held for held in of.entries if held.index < entry.index]
    return RecoveredGroup(of.hard_state, of.base, [*kept, entry], of.snapshot)


class Life:
    """A node that writes at random, is killed and restarted now and then, and tells the model what was acknowledged."""

    def __init__(self, seed: int, *, wrap: Callable[[Files], Files] = lambda files: files) -> None:
        self.random = Random(seed)
        self.lab = Lab(seed, wrap=wrap)
        self.model = Model()

    def run(self, steps: int) -> None:
        """Live for so long, or until the power fails (PowerCut)."""
        self.check(self.lab.start())
        for _ in range(steps):
            self.random.choice(self._steps)(self)

    def check(self, found: State) -> None:
        """Was nothing acknowledged lost, and nothing invented? What was found is what the node goes on from."""
        assert self.model.allows(found), (
            f"acknowledged {show(self.model.states[0])}, written {show(self.model.last)}, found {show(found)}"
        )
        for group, of in found.items():
            if of.snapshot is not None:
                pieces = list(self.lab.storage.snapshots.chunks(group, of.snapshot.id))
                assert pieces == [snapshot_piece(group, of.snapshot)]
        self.model.states = [found]

    def write(self) -> None:
        writes = [self._some_write(group) for group in self.random.sample([1, 2, 3], self.random.randint(1, 2))]
        durable = self.random.random() < 0.6
        for write in writes:
            self.model.write(write)
        self._despite_full_disk(lambda: self.lab.write(*writes, durable=durable))
        if durable:
            self.model.acknowledge()

    def _some_write(self, group: GroupId) -> LogWrite:
        random, of = self.random, self.model.last.get(group) or RecoveredGroup(HardState(), NOTHING, [])
        last = of.entries[-1].id if of.entries else of.base
        term = max(last.term, of.hard_state.term) + random.randint(0, 1) or 1
        settled = max(of.base.index, of.snapshot.index if of.snapshot else 0)  # committed: never replaced
        first = random.randint(max(settled, last.index - 2), last.index) + 1
        entries = self.lab.entries(
            first, first + random.randint(0, 3), term, group, size=random.choice([10, 700, 9000])
        )
        return LogWrite(group, 1, HardState(term, random.choice(["n1", None])), entries)

    def fill_disk(self) -> None:
        """From now on there is no room, until a write finds none."""
        self.lab.disk.full = True
        self.lab.disk.full_in_place = self.random.random() < 0.3

    def _despite_full_disk(self, work: Callable[[], object]) -> None:
        """Do it; when there is no room for it make some, and do the same once more."""
        try:
            work()
        except DiskFull:
            self.lab.disk.full = self.lab.disk.full_in_place = False
            work()

    def flush(self) -> None:
        self._despite_full_disk(self.lab.storage.flush)
        self.model.acknowledge()

    def flush_aside(self) -> None:
        """A flush elsewhere, and writes while it runs."""
        handles, position = self.lab.storage.unflushed()
        begun = [self.lab.disk.begin_sync(handle) for handle in handles]
        states = len(self.model.states)
        write = self._some_write(2)
        self.model.write(write)
        self._despite_full_disk(lambda: self.lab.write(write, durable=False))
        for sync in begun:
            self.lab.disk.end_sync(sync)
        self.lab.storage.flushed(position)
        del self.model.states[: states - 1]

    def mark(self) -> None:
        self._despite_full_disk(self.lab.storage.mark)
        self.model.acknowledge()

    def maintain(self) -> None:
        self.lab.storage.maintain()

    def snapshot(self) -> None:
        group = self.random.choice([1, 2, 3])
        of = self.model.states[0].get(group)  # only of what is durable
        if of is None or not of.entries or self.model.last.get(group) != of:
            return
        entry = self.random.choice(of.entries)
        self._save(group, self.lab.meta(entry.index, entry.term), keep_from=self.random.choice([0, entry.index]))

    def install(self) -> None:
        """A leader's snapshot from far ahead."""
        group = self.random.choice([1, 2, 3])
        of = self.model.last.get(group) or RecoveredGroup(HardState(), NOTHING, [])
        last = of.entries[-1].id if of.entries else of.base
        meta = self.lab.meta(last.index + 5, max(last.term, of.hard_state.term) + 1)
        self._save(group, meta, reset=True)

    def _save(self, group: GroupId, meta: SnapshotMeta, *, keep_from: LogIndex = 0, reset: bool = False) -> None:
        self.lab.disk.full = self.lab.disk.full_in_place = False
        self.model.named.setdefault(group, []).append(meta)
        writer = self.lab.storage.snapshots.create(group, meta)
        writer.write(snapshot_piece(group, meta))
        writer.finish()
        hard_state = HardState(meta.term) if reset else None
        write = LogWrite(group, 1, hard_state, (), keep_from, meta, reset)
        self.model.write(write)
        self.lab.write(write)
        self.model.acknowledge()

    def restart(self) -> None:
        self.lab.disk.full_in_place = False
        self.lab.storage.close()
        self.model.acknowledge()  # a clean stop marks the log's end, which flushes it
        self.check(self.lab.start())

    def killed(self) -> None:
        disk = self.lab.disk
        cut_at = disk.cut_at
        disk.full = disk.full_in_place = False
        disk.kill()
        disk.cut_at = cut_at
        self.check(self.lab.start())

    _steps = (
        write,
        write,
        write,
        write,
        write,
        flush,
        flush_aside,
        mark,
        fill_disk,
        maintain,
        maintain,
        snapshot,
        install,
        restart,
        killed,
    )


def snapshot_piece(group: GroupId, meta: SnapshotMeta) -> bytes:
    return f"state of {group} at {meta.term}:{meta.index}".encode()


def show(state: State) -> str:
    return str(
        {
            group: (
                of.hard_state.term,
                of.hard_state.voted_for,
                tuple(of.base),
                [tuple(entry.id) for entry in of.entries],
            )
            for group, of in state.items()
        }
    )


def cut_everywhere(
    seeds: range, *, steps: int = 25, stride: int = 1, wrap: Callable[[Files], Files] = lambda files: files
) -> Iterator[str]:
    """One life per seed, cut in each of its calls and started again, twice; each violation as text."""
    for seed in seeds:
        whole = Life(seed, wrap=wrap)
        try:
            whole.run(steps)
        except Exception as error:
            yield f"seed {seed}, without a power cut: {type(error).__name__}: {error}"
            continue
        for cut_at in range(1 + seed % stride, whole.lab.disk.calls, stride):
            losing: Losing = "unsynced" if cut_at % 3 == 0 else "some"
            try:
                live_and_die(Life(seed, wrap=wrap), steps, cut_at, losing)
            except PowerCut:
                raise
            except Exception as error:
                yield f"seed {seed}, power cut in call {cut_at}, losing {losing}: {type(error).__name__}: {error}"


def live_and_die(life: Life, steps: int, cut_at: int, losing: Losing) -> None:
    """Run until call `cut_at`, lose power there, recover, lose it again while recovering, recover, and write on."""
    disk = life.lab.disk
    disk.cut_at = cut_at
    with pytest.raises(PowerCut):
        life.run(steps)
    disk.full = disk.full_in_place = False
    disk.cut_power(losing)
    disk.cut_at = disk.calls + 1 + cut_at % 7
    try:
        life.check(life.lab.start())
    except PowerCut:
        disk.cut_power(losing)
        life.check(life.lab.start())
    disk.cut_at = 0
    write = life._some_write(1)
    life.model.write(write)
    life.lab.write(write)
    life.model.acknowledge()
    disk.cut_power("unsynced")
    life.check(life.lab.start())


@pytest.mark.parametrize("seed", range(12))
def test_a_power_cut_in_any_call_loses_nothing_acknowledged(seed: int) -> None:
    violations = list(cut_everywhere(range(seed, seed + 1)))

    assert not violations, "\n".join(violations[:3])


# --- mutants: each must be seen by the search above -----------------------------------------------------------------


class WithoutDirectorySync:
    """Files whose names are never made durable on purpose."""

    def __init__(self, files: Files) -> None:
        self._files = files

    def __getattr__(self, name: str) -> Any:
        return getattr(self._files, name)

    def sync_directory(self, path: str) -> None:
        pass


def violations_of(mutant: str, **options: Any) -> str:
    found = next(cut_everywhere(range(40), stride=5, steps=40, **options), None)
    assert found is not None, f"mutant {mutant} shows no difference"
    return found


def test_mutant_directory_not_synced_after_a_rename() -> None:
    violations_of("no directory sync", wrap=WithoutDirectorySync)


def test_mutant_a_durable_handle_is_trusted_for_earlier_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """O_DSYNC makes durable what it writes, not what other handles wrote before."""

    def spill(self: Wal, *, durable: bool) -> None:
        chunks, self._chunks = [*self._chunks, (self.current, self._buffers_start, self._buffers)], []
        self._buffers, self._buffers_start = [], self._offset
        for segment, start, buffers in filter(lambda chunk: chunk[2], chunks):
            self._files.pwritev(segment.durable if durable else segment.plain, buffers, start)
        if durable:
            self._settle(self.end)

    monkeypatch.setattr(Wal, "spill", spill)

    violations_of("durable handle")


def test_mutant_flushed_before_says_what_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that claims more than was flushed turns a torn tail into damage: the node would not start."""
    gather = Wal._gather

    def boast(self: Wal, *arguments: Any) -> None:
        self._flushed, honest = self.end, self._flushed
        gather(self, *arguments)
        self._flushed = honest

    monkeypatch.setattr(Wal, "_gather", boast)

    assert "CorruptRecord" in violations_of("boasting")


def test_mutant_a_segment_goes_before_what_was_carried_is_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    def give_free(self: Recycler, oldest: int) -> None:
        self._wal.segments.give_free(oldest)
        self._wal.chain.popleft()

    monkeypatch.setattr(Recycler, "_give_free", give_free)

    violations_of("freed too early")


def test_mutant_a_segment_is_named_before_its_header_is_flushed(monkeypatch: pytest.MonkeyPatch) -> None:
    def name(self: SegmentFiles, handle: int, path: str, segment: int) -> None:
        from aegis_replication.storage.segments import pack_segment_header

        self._files.rename(path, self.path_of(segment))
        self._files.sync_directory(self.path)
        self._files.pwritev(handle, (pack_segment_header(self.identity, segment, self.segment_bytes),), 0)

    monkeypatch.setattr(SegmentFiles, "_name", name)

    violations_of("header after name")


def test_the_search_itself_sees_a_lost_acknowledgement() -> None:
    life = Life(1)
    life.run(10)
    life.model.write(Lab.vote(99, "n9"))
    life.model.acknowledge()

    with pytest.raises(AssertionError, match="acknowledged"):
        life.killed()
