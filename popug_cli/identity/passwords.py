"""Password hashing with argon2id, parameters from the settings."""

from typing import TYPE_CHECKING

from popug_cli.bus.context import Context, PasswordWork
from popug_cli.identity.rules import MAX_PASSWORD_CHARACTERS, normalize_password
from popug_cli.kernel.errors import Unavailable

if TYPE_CHECKING:
    from argon2 import PasswordHasher

SALT_BYTES = 16
RESOURCE_ERROR_TEXTS = (
    "Memory allocation error",
    "Threading failure",
)  # argon2's messages when the system refuses memory or threads


def hash_password(password: str, context: Context) -> str:
    """Return the hash of a password with its salt and parameters (PHC string); compute it unless it was prepared.

    Raise ``io_error`` if memory or threads are missing.
    """
    if context.password_work.new_hash is not None:
        return context.password_work.new_hash
    from argon2.exceptions import HashingError

    try:
        return _hasher(context).hash(_encoded(password), salt=context.randomness.bytes(SALT_BYTES))
    except HashingError as error:
        if str(error) in RESOURCE_ERROR_TEXTS:
            raise _resource_error(error) from error
        raise


def is_password(password: str, password_hash: str | None, context: Context) -> bool:
    """Return whether the password matches the hash. Without a hash, hash the password, to take the same time.

    Raise ``io_error`` if memory or threads are missing.
    """
    from argon2.exceptions import InvalidHashError, VerificationError

    prepared = context.password_work
    if prepared.matches is not None and prepared.compared_hash == password_hash:
        return prepared.matches
    if password_hash is None:
        hash_password(password, context)
        return False
    try:
        return _hasher(context).verify(password_hash, _encoded(password))
    except InvalidHashError:
        return False
    except VerificationError as error:
        if str(error) in RESOURCE_ERROR_TEXTS:
            raise _resource_error(error) from error
        return False


def _resource_error(error: Exception) -> Unavailable:
    return Unavailable(
        "io_error",
        f"There is not enough memory, or no thread, to check a password ({error}).",
        hint="Free some and try again, or lower identity.argon2_memory_kib or identity.argon2_parallelism.",
    )


def hash_ahead(password: str | None, context: Context) -> PasswordWork:
    """Hash the password of a message, if it has one; ``hash_password`` will return that hash."""
    return PasswordWork() if password is None else PasswordWork(new_hash=hash_password(password, context))


def compare_ahead(password: str, password_hash: str | None, context: Context) -> PasswordWork:
    """Compare the password with a hash; ``is_password`` will return that result, unless the user's hash has changed."""
    return PasswordWork(compared_hash=password_hash, matches=is_password(password, password_hash, context))


def needs_rehash(password_hash: str, context: Context) -> bool:
    """Return whether a hash was made with other parameters than those of the settings."""
    return _hasher(context).check_needs_rehash(password_hash)


def _encoded(password: str) -> bytes:
    """Return the normalized password as bytes; cut it if it is longer than any password may be."""
    return normalize_password(password[: MAX_PASSWORD_CHARACTERS + 1]).encode("utf-8", "surrogatepass")


def _hasher(context: Context) -> "PasswordHasher":
    from argon2 import PasswordHasher

    return PasswordHasher(
        time_cost=context.settings.number("identity.argon2_time_cost"),
        memory_cost=context.settings.number("identity.argon2_memory_kib"),
        parallelism=context.settings.number("identity.argon2_parallelism"),
    )
