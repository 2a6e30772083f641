"""Which pages does a node have, and what is on them? The status code is the contract, the body says why."""

from collections.abc import Mapping
from typing import Any, Protocol

from aegis_replication.admin_http.answer import Answer, Page, as_json, error
from aegis_replication.ids import NodeId
from aegis_replication.observability.rows import own_summary
from aegis_replication.observability.versions import versions


class Observed(Protocol):
    """A node, as far as its pages are concerned. Every call is a look: it changes nothing and waits for nothing."""

    id: NodeId

    @property
    def has_started(self) -> bool:
        """Was it started, however it is now?"""

    def why_not_alive(self) -> Mapping[str, str]:
        """Why its process should be started anew, by check; empty while it is well."""

    def why_not_ready(self) -> Mapping[str, str]:
        """Why clients are better served by another node, by check; empty once it is ready for them."""

    def status(self) -> dict[str, Any]:
        """What it says of itself; only after its start."""


def pages(node: Observed, metrics: Page) -> dict[str, Page]:
    """By path."""
    return {
        "/metrics": metrics,
        "/livez": lambda accept: _verdict(node, "alive", node.why_not_alive()),
        "/readyz": lambda accept: _verdict(node, "ready", node.why_not_ready()),
        "/version": lambda accept: as_json(versions()),
        "/v1/status": lambda accept: _status(node),
    }


def _status(node: Observed) -> Answer:
    if not node.has_started:
        return error(503, f"{node.id} has not started yet: ask again in a moment")
    return as_json(own_summary(node.status()))


def _verdict(node: Observed, what: str, reasons: Mapping[str, str]) -> Answer:
    return as_json({"node": node.id, what: not reasons, "reasons": reasons}, 503 if reasons else 200)
