"""Store the answers of commands with an idempotency key, so that a repeated command is answered without a new effect.

``app/hosting/idempotency.py`` calls it, normally in the transaction of the effect. If a query determines the answer,
that query is stored with the effect, and the answer later (``IdempotencyGuard.flush``). The answer of a command of
several transactions is stored after them.
"""

from datetime import timedelta
from hashlib import sha256
from typing import Any

import msgspec

from popug_cli.bus.context import Context
from popug_cli.kernel.clock import to_rfc3339
from popug_cli.kernel.errors import Conflict, InvalidInput
from popug_cli.messages.base import DECLARATIONS, Declaration, Message, Query

RETENTION = timedelta(hours=24)
MAX_KEY_CHARACTERS = 255


class IdempotentCommand(msgspec.Struct, frozen=True):
    """A command with an idempotency key: its user, its message name, and the SHA-256 of the message as JSON."""

    user_id: str
    message: str
    idempotency_key: str
    digest: str


class StoredAnswer(msgspec.Struct, frozen=True):
    """A stored answer as JSON, or the query that returns it, as its name and JSON."""

    digest: str
    answer: str | None
    query_message: str | None
    query: str | None

    def next_query(self) -> Query[Any]:
        """Return the query that returns the answer; only for one that was stored with a query."""
        assert self.query is not None
        kind = next(
            declaration.message for declaration in DECLARATIONS.values() if declaration.name == self.query_message
        )
        query = msgspec.json.decode(self.query, type=kind)
        assert isinstance(query, Query)
        return query


def request_of(user_id: str, declaration: Declaration, message: Message[Any], key: str) -> IdempotentCommand:
    """Return the command with its idempotency key; raise ``invalid_idempotency_key``."""
    if declaration.is_secret:
        raise _invalid_key(
            f"`popug {declaration.command_line}` carries or returns a secret, which is not stored", "Omit the key."
        )
    if not (0 < len(key) <= MAX_KEY_CHARACTERS and key.isascii() and key.isprintable()):
        raise _invalid_key("the key is not 1 to 255 printable ASCII characters", "Use a new UUID for each command.")
    digest = sha256(msgspec.json.encode(message)).hexdigest()
    return IdempotentCommand(user_id, declaration.name, key, digest)


def find(context: Context, request: IdempotentCommand) -> StoredAnswer | None:
    """Return the answer stored in the last 24 hours, or None.

    Raise ``idempotency_conflict`` if the user sent the same command with other arguments under this key. A key of
    another user or another command is a different one.
    """
    statement = (
        "SELECT digest, answer, query_message, query FROM bus_replies"
        " WHERE user_id = :user_id AND message = :message AND request_key = :idempotency_key AND kept_at >= :since"
    )
    parameters = msgspec.structs.asdict(request) | {"since": to_rfc3339(context.now - RETENTION)}
    row = context.connection.record(statement, **parameters)
    if row is None:
        return None
    stored = msgspec.convert(row, StoredAnswer)
    if stored.digest != request.digest:
        raise Conflict(
            "idempotency_conflict",
            "The same Idempotency-Key was used for this command with other arguments before.",
            hint="Use a new key for each command. Repeat a key only to send the same command again.",
            details={"idempotency_key": request.idempotency_key},
        )
    return stored


def save(context: Context, request: IdempotentCommand, answer: Any) -> None:
    """Store an answer, or the query that returns it, in the context's transaction; delete expired answers.

    An answer is added to the query that was stored for the same command earlier.
    """
    is_query = isinstance(answer, Query)
    encoded = msgspec.json.encode(answer).decode()
    context.connection.execute(
        "DELETE FROM bus_replies WHERE kept_at < :before", before=to_rfc3339(context.now - RETENTION)
    )
    context.connection.execute(
        "INSERT INTO bus_replies"
        " (user_id, message, request_key, digest, kept_at, answer, query_message, query)"
        " VALUES (:user_id, :message, :idempotency_key, :digest, :kept_at, :answer, :query_message, :query)"
        " ON CONFLICT (user_id, message, request_key) DO UPDATE SET answer = excluded.answer",
        **msgspec.structs.asdict(request)
        | {
            "kept_at": to_rfc3339(context.now),
            "answer": None if is_query else encoded,
            "query_message": DECLARATIONS[type(answer)].name if is_query else None,
            "query": encoded if is_query else None,
        },
    )


def _invalid_key(reason: str, hint: str) -> InvalidInput:
    return InvalidInput("invalid_idempotency_key", f"The Idempotency-Key is not accepted: {reason}.", hint=hint)
