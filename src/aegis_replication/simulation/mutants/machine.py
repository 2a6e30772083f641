"""Which mistakes can be made with a client's session? (thesis §6.3)"""

from collections.abc import Iterator, Sequence
from typing import Any

from aegis_replication.log import Entry
from aegis_replication.simulation.mutants.mutant import Mutant, around, instead
from aegis_replication.state_machine.base import REFUSED, Failure
from aegis_replication.state_machine.sessions import SessionMachine


def _open_unknown(apply: Any, machine: SessionMachine, entry: Entry) -> Sequence[Any]:
    for name, sequence, _, _ in machine._decode(entry):
        if name and sequence and name not in machine._sessions:
            machine._open(name, None, entry.stamp)
    results: Sequence[Any] = apply(machine, entry)
    return results


def _remember_refusals(apply: Any, machine: SessionMachine, entry: Entry) -> Sequence[Any]:
    results: Sequence[Any] = apply(machine, entry)
    for (name, sequence, _, _), result in zip(machine._decode(entry), results, strict=True):
        session = machine._sessions.get(name)
        if session is not None and type(result) is Failure and result.status == REFUSED and sequence >= session.floor:
            session.results[sequence] = result
    return results


def _forget_results(apply: Any, machine: SessionMachine, entry: Entry) -> Sequence[Any]:
    for session in machine._sessions.values():
        session.results.clear()
    results: Sequence[Any] = apply(machine, entry)
    return results


def _freeze_without_sessions(machine: SessionMachine) -> Iterator[bytes]:
    return machine._pieces([], machine.inner.freeze())


MACHINE = (
    Mutant(
        "forgotten_session_is_new",
        "a command of a session that was forgotten is applied as new",
        (around(SessionMachine, "apply", _open_unknown),),
    ),
    Mutant(
        "refusal_remembered",
        "a refused command is remembered, and refused for ever",
        (around(SessionMachine, "apply", _remember_refusals),),
    ),
    Mutant(
        "retry_applied_again",
        "the results of earlier commands are not kept",
        (around(SessionMachine, "apply", _forget_results),),
    ),
    Mutant(
        "sessions_not_in_snapshot",
        "the table of sessions is not in the snapshot",
        (instead(SessionMachine, "freeze", _freeze_without_sessions),),
    ),
)
