"""Send a service's events again, for receivers whose topic has lost some."""

from popug_cli.app.local_backend import LocalBackend
from popug_cli.bus.service.restore import republish as set_back
from popug_cli.cluster.opening import require_service
from popug_cli.messages.cluster import Republished
from popug_cli.messages.principal import OPERATOR


def republish(backend: LocalBackend, service: str, first: int) -> Republished:
    """Let the relay of a service send its events from position ``first`` on again; receivers drop what they have.

    Raise ``not_sent_yet``, ``not_a_service`` or ``other_service``.
    """
    require_service(backend, service)
    with backend.runtime.writing(OPERATOR) as context:
        return Republished(service, first, set_back(context, first))
