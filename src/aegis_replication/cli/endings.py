"""Which exit code does each kind of trouble get? The contract with scripts."""

from typing import Final

from aegis_replication.errors import (
    AegisError,
    ChangeRefused,
    ConfigError,
    DeadlineExceeded,
    InvalidArgument,
    OutcomeUnknown,
    Retryable,
    SessionExpired,
    UnknownMember,
)

OK: Final = 0
ERROR: Final = 1
USAGE: Final = 2
UNAVAILABLE: Final = 3
NOT_FOUND: Final = 4
CONFLICT: Final = 5
OUTCOME_UNKNOWN: Final = 6
UNHEALTHY: Final = 7
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141
"""What a shell reports of a program that SIGPIPE ended."""


class NotFound(AegisError):
    """What was asked for isn't there."""


class Conflict(AegisError):
    """The state isn't what the caller expected; nothing was changed."""


class Unhealthy(AegisError):
    """The cluster answers, but not as it should."""


# The first that fits counts.
_CODES: Final = (
    (NotFound, NOT_FOUND),
    (Conflict, CONFLICT),
    (UnknownMember, NOT_FOUND),
    (ChangeRefused, CONFLICT),
    (Unhealthy, UNHEALTHY),
    (OutcomeUnknown, OUTCOME_UNKNOWN),
    (SessionExpired, OUTCOME_UNKNOWN),
    (Retryable, UNAVAILABLE),
    (DeadlineExceeded, UNAVAILABLE),
    (ConfigError, USAGE),
    (InvalidArgument, USAGE),
)


def ending_of(error: BaseException) -> int:
    """The exit code that belongs to `error`."""
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    return ERROR
