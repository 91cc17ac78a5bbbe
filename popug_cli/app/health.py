"""The doctor's visit."""

from typing import TYPE_CHECKING

from popug_cli.kernel.errors import IntegrityFault
from popug_cli.messages.company import CheckHealth, Health, LedgerProof, VerifyLedger
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local import Local


def check_health(place: "Local", message: CheckHealth, principal: Principal) -> Health:
    """Check every invariant on one snapshot, once all consumers are up to date."""
    from popug_cli.audit.doctor import examine

    _catch_up(place)
    with place.runtime.reading(principal) as context:
        return examine(context)


def verify_ledger(place: "Local", message: VerifyLedger, principal: Principal) -> LedgerProof:
    """Prove log, ledger and draws on one snapshot, once all consumers are up to date."""
    from popug_cli.audit.doctor import prove

    _catch_up(place)
    with place.runtime.reading(principal) as context:
        return prove(context, message.head)


def _catch_up(place: "Local") -> None:
    """Let all consumers catch up; what keeps them from it is for the checks to find."""
    try:
        place.catch_up()
    except (IntegrityFault, UnicodeError) as fault:
        place.warn(f"Not everybody could catch up: {fault}")
