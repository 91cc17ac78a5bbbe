"""The part of the caller's day that identity knows: the changes of the caller's role."""

from popug_cli.bus.context import Context
from popug_cli.messages.identity import UserRoleChanged
from popug_cli.messages.internal.identity import ListRoleChanges, RoleChange, RoleChanges


def list_role_changes(message: ListRoleChanges, context: Context) -> RoleChanges:
    """Return the changes of the caller's role after a position in the log, oldest first."""
    events = context.log.by_subject(context.principal.user_id, UserRoleChanged)
    changes = [
        RoleChange(event.sequence, event.time, event.actor, event.data.new_role)
        for event in events
        if event.sequence > message.after and isinstance(event.data, UserRoleChanged)
    ]
    return RoleChanges(changes)
