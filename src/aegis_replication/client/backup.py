"""How does a running cluster's state become a file? The leader saves a snapshot, and it is carried away in chunks."""

import asyncio
import os
import time
from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

from aegis_replication import __version__, wire
from aegis_replication.client.arguments import seconds_of
from aegis_replication.client.router import Router
from aegis_replication.errors import DeadlineExceeded, ProtocolError
from aegis_replication.ids import DATA_GROUP
from aegis_replication.log import EntryId
from aegis_replication.storage.backup_file import BackupHead, BackupWriter

BACKUP_SECONDS: Final = 3600.0
"""For all of it, if not told otherwise."""

OnBackup: TypeAlias = Callable[[int, int], None]
"""Told how many bytes are here, and of how many; the count falls when it had to begin anew."""

_MADE: "msgspec.msgpack.Decoder[tuple[int, int]]" = msgspec.msgpack.Decoder(tuple[int, int])
# Bytes of the whole, those asked for, and who gave them: cluster and node.
_CHUNK: "msgspec.msgpack.Decoder[tuple[int, bytes, str, str]]" = msgspec.msgpack.Decoder(tuple[int, bytes, str, str])


class BackupClient:
    """Takes backups from a running cluster."""

    _router: Router

    async def backup(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        on_progress: OnBackup | None = None,
        timeout: float = BACKUP_SECONDS,
    ) -> BackupHead:
        """Write the state of the cluster, with everything acknowledged before this call, to the file at `path`.

        It takes room for a snapshot on the leader's disk, and 256 KiB at a time from its loop. When another node takes
        over meanwhile, it begins anew. The file appears when it is complete and verified; until then it is `path`.part.
        Raises StorageError when there is one already and not `overwrite`, or when it can't be written.
        """
        deadline = asyncio.get_running_loop().time() + seconds_of(timeout)
        file = BackupWriter(os.fspath(path), overwrite=overwrite)
        try:
            while True:
                snapshot = _made(await self._about_backup("make a backup", b"", deadline))
                head = await self._carry(snapshot, file, deadline, on_progress)
                if head is not None:
                    break
            await asyncio.get_running_loop().run_in_executor(None, file.finish)
            return head
        except BaseException:
            file.drop()
            raise

    async def _carry(
        self, snapshot: EntryId, file: BackupWriter, deadline: float, on_progress: OnBackup | None
    ) -> BackupHead | None:
        """All of it into `file`; None when the one that had it hasn't, or isn't asked, any more."""
        loop = asyncio.get_running_loop()
        head: BackupHead | None = None
        offset = 0
        while head is None or offset < head.snapshot_bytes:
            body = wire.encode_backup_read(snapshot, offset)
            total, data, cluster, node = _chunk(await self._about_backup("read a backup", body, deadline))
            if not data or (head is not None and (total, node) != (head.snapshot_bytes, head.node)):
                return None
            if head is None:
                now_ms = time.time_ns() // 1_000_000
                head = BackupHead(cluster, node, DATA_GROUP, snapshot.term, snapshot.index, now_ms, total, __version__)
                file.begin(head)
            await loop.run_in_executor(None, file.append, data)
            offset += len(data)
            if on_progress is not None:
                on_progress(offset, total)
        return head

    async def _about_backup(self, what: str, body: bytes, deadline: float) -> bytes:
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            raise DeadlineExceeded("the backup took longer than it was given: give it more time (timeout)")
        call = self._router.begin(wire.BACKUP, what, body, left)
        self._router.send(call)
        return await call.future


def _made(body: bytes) -> EntryId:
    try:
        return EntryId(*_MADE.decode(body))
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"malformed answer about a backup: {error}") from None


def _chunk(body: bytes) -> tuple[int, bytes, str, str]:
    try:
        return _CHUNK.decode(body)
    except msgspec.MsgspecError as error:
        raise ProtocolError(f"malformed chunk of a backup: {error}") from None
