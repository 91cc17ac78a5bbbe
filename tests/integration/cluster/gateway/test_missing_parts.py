"""An answer without the part of a service that does not answer or is behind has a warning instead."""

from pathlib import Path
from typing import Any

import pytest

from popug_cli.kernel.errors import Unavailable
from popug_cli.messages.base import Message
from popug_cli.messages.principal import Principal
from popug_cli.messages.today import ShowToday
from tests.integration.cluster.linked_company import LinkedCompany


@pytest.mark.parametrize("code", ["service_unavailable", "behind"])
def test_today_warns_of_mail_that_cannot_be_counted(tmp_path: Path, code: str) -> None:
    company = LinkedCompany(tmp_path)
    tasks = company.services["tasks"]
    ask_service = tasks.ask_service

    def without_mail(service: str, principal: Principal, message: Message[Any]) -> Any:
        if service == "mail":
            raise Unavailable(code, "Mail has no news.", hint="Wait.")
        return ask_service(service, principal, message)

    tasks.ask_service = without_mail
    assert tasks.perform_as(company.people["boss"], ShowToday()).mail_failed == 0
    assert "Mail has no news. Whether mails have failed is not known." in company.warnings
    company.close()
