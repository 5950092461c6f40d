"""A picture as a field of an input."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from quipu.errors import InvalidRequest
from quipu.picture import Image

FORMAT = "data-url"
"""What the JSON Schema of such a field says its format is; forms then ask for a file."""


def _data_url(value: Any) -> str:
    """``value`` as a data URL in base64. A text is never a path: a request would read the files of its server."""
    if isinstance(value, str) and not value.startswith("data:"):
        raise ValueError(
            "should be a picture as a data URL (data:image/png;base64,...); in Python also a Path or bytes"
        )
    try:
        image = Image.of(value, "picture")
    except InvalidRequest as error:
        raise ValueError(f"cannot be used: {error}") from None
    if not image.data:
        raise ValueError("should be a picture; it is empty")
    return value if isinstance(value, str) else str(image.as_part()["image_url"]["url"])


Picture = Annotated[
    str,
    BeforeValidator(_data_url),
    WithJsonSchema({"type": "string", "format": FORMAT, "contentMediaType": "image/*"}),
]
"""A data URL. In Python it may be given as a ``pathlib.Path``, bytes or a picture of Pillow."""
