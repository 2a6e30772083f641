"""What can an operator's program ask without `await`? Members, and backups.

Written by `make sync` (tools/make_sync.py) from the async twins: change those.
"""

import os
from typing import Any, Self

from aegis_replication.admin import MemberList
from aegis_replication.client import backup, members
from aegis_replication.client.backup import BACKUP_SECONDS, OnBackup
from aegis_replication.client.members import OnProgress
from aegis_replication.ids import NodeId
from aegis_replication.loop_thread import LoopThread
from aegis_replication.storage.backup_file import BackupHead


class MembersClient:
    """A cluster's members: who they are, and how they come, go and take each other's places.

    One change is made at a time; a call waits for those before it. Asking for what is so already changes nothing. What
    they may raise: ChangeRefused in one of its forms (WouldLoseQuorum, LearnerLags, UnknownMember, MemberExists) when a
    change can't be made as asked; ChangePending when others were in its way until its time was over; OutcomeUnknown and
    DeadlineExceeded when it was begun and may still come about.
    """

    _inner: members.MembersClient
    _thread: LoopThread

    @classmethod
    def around(cls, inner: Any, thread: LoopThread) -> Self:
        """The twin of `inner`, which lives on the loop of `thread`."""
        self = cls.__new__(cls)
        self._inner, self._thread = inner, thread
        return self

    def members(self, *, timeout: float | None = None) -> MemberList:
        """Who the members are and how far each is, by the leader."""
        return self._thread.call(self._inner.members(timeout=timeout))

    def add_node(
        self,
        node: NodeId,
        address: str,
        *,
        voter: bool = True,
        incarnation: int = 0,
        wait: bool = True,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
    ) -> MemberList:
        """Add `node`, whose peers connect at `address`: as a learner, and a voter as soon as it has caught up.

        With voter=False it stays a learner. With wait=False the call returns when it is a learner; the rest happens by
        itself. `incarnation` is its data directory's, if known: another one is refused then.
        """
        return self._thread.call(
            self._inner.add_node(
                node, address, voter=voter, incarnation=incarnation, wait=wait, on_progress=on_progress, timeout=timeout
            )
        )

    def promote(self, node: NodeId, *, joint: bool = False, timeout: float | None = None) -> MemberList:
        """Make learner `node` a voter. Raises LearnerLags while it is behind."""
        return self._thread.call(self._inner.promote(node, joint=joint, timeout=timeout))

    def demote(self, node: NodeId, *, joint: bool = False, timeout: float | None = None) -> MemberList:
        """Make voter `node` a learner."""
        return self._thread.call(self._inner.demote(node, joint=joint, timeout=timeout))

    def remove_node(self, node: NodeId, *, joint: bool = False, timeout: float | None = None) -> MemberList:
        """Make `node` no member any more; then stop it. A leader hands over first."""
        return self._thread.call(self._inner.remove_node(node, joint=joint, timeout=timeout))

    def set_address(self, node: NodeId, address: str, *, timeout: float | None = None) -> MemberList:
        """Tell the others where `node` is now; it says so itself when it connects."""
        return self._thread.call(self._inner.set_address(node, address, timeout=timeout))

    def replace_node(
        self,
        old: NodeId,
        new: NodeId,
        address: str,
        *,
        wait: bool = True,
        on_progress: OnProgress | None = None,
        timeout: float | None = None,
    ) -> MemberList:
        """Put `new`, whose peers connect at `address`, in the place of voter `old` once it has caught up.

        Both in one joint change, so that there are never fewer voters. With wait=False: the rest happens by itself.
        """
        return self._thread.call(
            self._inner.replace_node(old, new, address, wait=wait, on_progress=on_progress, timeout=timeout)
        )

    def transfer_leader(self, target: NodeId | None = None, *, timeout: float | None = None) -> NodeId:
        """Let `target` lead, or whoever is best instead of the one that does; who leads then."""
        return self._thread.call(self._inner.transfer_leader(target, timeout=timeout))

    def set_lease(self, on: bool, *, timeout: float | None = None) -> MemberList:
        """Let the leader answer reads by lease, without asking anybody, or not any more; `lease_ms` says how it is.

        While leases are on, reads are current only if no node's clock runs more than a tenth too fast or too slow.
        """
        return self._thread.call(self._inner.set_lease(on, timeout=timeout))


class BackupClient:
    """Takes backups from a running cluster."""

    _inner: backup.BackupClient
    _thread: LoopThread

    @classmethod
    def around(cls, inner: Any, thread: LoopThread) -> Self:
        """The twin of `inner`, which lives on the loop of `thread`."""
        self = cls.__new__(cls)
        self._inner, self._thread = inner, thread
        return self

    def backup(
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
        return self._thread.call(
            self._inner.backup(path, overwrite=overwrite, on_progress=on_progress, timeout=timeout)
        )
