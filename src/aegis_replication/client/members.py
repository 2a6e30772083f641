"""How are a cluster's members changed from a program? Each call is safe to repeat, and says how far it has come."""

import asyncio
from collections.abc import Callable
from typing import Final, TypeAlias

from aegis_replication import wire
from aegis_replication.admin import (
    AdminRequest,
    Jointly,
    MemberList,
    Members,
    SetLease,
    Transfer,
    decode_members,
    encode_admin,
)
from aegis_replication.client.arguments import TIMEOUT_SECONDS, seconds_of
from aegis_replication.client.router import Router
from aegis_replication.consensus.changes import (
    AddLearner,
    Change,
    Demote,
    Promote,
    Remove,
    Replace,
    SetAddress,
)
from aegis_replication.errors import ChangePending, DeadlineExceeded, InvalidArgument, UnknownMember
from aegis_replication.ids import NodeId, node_id
from aegis_replication.transport.tcp import parse_address

PAUSE_SECONDS: Final = 0.1

OnProgress: TypeAlias = Callable[[MemberList], None]
"""Told now and then how far a change is."""


class MembersClient:
    """A cluster's members: who they are, and how they come, go and take each other's places.

    One change is made at a time; a call waits for those before it. Asking for what is so already changes nothing. What
    they may raise: ChangeRefused in one of its forms (WouldLoseQuorum, LearnerLags, UnknownMember, MemberExists) when a
    change can't be made as asked; ChangePending when others were in its way until its time was over; OutcomeUnknown and
    DeadlineExceeded when it was begun and may still come about.
    """

    timeout: float
    _router: Router

    def __init__(self, router: Router, *, timeout: float = TIMEOUT_SECONDS) -> None:
        self._router, self.timeout = router, seconds_of(timeout)

    async def members(self, *, timeout: float | None = None) -> MemberList:
        """Who the members are and how far each is, by the leader."""
        return decode_members(await self._administer(Members(), self._until(timeout)))

    async def add_node(
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
        deadline = self._until(timeout)
        _checked(address, node)
        change = AddLearner(node_id(node), address, incarnation, promote=voter)
        members = decode_members(await self._administer(change, deadline))
        if not voter or not wait:
            return members
        return await self._watch(node, "voter", deadline, on_progress, f"{node} was added and catches up")

    async def promote(self, node: NodeId, *, joint: bool = False, timeout: float | None = None) -> MemberList:
        """Make learner `node` a voter. Raises LearnerLags while it is behind."""
        return await self._change(Promote(node), joint, timeout)

    async def demote(self, node: NodeId, *, joint: bool = False, timeout: float | None = None) -> MemberList:
        """Make voter `node` a learner."""
        return await self._change(Demote(node), joint, timeout)

    async def remove_node(self, node: NodeId, *, joint: bool = False, timeout: float | None = None) -> MemberList:
        """Make `node` no member any more; then stop it. A leader hands over first."""
        return await self._change(Remove(node), joint, timeout)

    async def set_address(self, node: NodeId, address: str, *, timeout: float | None = None) -> MemberList:
        """Tell the others where `node` is now; it says so itself when it connects."""
        _checked(address, node)
        return await self._change(SetAddress(node, address), False, timeout)

    async def replace_node(
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
        deadline = self._until(timeout)
        _checked(address, new)
        members = decode_members(await self._administer(Replace(old, node_id(new), address), deadline))
        if not wait:
            return members
        return await self._watch(new, "voter", deadline, on_progress, f"{new} was added and will replace {old}")

    async def transfer_leader(self, target: NodeId | None = None, *, timeout: float | None = None) -> NodeId:
        """Let `target` lead, or whoever is best instead of the one that does; who leads then."""
        deadline = self._until(timeout)
        await self._administer(Transfer(target), deadline)
        return decode_members(await self._administer(Members(), deadline)).leader

    async def set_lease(self, on: bool, *, timeout: float | None = None) -> MemberList:
        """Let the leader answer reads by lease, without asking anybody, or not any more; `lease_ms` says how it is.

        While leases are on, reads are current only if no node's clock runs more than a tenth too fast or too slow.
        """
        if type(on) is not bool:
            raise InvalidArgument(f"on = {on!r}: give True or False")
        return decode_members(await self._administer(SetLease(on), self._until(timeout)))

    # --- how it is done ---

    def _until(self, timeout: float | None) -> float:
        seconds = self.timeout if timeout is None else seconds_of(timeout)
        return asyncio.get_running_loop().time() + seconds

    async def _change(self, change: Change, joint: bool, timeout: float | None) -> MemberList:
        request: AdminRequest = Jointly(change) if joint else change
        return decode_members(await self._administer(request, self._until(timeout)))

    async def _administer(self, request: AdminRequest, deadline: float) -> bytes:
        """The leader's answer. What is under way already is waited for: sending such a request again does no harm."""
        loop = asyncio.get_running_loop()
        body = encode_admin(request)
        while True:
            call = self._router.begin(wire.ADMIN, request, body, max(deadline - loop.time(), 0.001))
            self._router.send(call)
            try:
                return await call.future
            except ChangePending:
                if loop.time() + PAUSE_SECONDS >= deadline:
                    raise
            await asyncio.sleep(PAUSE_SECONDS)

    async def _watch(
        self, node: NodeId, role: str, deadline: float, on_progress: OnProgress | None, begun: str
    ) -> MemberList:
        """Wait until `node` has `role` and the change is over."""
        loop = asyncio.get_running_loop()
        while True:
            members = decode_members(await self._administer(Members(), deadline))
            row = members.find(node)
            if row is None:
                raise UnknownMember(f"{node} was removed meanwhile")
            if on_progress is not None:
                on_progress(members)
            if row.role == role and not members.is_joint:
                return members
            if loop.time() + PAUSE_SECONDS >= deadline:
                raise DeadlineExceeded(
                    f"{begun}: it holds {row.match_index:,} entries and lacks {row.lag_entries:,}. It goes on by "
                    "itself: ask again, or see whether it runs and is reached"
                )
            await asyncio.sleep(PAUSE_SECONDS)


def _checked(address: str, node: NodeId) -> None:
    parse_address(address, what=f"address of {node}")
