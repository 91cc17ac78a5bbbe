"""Retry and drop dead letters, then let the consumers catch up."""

from typing import TYPE_CHECKING

from popug_cli.app.asking import CompanySnapshot
from popug_cli.bus import dead_letters
from popug_cli.bus.context import Context
from popug_cli.bus.queries import document
from popug_cli.kernel.errors import InvalidInput
from popug_cli.messages.bus import DropDeadLetter, DroppedLetter, RetryDeadLetters, RetryResult
from popug_cli.messages.internal.billing import GetAmountsAtStake
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend


def retry_dead_letters(backend: "LocalBackend", message: RetryDeadLetters, principal: Principal) -> RetryResult:
    """Retry one parked event now, or all dead letters and pending retries, then run the consumers.

    Raise ``usage`` for one of another service.
    """
    _require_own(backend, message.service, message.dead_id)

    def retry(context: Context) -> RetryResult:
        return dead_letters.retry(context, backend.consumers, message.dead_id)

    answer = backend.write(message, principal, retry)
    backend.catch_up(completely=True)
    return answer


def drop_dead_letter(backend: "LocalBackend", message: DropDeadLetter, principal: Principal) -> DroppedLetter:
    """Discard a dead letter, then run the consumers for the events that waited behind it.

    Raise ``usage`` for one of another service.
    """
    _require_own(backend, message.service, message.dead_id)

    def drop(context: Context) -> DroppedLetter:
        has_money = dead_letters.find(context, message.dead_id).consumer == "billing"
        asked = GetAmountsAtStake(dead_id=message.dead_id)
        amounts = CompanySnapshot(context).ask(asked).cents if has_money else {}
        letter = dead_letters.drop(context, message.dead_id, message.reason)
        type_ = str(document(letter.sequence, letter.envelope).get("type"))
        return DroppedLetter(dead_letters.event_id_of(letter), type_, letter.consumer, amounts.get(message.dead_id, 0))

    dropped = backend.write(message, principal, drop)
    backend.catch_up(completely=True)
    return dropped


def _require_own(backend: "LocalBackend", service: str | None, dead_id: int | None) -> None:
    if service not in {None, backend.runtime.service}:
        raise InvalidInput(
            "usage",
            f"{service}:{dead_id} is a dead letter of a service of a cluster, and this is not that service.",
            hint="Run `popug events dead` for the numbers.",
        )
