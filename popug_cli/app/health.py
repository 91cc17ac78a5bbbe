"""The doctor's visit."""

from typing import TYPE_CHECKING

from popug_cli.messages.company import CheckHealth, Health, LedgerProof, VerifyLedger
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local import Local


def check_health(place: "Local", message: CheckHealth, principal: Principal) -> Health:
    """Check every invariant on one snapshot, once all consumers are up to date."""
    from popug_cli.audit.doctor import examine

    place.catch_up()
    with place.runtime.reading(principal) as context:
        return examine(context)


def verify_ledger(place: "Local", message: VerifyLedger, principal: Principal) -> LedgerProof:
    """Prove log, ledger and draws on one snapshot, once all consumers are up to date."""
    from popug_cli.audit.doctor import prove

    place.catch_up()
    with place.runtime.reading(principal) as context:
        return prove(context, message.head)
