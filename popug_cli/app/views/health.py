"""Run the health checks."""

import stat
from typing import TYPE_CHECKING

from popug_cli.kernel.errors import IntegrityViolation, PopugError
from popug_cli.kernel.home import Home
from popug_cli.kernel.text import counted
from popug_cli.messages.company import Check, CheckHealth, Health, LedgerProof, VerifyLedger
from popug_cli.messages.identity import ListUsers
from popug_cli.messages.principal import Principal
from popug_cli.platform.files import OWNER_ONLY_DIRECTORY

if TYPE_CHECKING:
    from popug_cli.app.local_backend import LocalBackend
    from popug_cli.bus.context import Runtime

KEYS_CHECK = "keys"


def check_health(backend: "LocalBackend", message: CheckHealth, principal: Principal) -> Health:
    """Run the consumers, then all checks of the doctor on one snapshot, and check the keys."""
    from popug_cli.audit.doctor import examine
    from popug_cli.audit.result import health_of
    from popug_cli.audit.shared_database import server_checks, snapshot_as_file

    _catch_up(backend)
    runtime = backend.runtime
    with runtime.reading(principal) as context, snapshot_as_file(runtime, context) as copy:
        health = examine(copy, is_file_checked=backend.is_file_checked)
        on_server = server_checks(context, copy, runtime.database.address) if runtime.database.is_shared else []
    replaced = {check.name for check in on_server}
    checks = [*(check for check in health.checks if check.name not in replaced), *on_server]
    keys = _check_keys(backend.home, runtime)
    if not keys.ok and _has_no_users(backend, principal):
        keys = Check(
            KEYS_CHECK, True, "there are no users yet; `popug init` creates the first key with the first admin"
        )
    return health_of([*checks, keys], health.head)


def verify_ledger(backend: "LocalBackend", message: VerifyLedger, principal: Principal) -> LedgerProof:
    """Run the consumers, then verify log, ledger and draws on one snapshot."""
    from popug_cli.audit.doctor import prove
    from popug_cli.audit.shared_database import snapshot_as_file

    _catch_up(backend)
    runtime = backend.runtime
    with runtime.reading(principal) as context, snapshot_as_file(runtime, context) as copy:
        return prove(copy, message.head)


def _check_keys(home: Home, runtime: "Runtime") -> Check:
    """Check that the keys can sign and verify tokens, and that only the owner can read them.

    A copy of a database has no keys, nor has a service of a cluster other than identity. Nor has a home from which the
    operator looks at a database of other homes.
    """
    from popug_cli.identity.keys import active_key_id, public_keys
    from popug_cli.identity.published_keys import SIGNING_SERVICES

    if runtime.service not in SIGNING_SERVICES:
        return Check(KEYS_CHECK, True, f"{runtime.service} signs no token")
    if runtime.database.is_shared and not active_key_id(home):
        return Check(KEYS_CHECK, True, "this home signs no token; each process of identity makes a key for its home")
    if not home.keys.exists() and not home.backups.exists():
        return Check(KEYS_CHECK, True, "this is a copy, which has no keys")
    try:
        count = len(public_keys(home))
        mode = stat.S_IMODE(home.keys.stat().st_mode)
    except PopugError as error:
        return Check(KEYS_CHECK, False, f"{error.message} {error.hint}")
    if mode & ~OWNER_ONLY_DIRECTORY:
        return Check(KEYS_CHECK, False, f"Other users can access {home.keys}. Run `chmod 700 {home.keys}`.")
    return Check(KEYS_CHECK, True, f"{counted(count, 'key')}, open to the owner only")


def _has_no_users(backend: "LocalBackend", principal: Principal) -> bool:
    """Return whether `popug init` was interrupted before the first user; False if the database cannot be read."""
    try:
        with backend.asking(principal, is_command=True) as company:
            return not company.ask(ListUsers(limit=1)).users
    except PopugError:
        return False


def _catch_up(backend: "LocalBackend") -> None:
    """Run the consumers. Damage only causes a warning here, because the checks report it."""
    from popug_cli.audit.doctor import CORRUPTION_ERRORS

    try:
        backend.catch_up(completely=True)
    except (IntegrityViolation, *CORRUPTION_ERRORS) as error:
        backend.warn(f"Not all consumers could catch up: {error}")
