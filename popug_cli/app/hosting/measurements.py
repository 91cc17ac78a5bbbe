"""Measurements of a served company for monitoring: numbers from one snapshot, whose cost does not grow with the log."""

from dataclasses import dataclass, field

from popug_cli.app.asking import CompanySnapshot
from popug_cli.app.hosting.served_company import ServedCompany
from popug_cli.bus import stream_store
from popug_cli.bus.context import Context
from popug_cli.bus.status import consumer_statuses
from popug_cli.bus.stream_store import Stream
from popug_cli.messages.bus import ConsumerStatus
from popug_cli.messages.internal.billing import GetOpenDays
from popug_cli.messages.internal.mail import CountMails, MailCounts
from popug_cli.messages.principal import OPERATOR

MAX_LAG_POSITIONS = 1_000


@dataclass(frozen=True, slots=True)
class StreamMeasurement:
    """The stream that a service receives of ``origin``.

    ``received`` is the position in the publisher's log up to which it has everything. ``behind_seconds`` is the age of
    the newest watermark, by the clocks of the broker and this machine; None before the first. ``gap_seconds`` is the
    time since an event has been missing, or 0. If ``is_stopped``, the publisher's history changed.
    """

    origin: str
    received: int
    behind_seconds: float | None
    gap_seconds: float
    is_stopped: bool
    mangled: int
    other_log: int


@dataclass(frozen=True, slots=True)
class Measurements:
    """The state of the database of a company, or of a service, at one moment.

    ``lag`` of a consumer counts the events in the next ``MAX_LAG_POSITIONS`` positions only. The position of the relay
    is None unless the database is that of a service. Mails are None in a service other than mail, open days in one
    other than billing; these include today.
    """

    log_head: int
    consumers: list[ConsumerStatus]
    relay_position: int | None = None
    is_relay_stopped: bool = False
    streams: list[StreamMeasurement] = field(default_factory=list)
    mails: MailCounts | None = None
    days_open: int | None = None


def measure(company: ServedCompany) -> Measurements:
    """Read the measurements of a company.

    Raise a ``PopugError`` if the database cannot be read, or ``InvalidStoredValue`` if it is damaged.
    """
    backend = company.open_backend(lambda sentence: None, is_command=False)
    with backend.runtime.reading(OPERATOR) as context:
        relay = stream_store.load_relay(context.connection)
        modules = CompanySnapshot(context)
        today = context.calendar.date_of(context.now)
        return Measurements(
            log_head=context.position,
            consumers=consumer_statuses(context, backend.consumers, within=MAX_LAG_POSITIONS),
            relay_position=relay.position if relay else None,
            is_relay_stopped=relay is not None and relay.stranger is not None,
            streams=_streams(context) if relay else [],
            mails=modules.ask(CountMails()) if context.service in ("", "mail") else None,
            days_open=modules.ask(GetOpenDays(up_to=today)).count if context.service in ("", "billing") else None,
        )


def _streams(context: Context) -> list[StreamMeasurement]:
    streams = stream_store.load_all(context.connection)
    return [_stream(origin, stream, context) for origin, stream in streams.items()]


def _stream(origin: str, stream: Stream, context: Context) -> StreamMeasurement:
    state = stream.state
    gap = (context.now - state.gap_since).total_seconds() if state.gap_since else 0.0
    behind = (context.now - state.stamped_at).total_seconds() if state.stamped_at else None
    return StreamMeasurement(
        origin=origin,
        received=max(state.last, state.watermark),
        behind_seconds=None if behind is None else max(0.0, behind),  # the broker's clock may be ahead of this one
        gap_seconds=max(0.0, gap),
        is_stopped=state.history_change is not None,
        mangled=state.mangled_count,
        other_log=state.other_log_count,
    )
