"""What of one file survives? Its bytes as readers see them, and how to take back those that are not durable."""

from random import Random
from typing import Final, TypeAlias

SECTOR_BYTES: Final = 512

Undo: TypeAlias = tuple[int, bytes | int, int]
"""(offset, bytes that stood there, call) of a write not durable yet; (offset, length, call) once it is."""


class SectorFile:
    """A file on a disk that writes whole sectors, in any order, until it is told to sync."""

    __slots__ = ("content", "durable_bytes", "lost", "settled", "unsynced")

    def __init__(self) -> None:
        self.content = bytearray()
        # The length that survives; only sectors behind it can vanish together with the growth.
        self.durable_bytes = 0
        # In the order in which they came.
        self.unsynced: list[Undo] = []
        # How many writes have left `unsynced` for good: a sync that began earlier knows what it covers.
        self.settled = 0
        # The same of writes before a failed sync: the system took them for clean, so no later sync saves them.
        self.lost: list[Undo] = []

    @property
    def written(self) -> int:
        """How many writes there were so far."""
        return self.settled + len(self.unsynced)

    def write(self, offset: int, data: bytes, call: int) -> None:
        """Readers see it at once; it is not durable yet."""
        content, after = self.content, offset + len(data)
        old = bytes(content[offset:after])
        if offset > len(content):
            content.extend(bytes(offset - len(content)))
        content[offset:after] = data
        self.unsynced.append((offset, old + bytes(len(data) - len(old)), call))

    def make_durable(self, first: int, after: int) -> list[tuple[int, int, int]]:
        """Writes [first, after) are; returns offset, length and call of each."""
        writes, made = self.unsynced, []
        for at in range(max(0, first - self.settled), max(0, after - self.settled)):
            offset, old, call = writes[at]
            length = old if isinstance(old, int) else len(old)
            writes[at] = (offset, length, call)
            self.durable_bytes = max(self.durable_bytes, offset + length)
            made.append((offset, length, call))
        if not self.lost:  # else it must stay known what was written again since, and is durable now
            gone = next((at for at, write in enumerate(writes) if not isinstance(write[1], int)), len(writes))
            del writes[:gone]
            self.settled += gone
        return made

    def fail_sync(self) -> None:
        """Nothing written so far will ever be durable."""
        self.lost.extend(self.unsynced)
        self.settled += len(self.unsynced)
        self.unsynced.clear()

    def tear(self, random: Random, keep: float, *, from_beginning: bool = False) -> bool:
        """Take back about 1 - `keep` of the sectors that aren't durable, each to what it was before one of its writes.

        With `from_beginning` it is the first few of them, and all others are kept. Says whether there were any.
        """
        writes = self.lost + self.unsynced
        self.settled += len(self.unsynced)
        self.lost, self.unsynced = [], []
        if not writes:
            return False
        content = self.content
        # How often each sector was written since it was last durable.
        versions: dict[int, int] = {}
        for offset, old, _ in writes:
            length = old if isinstance(old, int) else len(old)
            for sector in range(offset // SECTOR_BYTES, -(-(offset + length) // SECTOR_BYTES)):
                if isinstance(old, int):
                    versions.pop(sector, None)
                else:
                    versions[sector] = versions.get(sector, 0) + 1
        if from_beginning:
            back = {sector: versions[sector] for sector in sorted(versions)[: random.randint(1, 3)]}
        else:
            back = {
                sector: count if not keep else random.randint(1, count)
                for sector, count in versions.items()
                if not keep or random.random() >= keep
            }
        kept = [sector for sector in versions if sector not in back]
        for offset, old, _ in reversed(writes):
            if isinstance(old, int):
                continue
            after = offset + len(old)
            for sector in range(offset // SECTOR_BYTES, -(-after // SECTOR_BYTES)):
                if back.get(sector, 0):
                    back[sector] -= 1
                    first, last = max(offset, sector * SECTOR_BYTES), min(after, (sector + 1) * SECTOR_BYTES)
                    content[first:last] = old[first - offset : last - offset]
        size = max([self.durable_bytes, *((sector + 1) * SECTOR_BYTES for sector in kept)])
        del content[min(size, len(content)) :]
        self.durable_bytes = len(content)
        return bool(back)
