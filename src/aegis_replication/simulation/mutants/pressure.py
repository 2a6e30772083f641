"""Which mistakes can be made with the bounds on what a leader takes?"""

from typing import Any

from aegis_replication.engine.intake import Intake
from aegis_replication.ids import LogIndex
from aegis_replication.simulation.mutants.mutant import Mutant, around, instead


def _there_is_room(intake: Intake, size_bytes: int, applied: LogIndex) -> str:
    return ""


def _only_the_log_counts(why_no_room: Any, intake: Intake, size_bytes: int, applied: LogIndex) -> str:
    """What waits for its entry has cost nothing yet, as if the log were all that takes memory."""
    size, intake.size_bytes = intake.size_bytes, 0
    result: str = why_no_room(intake, size_bytes, applied)
    intake.size_bytes = size
    return result


PRESSURE = (
    Mutant(
        "room_not_checked",
        "a leader takes every command, however much is uncommitted or not applied",
        (instead(Intake, "_why_no_room", _there_is_room),),
    ),
    Mutant(
        "waiting_not_counted",
        "commands that wait for their entry don't count among what a leader holds",
        (around(Intake, "_why_no_room", _only_the_log_counts),),
    ),
)
