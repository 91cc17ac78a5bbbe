"""The threads of a service's leader that link its log with those of the other services.

One thread relays. Each log that the service receives has a thread that replicates it, so events of identity never wait
behind those of billing. A commit that makes the log longer wakes the relay at once. Without such a commit, the relay
sends a watermark each second.
"""

from collections.abc import Callable, Mapping
from functools import partial
from threading import Event, Thread

from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.bus.service.coverage import includes_of
from popug_cli.bus.service.restore import require_own_database
from popug_cli.bus.streams import StreamVerdict
from popug_cli.cluster.links import Topic, relay_once, replicate_once
from popug_cli.kernel.errors import InternalError, PopugError
from popug_cli.kernel.log import LOG, log_error
from popug_cli.messages.principal import ANONYMOUS
from popug_cli.messages.services import SERVICES

WATERMARK_SECONDS = 1.0
RETRY_SECONDS = 1.0
READ_SECONDS = 1.0


class LinkThreads:
    """The relay and the replicators of the service that ``company`` serves; ``topics`` are those of all services.

    ``stop`` closes the topics.
    """

    def __init__(self, company: ServedCompany, topics: Mapping[str, Topic]) -> None:
        self._company = company
        self._topics = topics
        self._stopping, self._wake = Event(), Event()
        self._consumers = company.open_backend(LOG.warning).consumers
        self.service = company.runtime.service
        origins = SERVICES[self.service].subscriptions
        steps = {"relay": self._relay, **{origin: partial(self._replicate, origin) for origin in origins}}
        self._threads = [
            Thread(target=self._run, args=(step,), name=f"{self.service} {name}", daemon=True)
            for name, step in steps.items()
        ]

    def start(self) -> None:
        """Start the threads.

        Raise ``copied_database`` if the database is a copy of that of the service, ``newer_database`` if a newer popug
        has migrated it.
        """
        with self._company.runtime.reading(ANONYMOUS) as context:
            context.connection.refuse_newer()
            require_own_database(context)
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Let the relay send new events at once; otherwise it looks for them each ``WATERMARK_SECONDS``."""
        self._wake.set()

    def check(self) -> None:
        """Raise ``internal`` if a thread has ended because of a bug, whose traceback Python has written to stderr."""
        if not self._stopping.is_set() and any(not thread.is_alive() for thread in self._threads):
            raise InternalError(
                "internal",
                f"A thread that links {self.service} with the other services failed with an internal error.",
                hint="The log of this server has the details; it starts the threads again.",
            )

    def stop(self) -> None:
        """Close the topics, which ends the present steps soon, and wait for the threads."""
        self._stopping.set()
        self._wake.set()
        for topic in self._topics.values():
            topic.close()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _run(self, step: Callable[[], None]) -> None:
        """Repeat a step until ``stop``. After an error, wait; log it unless the previous step raised it, too."""
        last_error = ""
        while not self._stopping.is_set():
            try:
                step()
                last_error = ""
            except PopugError as error:
                if error.message != last_error and not self._stopping.is_set():
                    log_error(error)
                last_error = error.message
                self._stopping.wait(RETRY_SECONDS)

    def _relay(self) -> None:
        self._wake.clear()
        includes = partial(includes_of, service=self.service, consumers=self._consumers)
        is_drained = relay_once(self._company.runtime, self._topics[self.service], includes)
        if is_drained and not self._stopping.is_set():
            self._wake.wait(WATERMARK_SECONDS)

    def _replicate(self, origin: str) -> None:
        runtime = self._company.runtime
        verdicts = replicate_once(runtime, origin, self._topics[origin], wait_seconds=READ_SECONDS)
        if verdicts[StreamVerdict.ACCEPTED]:
            self._company.open_backend(LOG.warning).catch_up()
