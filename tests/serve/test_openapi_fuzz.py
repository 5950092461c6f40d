"""schemathesis reads the server's own description and tries what it allows, and what it does not: never a 500."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error

from quipu.engine.fake import fake_model
from quipu.serve.app import create_app

app = create_app({"fake": fake_model(context_length=256)}, allowed_hosts=["testserver"])
app.state.service.close = lambda: None  # each request is a lifespan of its own here, and would close the model
schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers={"host": "localhost"})


@schemathesis.serializer("application/pdf")
def as_it_is(context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")


@schema.parametrize()
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
def test_what_the_description_allows_is_no_server_error(case):
    if isinstance(case.body, dict) and isinstance(case.body.get("requests"), int):
        case.body["requests"] = min(case.body["requests"], 8)  # a thousand streams take a minute
    case.call_and_validate(checks=[not_a_server_error], headers={"host": "localhost"})
