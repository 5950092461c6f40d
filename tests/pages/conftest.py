"""A browser, and a server whose answers the tests choose by what they ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from browsing import ARGUMENTS, CHROMIUM, KEY, Visit
from playwright.sync_api import Browser, sync_playwright
from running_server import Running, serving

from quipu.engine.fake import fake_model
from quipu.serve.limits import Limits

MARKDOWN = """Here is **one way**:

```python
def add(one, two):
    return one + two
```

- [an article](https://example.org/a)

3. third

| name | count |
|---|---:|
| a | 1 |
"""
HOSTILE = """<img src=x onerror="window.hacked = 1"><script>window.hacked = 2</script>
<iframe src="http://tracker.invalid/frame"></iframe>

[run](javascript:window.hacked=3) [data](data:text/html,<script>window.hacked=4</script>) [file](file:///etc/passwd)
![pixel](http://tracker.invalid/pixel.png) <style>body { display: none }</style>
[fine](https://example.org/ "a title") <a href="https://tracker.invalid" onclick="window.hacked=5" style="top:0">raw</a>

```html"onmouseover="window.hacked=6
<script>window.hacked = 7</script>
```

| a |
|---|
| <svg onload="window.hacked=8"> |
"""


def reply(asked: str) -> str:
    if "markdown" in asked:
        return MARKDOWN
    if "hostile" in asked:
        return HOSTILE
    if "weather" in asked:
        return 'I look it up.\n\n[get_weather(city="Paris", days=3)]'
    if "long" in asked:
        return "This goes on and on. " * 200
    return f"You said: {asked}"


@pytest.fixture(scope="session")
def chat_server() -> Iterator[Running]:
    # Not at once: where all arrives in one piece, there is no rate to show.
    models = {
        "fake": fake_model(reply, context_length=4096, seconds=0.0002),
        "other": fake_model(name="other", context_length=512),
    }
    with serving(models) as running:
        yield running


@pytest.fixture(scope="session")
def slow_server() -> Iterator[Running]:
    with serving({"fake": fake_model(reply, context_length=8192, seconds=0.004)}) as running:
        yield running


@pytest.fixture(scope="session")
def locked_server() -> Iterator[Running]:
    with serving({"fake": fake_model(reply, context_length=8192, seconds=0.002)}, key=KEY) as running:
        yield running


@pytest.fixture(scope="session")
def modest_server() -> Iterator[Running]:
    """Few alternatives at each token, and a model that is loaded when first asked for."""
    models = {"fake": fake_model(reply), "later": lambda: fake_model(reply, name="later", context_length=512)}
    with serving(models, limits=Limits(logprobs=3)) as running:
        yield running


# Playwright's own event loop runs in this thread until it ends: tests after these want one of their own.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield launched
        launched.close()


# The narrow one is the harder; what names no size is tried on a desktop.
@pytest.fixture(params=["phone", pytest.param("desktop", marks=pytest.mark.slow)])
def size(request: pytest.FixtureRequest) -> str:
    return str(request.param)


Visitor = Callable[..., Visit]


@pytest.fixture
def visit(browser: Browser, chat_server: Running) -> Iterator[Visitor]:
    """Come to the page for the first time; in the end nothing may have left the origin, and no script failed."""
    visits: list[Visit] = []

    def come(size: str = "desktop", server: Running = chat_server, **options: object) -> Visit:
        visits.append(Visit(browser, server.url, size, **options))
        return visits[-1]

    yield come
    for each in visits:
        each.leave()
