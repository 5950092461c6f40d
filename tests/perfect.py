"""A capability asked as one of its probes asks, and a fake model that answers it perfectly."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from quipu.capabilities.base import Answering, Capability
from quipu.engine.fake import fake_model
from quipu.engine.local import LocalModel

LONG = {"max_tokens": 2000}
"""A fake has a token a byte, so that what a capability thinks long enough is not."""


class Perfect:
    """What the fakes answer: ``answer``, or a sum, or something about what they were asked."""

    answer: str | None = None

    def reply(self, asked: str) -> str:
        """One answer."""
        if self.answer is not None:
            return self.answer
        if re.fullmatch(r"\d+\+\d+", asked):
            return str(sum(map(int, asked.split("+"))))
        return "on and on " * 300 if "long" in asked else asked.partition(" ")[2] or f"You said: {asked}"

    def model(self, **options: Any) -> LocalModel:
        """A fake that answers so."""
        return fake_model(self.reply, **{"context_length": 32768, "concurrency": 4, "sees": True, **options})

    def ask_for(self, capability: Capability) -> Mapping[str, Any]:
        """A short input of ``capability``; from now on the answer is one that is right for it."""
        if not isinstance(capability, Answering):
            self.answer = None
            return {"requests": 2, "together": 2, "tokens": 4} if capability.id == "streaming" else {"text": "hello"}
        probe = min(capability.probes[:40], key=lambda probe: len(json.dumps(probe.given)))
        self.answer = probe.answer
        return probe.given
