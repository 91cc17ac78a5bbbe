"""The doctor's visit."""

import stat
from typing import TYPE_CHECKING

from popug_cli.kernel.errors import IntegrityFault, PopugError
from popug_cli.kernel.home import OWNER_ONLY_DIRECTORY, Home
from popug_cli.messages.company import Check, CheckHealth, Health, LedgerProof, VerifyLedger
from popug_cli.messages.principal import Principal

if TYPE_CHECKING:
    from popug_cli.app.local import Local

KEYS = "keys"


def check_health(place: "Local", message: CheckHealth, principal: Principal) -> Health:
    """Check every invariant on one snapshot, once all consumers are up to date."""
    from popug_cli.audit.doctor import examine

    _catch_up(place)
    with place.runtime.reading(principal) as context:
        found = examine(context)
    keys = _keys(place.home)
    if not keys.ok and _is_nobody_here(place, principal):
        keys = Check(KEYS, True, "nobody is here yet; `popug init` makes the first key with the first admin")
    return Health(ok=found.ok and keys.ok, checks=[*found.checks, keys], head=found.head)


def verify_ledger(place: "Local", message: VerifyLedger, principal: Principal) -> LedgerProof:
    """Prove log, ledger and draws on one snapshot, once all consumers are up to date."""
    from popug_cli.audit.doctor import prove

    _catch_up(place)
    with place.runtime.reading(principal) as context:
        return prove(context, message.head)


def _keys(home: Home) -> Check:
    """Whether the keys can sign and prove tokens, and nobody else can read them; a copy of a database has none."""
    from popug_cli.identity.keys import public_keys

    if not home.keys.exists() and not home.backups.exists():
        return Check(KEYS, True, "there are no keys here, this is a copy")
    try:
        count = len(public_keys(home))
        mode = stat.S_IMODE(home.keys.stat().st_mode)
    except PopugError as fault:
        return Check(KEYS, False, f"{fault.message} {fault.hint}")
    if mode & ~OWNER_ONLY_DIRECTORY:
        return Check(KEYS, False, f"Others can look into {home.keys}. Run `chmod 700 {home.keys}`.")
    return Check(KEYS, True, f"{count} {'key' if count == 1 else 'keys'}, open to the owner only")


def _is_nobody_here(place: "Local", principal: Principal) -> bool:
    """Whether the founding was cut short before there was anybody; a database that cannot say so is no such."""
    from popug_cli.identity.people import is_anybody

    try:
        with place.runtime.reading(principal) as context:
            return not is_anybody(context)
    except PopugError:
        return False


def _catch_up(place: "Local") -> None:
    """Let all consumers catch up; what keeps them from it is for the checks to find."""
    try:
        place.catch_up()
    except (IntegrityFault, UnicodeError) as fault:
        place.warn(f"Not everybody could catch up: {fault}")
