"""The services of a cluster: the consumers that each one runs, and the events of other services that it receives.

A service is a module that shares no database with the others. It receives the events that its consumers consume and
those that its answers read from the log; its log has no others. Names are those of events in any version.
"""

from collections.abc import Mapping
from typing import NamedTuple


class ServiceParts(NamedTuple):
    """The parts of a service: the modules whose consumers it runs, and the names of received events by origin."""

    consumers: tuple[str, ...]
    subscriptions: Mapping[str, frozenset[str]]


def _names(origin: str, *names: str) -> frozenset[str]:
    return frozenset(f"popug.{origin}.{name}" for name in names)


# What each service needs to verify tokens, and to refuse those that are void.
_TOKEN_EVENTS = _names(
    "identity",
    "key_published",
    "token_issued",
    "token_revoked",
    "password_changed",
    "user_role_changed",
    "user_deactivated",
)

SERVICES: Mapping[str, ServiceParts] = {
    "identity": ServiceParts((), {}),
    "tasks": ServiceParts(
        ("tasks",),
        {
            "identity": _TOKEN_EVENTS | _names("identity", "user_registered", "user_reactivated"),
            "billing": _names("billing", "task_priced"),
        },
    ),
    "billing": ServiceParts(
        ("billing",),
        {
            "identity": _TOKEN_EVENTS | _names("identity", "user_registered"),
            # explanations read who requested a shuffle
            "tasks": _names(
                "tasks", "task_created", "task_assigned", "task_completed", "shuffle_requested", "day_ended"
            ),
        },
    ),
    "analytics": ServiceParts(
        ("analytics",),
        {
            "identity": _TOKEN_EVENTS | _names("identity", "user_registered"),
            "tasks": _names("tasks", "task_created", "task_completed"),
            "billing": _names("billing", "task_priced", "entry_posted", "day_closed"),
        },
    ),
    "mail": ServiceParts(
        ("mail",),
        {
            "identity": _TOKEN_EVENTS | _names("identity", "user_registered", "user_reactivated", "user_email_changed"),
            "billing": _names("billing", "payout_made", "day_closed"),
        },
    ),
}


def receivers_of(origin: str) -> tuple[str, ...]:
    """Return the services that receive events of a service."""
    return tuple(name for name, parts in SERVICES.items() if origin in parts.subscriptions)
