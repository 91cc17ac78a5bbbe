"""The lock that makes one process of a service its leader: the interface, and the case of a home's file."""

from time import sleep
from typing import Protocol


class LeaderLock(Protocol):
    """A lock that one process at a time holds, until it releases it, ends or loses its connection.

    Each method but ``release`` raises ``database_unavailable`` if the database does not answer.
    """

    def try_acquire(self) -> bool:
        """Try to acquire the lock without waiting, and return whether this process holds it now."""
        ...

    def hold(self, seconds: float) -> bool:
        """Hold the lock while waiting at most some seconds; return whether another process called ``notify``.

        Raise an error if the lock was lost.
        """
        ...

    def notify(self) -> None:
        """Let the process that holds the lock return from ``hold``: the log has grown."""
        ...

    def release(self) -> None:
        """Release the lock, if it is held, and the connection."""
        ...


class SoleProcess:
    """The lock of a database that only one server can have open: the file of a home, which the server has locked."""

    def try_acquire(self) -> bool:
        """Return True."""
        return True

    def hold(self, seconds: float) -> bool:
        """Wait, and return False."""
        sleep(seconds)
        return False

    def notify(self) -> None:
        """Do nothing: there is no other process."""

    def release(self) -> None:
        """Do nothing."""
