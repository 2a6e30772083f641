"""How does a new node become a member? It asks the cluster to add it, until somebody has."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from aegis_replication.admin import MemberList
from aegis_replication.client.client import connect
from aegis_replication.errors import AegisError, ChangePending, IncompatibleVersion, Retryable
from aegis_replication.node import Node

log = logging.getLogger("aegis.node")

ATTEMPT_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.5
REFUSED_PAUSE_SECONDS: Final = 5.0  # an operator has to do something first


async def join(node: Node, addresses: Sequence[str], *, as_voter: bool = True) -> None:
    """Ask the cluster whose nodes' clients connect at `addresses` to add `node`; returns when it is a member.

    It comes in as a learner, and with `as_voter` becomes a voter by itself as soon as it has caught up. Whatever goes
    wrong is said once and tried again: a cluster without a leader comes back, an operator may have to remove an earlier
    node of this name. Raises IncompatibleVersion at once, since no waiting helps there.
    """
    said = ""
    while not _is_member(node):
        pause = PAUSE_SECONDS
        try:
            async with connect("aegis://" + ",".join(addresses), cluster=node.options.cluster) as database:
                _check_format(node, await database.members(timeout=ATTEMPT_SECONDS))
                await database.add_node(
                    node.id,
                    node.options.peer_address,
                    voter=as_voter,
                    incarnation=node.storage.identity.incarnation,
                    wait=False,
                    timeout=ATTEMPT_SECONDS,
                )
        except IncompatibleVersion:
            raise
        except AegisError as error:
            if not isinstance(error, Retryable | ChangePending):
                pause = REFUSED_PAUSE_SECONDS
            if str(error) != said:
                said = str(error)
                log.warning("node=%s: not a member yet, asking again: %s", node.id, error)
        await _wait_member(node, pause)
    log.info("node=%s: joined %s", node.id, ", ".join(sorted(node.replica().raft.configuration.members)))


def _check_format(node: Node, members: MemberList) -> None:
    """Once added, a node that can't read what the cluster writes would be a member that nobody can speak with."""
    highest = node.options.config.format_highest
    if members.format > highest:
        raise IncompatibleVersion(
            f"{node.id}: the cluster writes format {members.format}, this node may use formats up to {highest}: start "
            "a program that knows it, and without a lower format_highest"
        )


def _is_member(node: Node) -> bool:
    return node.id in node.replica().raft.configuration.members


async def _wait_member(node: Node, seconds: float) -> None:
    """Until the leader has sent the configuration, or for so long."""
    waited = 0.0
    while waited < seconds and not _is_member(node):
        await asyncio.sleep(0.05)
        waited += 0.05
