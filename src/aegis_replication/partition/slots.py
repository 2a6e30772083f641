"""The strategy by slot, as Redis Cluster places keys: 16,384 slots by CRC16, and hash tags that keep keys together."""

from binascii import crc_hqx
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

from aegis_replication.errors import InvalidBoundary, UnorderableKey
from aegis_replication.hash.checks import checked_count
from aegis_replication.hash.functions import HashFunction
from aegis_replication.partition.encoding import KeyValue
from aegis_replication.partition.key import PartitionKey
from aegis_replication.partition.ranges import PartitionRange
from aegis_replication.partition.strategy import Strategy

SLOT_COUNT = 16_384
_SLOT_BYTES = 2


def slot_of(key: str | bytes) -> int:
    """The key's slot in [0, 16384): CRC16-XMODEM of its hash tag."""
    return crc_hqx(hash_tag(key), 0) % SLOT_COUNT


def hash_tag(key: str | bytes) -> bytes:
    """What stands between the first { and the next }, if that is not empty; else the whole key."""
    raw = key.encode() if isinstance(key, str) else bytes(key)
    opened = raw.find(b"{")
    if opened < 0:
        return raw
    closed = raw.find(b"}", opened + 1)
    return raw[opened + 1 : closed] if closed > opened + 1 else raw


class SlotStrategy(Strategy):
    """A compatible view of token ranges: every slot is a fixed range, and partitions are made of whole slots."""

    __slots__ = ()
    NAME: ClassVar[str] = "slots"

    def __init__(self, column: str | Sequence[str] = "key", partitions: int = 16) -> None:
        checked_count("partitions", partitions, 1, SLOT_COUNT)
        cuts = [_slot_token(index * SLOT_COUNT // partitions) for index in range(1, partitions)]
        ends: list[bytes | None] = [*cuts, None]
        super().__init__(column, [PartitionRange(start, end) for start, end in zip([b"", *cuts], ends)])

    def slot_range(self, slot: int) -> PartitionRange:
        """The tokens of all keys in a slot. Raises InvalidCount."""
        checked_count("slot", slot, 0, SLOT_COUNT - 1)
        return PartitionRange(_slot_token(slot), _slot_token(slot + 1))

    def slots_in(self, part: PartitionRange) -> range:
        """The slots of a range that is cut between slots."""
        first = int.from_bytes(part.start, "big")
        return range(first, SLOT_COUNT if part.end is None else min(SLOT_COUNT, int.from_bytes(part.end, "big")))

    def check_boundary(self, token: bytes) -> None:
        if len(token) != _SLOT_BYTES or not 0 < int.from_bytes(token, "big") < SLOT_COUNT:
            raise InvalidBoundary(
                f"boundary {token[:16].hex()} cuts a slot: cut at the start of slot_range(slot), for slots 1 to "
                f"{SLOT_COUNT - 1}"
            )

    def _settings(self) -> dict[str, Any]:
        return {"partitions": self.partition_count}

    @classmethod
    def _from_settings(cls, columns: list[str], settings: dict[str, Any], known: Iterable[HashFunction]) -> Self:
        return cls(columns, **settings)

    def _prefix(self, key: PartitionKey) -> bytes:
        return _slot_token(slot_of(_text(key.first)))

    def _scan_prefix(self, values: tuple[KeyValue, ...], cut: PartitionRange) -> list[PartitionRange]:
        assert cut.end is not None, "composite keys have a last possible prefix"
        slot = _slot_token(slot_of(_text(values[0])))
        return [PartitionRange(slot + cut.start, slot + cut.end)]


def _slot_token(slot: int) -> bytes:
    return slot.to_bytes(_SLOT_BYTES, "big")


def _text(value: KeyValue) -> str | bytes:
    if not isinstance(value, str | bytes):
        raise UnorderableKey(f"{value!r} of type {type(value).__name__} has no slot: slots are of text and bytes")
    return value
