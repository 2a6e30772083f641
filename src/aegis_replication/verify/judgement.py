"""Is a history linearizable? One answer for the whole file, with the bound on the work that a hopeless one may cost."""

import msgspec

from aegis_replication.simulation.checkers.linearizability import Undecided, check
from aegis_replication.verify.history import History


class Judgement(msgspec.Struct, frozen=True):
    """What the checker says."""

    linearizable: bool | None  # None: undecided, the history has too many orders to try
    why: str = ""


def judge(history: History) -> Judgement:
    """Look for one order per key that explains every answer (linearizability is local, so keys are judged apart)."""
    try:
        anomaly = check(history.operations())
    except Undecided as undecided:
        return Judgement(None, str(undecided))
    return Judgement(True) if anomaly is None else Judgement(False, str(anomaly))
