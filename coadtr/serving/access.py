"""Who may use the server: a bearer token, and which web pages."""

from __future__ import annotations

import hmac
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from coadtr.serving.settings import ServerSettings

__all__ = ["FOREIGN", "host_allowed", "may_enter", "page_allowed"]

FOREIGN: Final = "without a token this server answers to localhost alone; ask for that, or set a token or origins"
"""What those are told who ask for it under another name."""


def may_enter(token: str | None, headers: Mapping[str, str], query: Mapping[str, str]) -> bool:
    """Whether a request brings the token: in its ``Authorization`` header, or as ``token`` in its query.

    Browsers cannot set headers of a WebSocket, so they use the query. The time that the answer takes does not tell
    how much of a token was right.

    Args:
        token: The server's token; None lets everyone in.
        headers: Headers of the request, by lower-case name.
        query: Its query.

    Example:
        >>> may_enter("abc", {"authorization": "Bearer abc"}, {}), may_enter("abc", {}, {"token": "ab"})
        (True, False)
    """
    if token is None:
        return True
    scheme, _, brought = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        brought = query.get("token", "")
    return hmac.compare_digest(brought.strip().encode(), token.strip().encode())


def page_allowed(headers: Mapping[str, str], origins: Sequence[str]) -> bool:
    """Whether the web page that a request comes from may connect: one of this host, or one that is allowed.

    Any page that a user visits may open WebSockets to this machine, and says in ``Origin`` where it came from. What
    is no browser sends no origin.

    Args:
        headers: Headers of the request, by lower-case name.
        origins: Pages that are allowed, such as ``https://example.org``.

    Example:
        >>> page_allowed({"origin": "http://localhost:8000", "host": "localhost:8000"}, [])
        True
        >>> page_allowed({"origin": "https://elsewhere.net", "host": "localhost:8000"}, [])
        False
    """
    origin = headers.get("origin")
    if origin is None or origin.rstrip("/") in {allowed.rstrip("/") for allowed in origins}:
        return True
    return bool(urlsplit(origin).netloc) and urlsplit(origin).netloc == headers.get("host")


def host_allowed(headers: Mapping[str, str], settings: ServerSettings) -> bool:
    """Whether a request asks for the server under a name of its own.

    A page of anybody can have the name of its host mean this machine (DNS rebinding), and is then of the same host as
    the server. Where that opens something, a server without a token that only this machine reaches, names are those
    of this machine and of `origins`. Elsewhere a proxy may stand before it, under any name.

    Args:
        headers: Headers of the request, by lower-case name.
        settings: The server's.

    Example:
        >>> from coadtr.serving import ServerSettings
        >>> host_allowed({"host": "localhost:8000"}, ServerSettings())
        True
        >>> host_allowed({"host": "elsewhere.net:8000"}, ServerSettings())
        False
        >>> host_allowed({"host": "elsewhere.net:8000"}, ServerSettings(token="secret"))
        True
    """
    if settings.token is not None or not _is_loopback(settings.host):
        return True
    host = _name(f"//{headers.get('host', '')}")
    return _is_loopback(host) or host in {_name(origin) for origin in settings.origins} - {""}


def _name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:  # a bracket that is not closed
        return ""


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
