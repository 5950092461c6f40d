"""Keys, names of machines and origins of web pages: what each may look like, and how requests carry them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import re

from quipu.errors import InvalidRequest

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[a-z0-9._-]+(:\d{1,5})?|[a-z][a-z0-9+.-]*://\[[0-9a-f:.]+\](:\d{1,5})?")
_HOST = re.compile(r"(?P<name>\[[0-9A-Fa-f:.]+\]|[^:\[\]]*)(:\d{1,5})?")


def checked_key(key: str, source: str) -> str:
    """``key``, if a header can carry it; else raises InvalidRequest, which names ``source`` and not the key."""
    if not re.fullmatch(r"[!-~]{8,512}", key):
        raise InvalidRequest(
            f"{source} must have 8 to 512 visible ASCII characters without spaces; it has {len(key)}, "
            'python3 -c "import secrets; print(secrets.token_urlsafe())" makes a good one',
            param="api_key",
        )
    return key


def checked_origin(origin: str) -> str:
    """``origin``, if a browser could send it; else raises InvalidRequest."""
    if not _ORIGIN.fullmatch(origin):
        raise InvalidRequest(
            f"{origin[:100]!r} is not the origin of a web page; give scheme, host and port in small letters, as in "
            "https://chat.example.org or http://localhost:3000 (no path, no *)",
            param="cors_origin",
        )
    return origin


def digest(text: str) -> bytes:
    """SHA-256, which has one length whatever the text's is."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def given_key(authorization: str) -> str | None:
    """The key in the header, by either scheme; None if there is none."""
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            _, _, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return ""
        return password
    return None


def host_name(host: str) -> str:
    """The name in a ``Host`` header, in small letters and without the port; "" if it is none."""
    match = _HOST.fullmatch(host)
    return match["name"].lower() if match else ""


def is_this_machine(name: str) -> bool:
    """Whether ``name`` always means the machine that says it: localhost, or a loopback address."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
