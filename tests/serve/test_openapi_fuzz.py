"""schemathesis reads the server's own description and tries what it allows, and what it does not: never a 500."""

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error

from quipu.engine.fake import fake_model
from quipu.serve.app import create_app

schema = schemathesis.openapi.from_asgi(
    "/openapi.json",
    create_app({"fake": fake_model(context_length=64)}, allowed_hosts=["testserver"]),
    headers={"host": "localhost"},
)


@schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_the_description_allows_is_no_server_error(case):
    case.call_and_validate(checks=[not_a_server_error], headers={"host": "localhost"})
