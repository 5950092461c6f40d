"""A picture in a message: the bytes of its file, as people and programs give them. Nothing is decoded here."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

from quipu.errors import InvalidRequest, check_fields

Detail: TypeAlias = Literal["auto", "low", "high"]
_DETAILS = ("auto", "low", "high")
_MEDIA_TYPES = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"BM": "image/bmp",
    b"RIFF": "image/webp",
}


@dataclass(frozen=True, slots=True)
class Image:
    """A picture file. ``detail`` "low" shows the model only the whole of it in one tile; it costs fewer tokens."""

    data: bytes = field(repr=False)
    detail: Detail = "auto"

    @classmethod
    def of(cls, value: Any, where: str = "image") -> Image:
        """From an Image, bytes, a path, a data URL, or a picture of Pillow. Raises InvalidRequest about ``where``."""
        if isinstance(value, Image):
            return value
        if isinstance(value, bytes | bytearray | memoryview):
            return cls(bytes(value))
        if isinstance(value, str) and value.startswith(("data:", "http://", "https://")):
            return cls.of_url(value, where)
        if isinstance(value, str | Path):
            try:
                return cls(Path(value).expanduser().read_bytes())
            except (OSError, ValueError, RuntimeError) as error:
                reason = getattr(error, "strerror", None) or error
                raise InvalidRequest(f"{where}: {str(value)[:200]!r} cannot be read: {reason}", param=where) from None
        if hasattr(value, "save"):  # Pillow's, which is not imported for it
            file = io.BytesIO()
            value.save(file, "PNG")
            return cls(file.getvalue())
        raise InvalidRequest(
            f"{where} must be a path, bytes, a data URL or a picture of Pillow, got {type(value).__name__}", param=where
        )

    @classmethod
    def of_url(cls, url: str, where: str) -> Image:
        """From a data URL. Raises InvalidRequest, also for an address: nothing is fetched here."""
        if not url.startswith("data:"):
            raise InvalidRequest(
                f"{where} is {url[:80]!r}; images at addresses are not fetched here: send the bytes as a data URL "
                "(data:image/png;base64,...), or let the server fetch them with --allow-remote-images",
                param=where,
            )
        head, comma, body = url.partition(",")
        if not comma or not head.endswith(";base64"):
            raise InvalidRequest(f"{where} is no data URL in base64: data:image/png;base64,...", param=where)
        try:
            return cls(base64.b64decode(body, validate=True))
        except (binascii.Error, ValueError) as error:
            raise InvalidRequest(f"{where} is no base64: {error}", param=where) from None

    @classmethod
    def of_part(cls, part: Mapping[str, Any], where: str) -> Image:
        """From a part of a message: OpenAI's ``image_url``, or ``{"type": "image", "image": ...}`` with what ``of``
        takes. Raises InvalidRequest by field."""
        if part.get("type") == "image":
            check_fields(part, ("type", "image"), where)
            given = part.get("image")
            if isinstance(given, str) and not given.startswith(("data:", "http://", "https://")):
                # Messages come over the network, too, where a path would be one of the server's own files.
                raise InvalidRequest(
                    f"{where}.image is text; give a file as pathlib.Path or bytes, or a data URL",
                    param=f"{where}.image",
                )
            return cls.of(given, f"{where}.image")
        check_fields(part, ("type", "image_url"), where)
        given = part.get("image_url")
        given = {"url": given} if isinstance(given, str) else given
        if not isinstance(given, Mapping) or not isinstance(given.get("url"), str):
            raise InvalidRequest(f"{where}.image_url needs a url", param=f"{where}.image_url")
        check_fields(given, ("url", "detail"), f"{where}.image_url")
        detail = given.get("detail") or "auto"
        if detail not in _DETAILS:
            raise InvalidRequest(
                f"{where}.image_url.detail is {detail!r:.40}; it must be one of {', '.join(_DETAILS)}",
                param=f"{where}.image_url.detail",
            )
        return cls(cls.of_url(given["url"], f"{where}.image_url.url").data, cast(Detail, detail))

    @property
    def media_type(self) -> str:
        """By the first bytes, as browsers do; never by what somebody says."""
        found = (kind for start, kind in _MEDIA_TYPES.items() if self.data.startswith(start))
        return next(found, "application/octet-stream")

    def as_part(self) -> dict[str, Any]:
        """A part of a message as the OpenAI API has it."""
        url = f"data:{self.media_type};base64,{base64.b64encode(self.data).decode()}"
        return {"type": "image_url", "image_url": {"url": url, "detail": self.detail}}
