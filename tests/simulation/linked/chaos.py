"""Records between the services: relays and replicators that die, sleep, or run twice."""

from typing import TYPE_CHECKING

from popug_cli.bus import relay as relays
from popug_cli.bus.records import TopicRecord
from popug_cli.bus.relay import Claim
from popug_cli.bus.service import restore
from popug_cli.bus.service.coverage import includes_of
from popug_cli.cluster import links
from popug_cli.kernel.errors import PopugError
from popug_cli.messages.principal import ANONYMOUS
from popug_cli.messages.services import SERVICES
from tests.simulation.violation import require

if TYPE_CHECKING:
    from tests.simulation.linked.world import LinkedWorld

LIMITS = (1, 2, 3, 7, 50, 5_000)
ORIGINS = tuple(SERVICES)
STREAMS = tuple((service, origin) for service, parts in SERVICES.items() for origin in parts.subscriptions)


def includes(world: "LinkedWorld", origin: str) -> links.Includes:
    """Return what a relay says that its service has consumed."""
    return lambda context: includes_of(context, origin, world.services[origin].consumers)


def relay(world: "LinkedWorld", origin: str, limit: int = 5_000, *, reads_back: bool = True) -> bool:
    """Let the relay of a service send what its topic lacks, until no kill interrupts it.

    Return False if it refuses, because another database publishes as the same service.
    """
    step = links.relay_once if reads_back else links.send_once
    try:
        world.until_done(
            lambda: step(world.services[origin].runtime, world.topics[origin], includes(world, origin), limit)
        )
    except PopugError as refusal:
        require(refusal.code == "two_publishers" and world.is_disaster, "no_false_alarm", f"{origin}: {refusal}")
        return False
    return True


def claim(world: "LinkedWorld", origin: str, limit: int) -> Claim:
    """Return what a relay of a service reads now."""

    def read() -> Claim:
        with world.services[origin].runtime.writing(ANONYMOUS) as context:
            return relays.claim(context, includes(world, origin)(context), limit)

    claimed: Claim = world.until_done(read)
    return claimed


def advance(world: "LinkedWorld", origin: str, sent: Claim) -> None:
    """Let a relay store what it has sent."""

    def store() -> None:
        with world.services[origin].runtime.writing(ANONYMOUS) as context:
            relays.advance(context, sent)

    world.until_done(store)


def republish(world: "LinkedWorld", origin: str, after: int) -> None:
    """Let the relay send everything after a position again, if it has sent that."""

    def store() -> None:
        with world.services[origin].runtime.writing(ANONYMOUS) as context:
            if after < restore.require_relay(context).position:
                restore.republish(context, after + 1)

    world.until_done(store)


def replicate(world: "LinkedWorld", service: str, origin: str, limit: int = 5_000) -> None:
    """Let a service take records of another one's topic, until no kill interrupts it."""
    world.until_done(
        lambda: links.replicate_once(world.services[service].runtime, origin, world.topics[origin], limit=limit)
    )


def take(world: "LinkedWorld", service: str, origin: str, records: list[tuple[int, TopicRecord]]) -> None:
    """Let a service take records that it has read some time ago."""
    world.until_done(lambda: links.take(world.services[service].runtime, origin, records))
