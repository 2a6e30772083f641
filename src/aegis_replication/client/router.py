"""Where does a call go, and when does it go again? To the leader, over one link per node, until its deadline."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any, Final

import msgspec

from aegis_replication import wire
from aegis_replication.client.calls import CHANGING, Call, final_error, reply_text, unanswered
from aegis_replication.client.doubt import Doubt
from aegis_replication.client.endpoints import ENDPOINTS_MAX
from aegis_replication.client.links import Dialer, Link, Links, look_at
from aegis_replication.errors import (
    AegisError,
    DeadlineExceeded,
    InvalidArgument,
    LimitExceeded,
    OutcomeUnknown,
    Overloaded,
    ProtocolError,
    Refused,
    Unavailable,
)
from aegis_replication.ids import DATA_GROUP, GroupId

CALLS_MAX: Final = 100_000
"""So many calls may wait in one client; the next is refused with Overloaded."""

ASK_SECONDS: Final = 1.0  # for a node to say who leads
SILENT_FIRST_SECONDS: Final = 0.05  # for the others to say who leads, when the first has answered that it doesn't know
SILENT_SECONDS: Final = 1.0  # without a sign from a node that owes an answer: ask it for one ...
LOST_SECONDS: Final = 2.0  # ... and take it for lost when that doesn't come either
WATCH_SECONDS: Final = 0.5  # how often both are looked at while calls wait
HOPS_MAX: Final = 3  # from hint to hint before everybody is asked
PAUSE_FIRST_SECONDS: Final = 0.02
PAUSE_MAX_SECONDS: Final = 0.25

_LIFE_SIGN: Final = 0  # the request number of a question nobody waits for
_HOPELESS = (Refused, ProtocolError)


class Router:
    """The calls of one client: each is sent, sent again, and ended exactly once.

    Lives on the loop of its first call. Retries never make a call happen twice: a write carries its session's sequence,
    a query changes nothing.
    """

    def __init__(
        self,
        dialer: Dialer,
        endpoints: Iterable[str],
        *,
        random: Random | None = None,
        group: GroupId = DATA_GROUP,
    ) -> None:
        self.endpoints = list(endpoints)
        self.loop: asyncio.AbstractEventLoop
        self.on_expired: Callable[[Call], None]  # a write's session is not known to the cluster
        self.on_answered: Callable[[], None]  # writes were answered: there may be room for more
        self._group = group
        self._random = random or Random()
        self._calls: dict[int, Call] = {}  # all that have not ended
        self._next_number = 1
        self._parked: list[Call] = []  # wait until somebody leads
        self._leader: Link | None = None
        self._hint: str | None = None  # where somebody said that the leader is
        self._hops = 0  # hints followed since the last answer
        self._misses = 0  # pauses made since the last answer
        self._trouble = "nobody was asked yet"
        self._links = Links(dialer, self._on_replies, self._on_lost)
        self._doubt = Doubt(
            ask=self._ask,
            get=self._links.get,
            waits=self._waits,
            move=self._move,
            endpoints=self.endpoints,
            group=group,
            random=self._random,
        )
        self._routing: asyncio.Task[None] | None = None
        self._pausing: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._is_closed = False
        self._is_started = False

    # --- what a client calls ---

    def begin(self, kind: int, asked: Any, body: bytes, timeout: float) -> Call:
        """A call that will end within `timeout` seconds; `send` it. Raises Overloaded or Unavailable at once."""
        running = asyncio.get_running_loop()
        if not self._is_started:
            self.loop = running
            self._is_started = True
        elif self.loop is not running:
            raise InvalidArgument("this client was used on another event loop before: make one for each loop")
        if self._is_closed:
            raise Unavailable("this client is closed: make a new one")
        if len(self._calls) >= CALLS_MAX:
            raise Overloaded(f"{CALLS_MAX:,} calls wait in this client already: send again later")
        loop = self.loop
        now = loop.time()
        call = Call(kind, asked, body, now + timeout, loop.create_future())
        call.number = number = self._next_number
        self._next_number = number + 1
        if not self._calls:
            self._doubt.on_busy(now)
        self._calls[number] = call
        if self._timer is None or call.deadline < self._timer_due:
            self._arm(min(call.deadline, now + WATCH_SECONDS))
        if not self._doubt.is_watching:
            self._doubt.watch(self._check_leader, now + self._doubt.patience.seconds)
        return call

    def send(self, call: Call) -> None:
        """Send a call to the leader, now or as soon as there is one."""
        if self._leader is not None:
            self._transmit(call, self._leader)
        else:
            self._parked.append(call)
            self._start_routing()

    async def ask(self, address: str, timeout: float = ASK_SECONDS) -> dict[str, Any]:
        """The status of the node at `address`. Raises Unavailable, DeadlineExceeded, Refused or ProtocolError."""
        _, report = await self._ask(address, timeout)
        return report

    async def close(self) -> None:
        """End everything: what was on its way has an unknown outcome, the rest had no effect."""
        if self._is_closed:
            return
        self._is_closed = True
        if not self._is_started:
            return
        for handle in (self._timer, self._pausing):
            if handle is not None:
                handle.cancel()
        if self._routing is not None:
            self._routing.cancel()
            await asyncio.gather(self._routing, return_exceptions=True)
        await self._doubt.close()
        for call in [*self._calls.values()]:
            self.fail(call, unanswered(call, "the client was closed", self._trouble))
        await self._links.close()

    # --- one call ---

    def _transmit(self, call: Call, link: Link) -> None:
        if call.future.done():
            self.end(call)
            return
        call.link = link
        patience = self._doubt.patience
        if not patience.sampled and link is self._leader:
            patience.begin(call.number, self.loop.time())
        try:
            link.connection.send(wire.encode_request(call.kind, self._group, call.number, call.body))
        except LimitExceeded as error:
            call.link = None
            self.fail(call, error)

    def end(self, call: Call) -> None:
        """Nobody waits for it any more."""
        if self._calls.pop(call.number, None) is not None and call.session is not None:
            call.session.on_answered(call.sequence)

    def fail(self, call: Call, error: Exception) -> None:
        """End a call with an error."""
        self.end(call)
        if not call.future.done():
            call.future.set_exception(error)

    # --- what comes back ---

    def _on_replies(self, link: Link, packets: Sequence[bytes]) -> None:
        calls = self._calls
        link.heard_at = now = self.loop.time()
        link.asked_at = None
        patience = self._doubt.patience
        for packet in packets:
            number, status, body = wire.decode_reply(packet)
            if number == patience.sampled:
                patience.end(now)
            call = calls.get(number)
            if call is None or call.link is not link:
                continue  # ended already, or on its way elsewhere
            if status == wire.OK:
                if call.kind != wire.STATUS:  # those are answered by nodes that don't lead, too
                    self._hops = self._misses = 0
                del calls[number]
                if call.session is not None:
                    call.session.on_answered(call.sequence)
                if not call.future.done():
                    call.future.set_result(body)
            else:
                self._on_refusal(call, link, status, body)
        self.on_answered()

    def _on_refusal(self, call: Call, link: Link, status: int, body: bytes) -> None:
        error = final_error(status, body)
        if error is not None:
            self.fail(call, error)
            return
        call.link = None
        if status == wire.SESSION_EXPIRED:
            self._on_session_expired(call)
        elif status == wire.NOT_LEADER:
            self._parked.append(call)
            self._on_not_leader(link, body)
        elif status == wire.UNKNOWN:
            call.is_unsure = True
            self._parked.append(call)
            self._trouble = f"{link.address}: {reply_text(body)}"
            self._leader_lost(link)
        else:  # OVERLOADED, DROPPED, REFUSED, DISK_FULL: it had no effect, and may have one a moment later
            self._trouble = f"{link.address}: {reply_text(body)}"
            call.full = reply_text(body) if status == wire.DISK_FULL else ""
            self._parked.append(call)
            self._start_pause()

    def _on_session_expired(self, call: Call) -> None:
        if call.is_unsure:
            why = "the cluster has forgotten this client's session, and an earlier attempt may have been applied"
            self.on_expired(call)
            self.fail(call, OutcomeUnknown(call.what, why))
        else:
            self.on_expired(call)

    def _on_not_leader(self, link: Link, body: bytes) -> None:
        try:
            leader, address = msgspec.msgpack.decode(body, type=tuple[str | None, str | None])
        except msgspec.MsgspecError:
            leader = address = None
        self._trouble = f"{link.address} doesn't lead" + (
            f", {leader} does" if leader else ", and knows nobody who does"
        )
        if address and address != link.address and self._leader in (None, link):
            self._hint = address
        self._leader_lost(link)

    def _on_lost(self, link: Link, reason: str) -> None:
        """A link ended: what was on its way there may have arrived."""
        self._links.forget(link)
        self._trouble = reason
        for call in [*self._calls.values()]:
            if call.link is link and call.kind == wire.STATUS:
                self.fail(call, Unavailable(reason))
        self._park_all(link)
        self._leader_lost(link)

    def _park_all(self, link: Link) -> None:
        """What is on its way by `link` is to go another way; it may have arrived."""
        for call in self._calls.values():
            if call.link is link and call.kind != wire.STATUS:
                call.link = None
                if call.kind in CHANGING:
                    call.is_unsure = True
                self._parked.append(call)

    # --- who leads ---

    def _leader_lost(self, link: Link) -> None:
        if self._leader is link:
            self._leader = None
        if self._parked:
            self._start_routing()

    def _start_routing(self) -> None:
        if self._pausing is not None or self._is_closed:
            return
        if self._leader is not None:
            self._lead(self._leader)
        elif self._routing is None or self._routing.done():
            self._routing = self.loop.create_task(self._route())

    def _start_pause(self) -> None:
        """Parked calls go on after a moment."""
        if self._pausing is None and not self._is_closed:
            self._pausing = self.loop.call_later(self._pause_seconds(), self._on_pause_over)

    def _on_pause_over(self) -> None:
        self._pausing = None
        if self._parked:
            self._start_routing()

    def _pause_seconds(self) -> float:
        """Longer each time until an answer comes, with jitter so that clients don't come in step."""
        self._misses += 1
        longest: float = min(PAUSE_MAX_SECONDS, PAUSE_FIRST_SECONDS * 2 ** min(self._misses, 10))
        return longest * self._random.uniform(0.5, 1.0)

    async def _route(self) -> None:
        """Find who leads and hand over what waits; ends when nothing waits."""
        while self._parked:
            term = 0
            if self._may_follow():
                link = await self._follow_hint()
            else:
                link, term = await self._survey()
            if link is not None and self._links.has(link):
                self._doubt.on_leader(term)
                self._lead(link)
                return
            if not self._may_follow():
                self._hops = 0
                await asyncio.sleep(self._pause_seconds())
            self._parked = [call for call in self._parked if call.number in self._calls]

    def _may_follow(self) -> bool:
        return self._hint is not None and self._hops < HOPS_MAX

    async def _follow_hint(self) -> Link | None:
        hint, self._hint = self._hint, None
        assert hint is not None, "there is no hint to follow"
        self._hops += 1
        try:
            return await self._links.get(hint, ASK_SECONDS)
        except (Unavailable, *_HOPELESS) as error:
            self._trouble = str(error)
            return None

    def _check_leader(self) -> None:
        """Calls have waited for a while: is the leader silent, and does another lead by now?"""
        due = self._doubt.check(self._leader, self._calls, self.loop.time())
        if self._calls:
            self._doubt.watch(self._check_leader, due)

    def _waits(self, link: Link) -> bool:
        """Does any call wait for an answer from there?"""
        return any(call.link is link and call.kind != wire.STATUS for call in self._calls.values())

    def _move(self, leader: Link, successor: Link) -> None:
        """While `leader` was silent, another was elected."""
        if self._leader is leader and self._links.has(successor):
            self._trouble = f"{leader.address} was silent, and {successor.address} leads"
            self._park_all(leader)
            self._lead(successor)

    def _lead(self, link: Link) -> None:
        self._leader = link
        parked, self._parked = self._parked, []
        for call in parked:
            if call.number in self._calls:
                self._transmit(call, link)

    async def _survey(self) -> tuple[Link | None, int]:
        """Ask every known node who leads; the link to the first one that says it does, and its term.

        Once one has answered, those that are silent are waited for only as long as the trouble lasts already.
        """
        asking = {self.loop.create_task(self._ask_who_leads(address)) for address in self.endpoints}
        pending, errors, patience = asking, list[AegisError](), None
        try:
            while pending:
                done, pending = await asyncio.wait(pending, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
                for task in done:
                    try:
                        link, term = task.result()
                    except (Unavailable, DeadlineExceeded, *_HOPELESS) as error:
                        errors.append(error)
                        continue
                    if link is not None:
                        return link, term
                    patience = min(ASK_SECONDS, SILENT_FIRST_SECONDS * 2 ** min(self._misses, 10))
        finally:
            for task in asking:
                task.cancel()
        if errors:
            self._trouble = "; ".join(str(error) for error in errors)
        if len(errors) == len(asking) and all(isinstance(error, _HOPELESS) for error in errors):
            parked, self._parked = self._parked, []
            for call in parked:
                self.fail(call, errors[0])
        return None, 0

    async def _ask(self, address: str, timeout: float) -> tuple[Link, dict[str, Any]]:
        call = self.begin(wire.STATUS, f"status of {address}", b"", timeout)
        try:
            link = await self._links.get(address, timeout)
            self._transmit(call, link)
            report: dict[str, Any] = msgspec.msgpack.decode(await call.future)
        finally:
            self.end(call)
            look_at(call.future)
        self._learn(report)
        return link, report

    async def _ask_who_leads(self, address: str) -> tuple[Link | None, int]:
        link, report = await self._ask(address, ASK_SECONDS)
        group = report.get("groups", {}).get(str(self._group), {})
        if group.get("role") == "leader":
            return link, int(group.get("term", 0))
        leader = group.get("leader")
        self._trouble = f"{address} knows no leader" if leader is None else f"{address} says that {leader} leads"
        where = report.get("addresses", {}).get(leader)
        if where and where not in self.endpoints:
            self._hint = where
        return None, 0

    def _learn(self, report: dict[str, Any]) -> None:
        """Nodes that the cluster names are asked too from now on."""
        for address in report.get("addresses", {}).values():
            if address not in self.endpoints and len(self.endpoints) < ENDPOINTS_MAX:
                self.endpoints.append(address)

    # --- time ---

    def _arm(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_due = due
        self._timer = self.loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        """End calls that are due, look after the leader's silence, and sleep until the next of either."""
        self._timer = None
        now = self.loop.time()
        due = [call for call in self._calls.values() if call.deadline <= now]
        for call in due:
            self.fail(call, unanswered(call, "its time is over", self._trouble))
        if due:
            self.on_answered()
        if not self._calls:
            return
        leader = self._leader
        if leader is not None and self._waits(leader):
            self._watch(leader, now)
        if self._calls:
            self._arm(min(now + WATCH_SECONDS, *(call.deadline for call in self._calls.values())))

    def _watch(self, link: Link, now: float) -> None:
        """Is a node that owes answers still alive? A stopped process keeps its connections open."""
        if link.asked_at is None:
            if now - link.heard_at >= SILENT_SECONDS:
                link.asked_at = now
                link.connection.send(wire.encode_request(wire.STATUS, self._group, _LIFE_SIGN, b""))
        elif now - link.asked_at >= LOST_SECONDS:
            link.connection.close()
            self._on_lost(link, f"{link.address} gave no sign of life for {now - link.heard_at:.1f} s")
