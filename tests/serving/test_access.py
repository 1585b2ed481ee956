"""A server on loopback without a token: what other names of this machine could be made to do, and other pages."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.sync.client import ClientConnection

from coadtr.serving import ServerSettings, running
from coadtr.serving.access import FOREIGN, host_allowed
from coadtr.serving.protocol import Close
from tests.serving.leaky import detector
from tests.serving.talking import ending, get, raw, settings, told

EVIL = "evil.example"
PATHS = ("/", "/page.js", "/metrics", "/v1/model", "/v1/streams")


@contextmanager
def under(name: str, url: str, query: str = "", **options: Any) -> Iterator[ClientConnection]:
    """Connect to a server under another name; the greeting is not read."""
    place = urlsplit(url)
    with (
        socket.create_connection((place.hostname, place.port)) as made,
        raw(f"http://{name}", "door", query, sock=made, **options) as connection,
    ):
        yield connection


@pytest.mark.parametrize(
    ("said", "changes", "allowed"),
    [
        ("localhost:8000", {}, True),
        ("LOCALHOST", {}, True),
        ("127.0.0.1:8000", {}, True),
        ("127.0.0.2", {"host": "127.0.0.2"}, True),
        ("[::1]:8000", {"host": "::1"}, True),
        ("[::1", {}, False),
        ("evil.example:8000", {}, False),
        ("evil.example:8000", {"host": "localhost"}, False),
        ("localhost.evil.example", {}, False),
        ("127.0.0.1.evil.example", {}, False),
        ("localhost@evil.example", {}, False),
        ("", {}, False),
        (None, {}, False),
        ("page.org", {"origins": ("https://page.org:444/",)}, True),
        ("evil.org", {"origins": ("https://page.org",)}, False),
        ("evil.example", {"token": "s3cret"}, True),
        ("evil.example", {"host": "0.0.0.0"}, True),  # noqa: S104 - not listened on here
        ("evil.example", {"host": "::"}, True),
        ("evil.example", {"host": "camera-room"}, True),
    ],
)
def test_a_server_of_this_machine_alone_answers_to_its_own_names(
    said: str | None, changes: dict[str, Any], allowed: bool
) -> None:
    headers = {} if said is None else {"host": said}
    assert host_allowed(headers, ServerSettings(**changes)) is allowed


def test_a_name_that_was_made_to_mean_this_machine_gets_nothing() -> None:
    with running(detector(), settings()) as url:
        name = f"{EVIL}:{url.rpartition(':')[2]}"
        for path in PATHS:
            refused = get(url + path, headers={"Host": name})
            assert (refused.status_code, refused.json()) == (403, {"detail": FOREIGN})
            assert get(url + path).status_code == 200
        assert get(f"{url}/healthz", headers={"Host": name}).json() == {"status": "ok"}
        for headers in ({"Origin": f"http://{name}"}, {}):
            with under(name, url, additional_headers=headers) as connection:
                assert ending(connection) == (Close.FORBIDDEN, FOREIGN)
        with raw(url.replace("127.0.0.1", "localhost"), "door") as connection:
            assert told(connection)["stream"] == "door"


def test_a_server_with_a_token_answers_behind_any_name() -> None:
    with running(detector(), settings(token="s3cret")) as url:  # noqa: S106 - of a test
        assert get(url, headers={"Host": EVIL}).status_code == 200
        assert get(f"{url}/v1/model?token=s3cret", headers={"Host": EVIL}).status_code == 200
        with under(EVIL, url, "token=s3cret", additional_headers={"Origin": f"https://{EVIL}"}) as connection:
            assert told(connection)["stream"] == "door"


def test_no_other_page_may_hold_the_page_or_be_asked_by_it() -> None:
    with running(detector(), settings()) as url:
        policy = get(url).headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"} <= set(policy)
