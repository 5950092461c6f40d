"""No request changes the chat template or what it is given (the class of CVE-2025-62426)."""

import pytest
from pydantic import ValidationError

from quipu.errors import InvalidRequest
from quipu.serve.openai.schemas import ChatCompletionRequest

MESSAGES = [{"role": "user", "content": "x"}]


def test_a_plain_request_is_taken():
    assert ChatCompletionRequest.model_validate({"model": "m", "messages": MESSAGES})


@pytest.mark.parametrize(
    "field",
    ["chat_template", "chat_template_kwargs", "add_generation_prompt", "bos_token", "date_string", "template"],
)
@pytest.mark.parametrize("value", ["{{ 1 }}", {"chat_template": "{{ 1 }}", "tokenize": True}])
def test_template_arguments_are_refused_by_name(field, value):
    with pytest.raises((ValidationError, InvalidRequest), match=field):
        ChatCompletionRequest.model_validate({"model": "m", "messages": MESSAGES, field: value})
