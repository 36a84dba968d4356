"""What stands before Streamlit: headers that keep a browser from asking elsewhere, and a bound on uploads."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.middleware import Middleware
from streamlit.runtime import get_instance
from streamlit.runtime.stats import CacheStat

from classifier.uploads import MEGABYTE, NO_ROOM
from extract.errors import SynthlabelError
from scripts.app.words import say

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

UPLOAD_PATH = "/_stcore/upload_file/"
MAX_PART_HEADER = 2**16  # bytes; a browser's is some hundred
MAX_HELD_BYTES = 512 * MEGABYTE  # of all open pages together, more than one person may give at once
# Streamlit's own scripts evaluate and build styles; all comes from this server or from the page itself.
POLICY = "; ".join((
    "default-src 'self'", "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
    "style-src 'self' 'unsafe-inline'", "img-src 'self' data: blob:", "font-src 'self' data:",
    "connect-src 'self'", "worker-src 'self' blob:", "frame-src 'none'", "object-src 'none'",
    "base-uri 'self'", "form-action 'self'", "frame-ancestors 'none'",
))  # fmt: skip
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


def build_app(script: Path) -> st.App:
    """The page as an application behind the guards."""
    return st.App(script, middleware=[Middleware(Guard)], on_script_error=tell_fault)


def tell_fault(error: Exception) -> bool:
    """A sentence on the page in the place of a traceback, which goes to whoever started the server."""
    if isinstance(error, SynthlabelError):
        st.error(f"{error}")
        return True
    traceback.print_exception(error, file=sys.stderr)
    st.error(
        say(
            "Something went wrong that should not ({kind}). Nothing was changed; the window of the command "
            "has the details.",
            kind=type(error).__name__,
        )
    )
    return True


class Guard:
    """Adds headers to every answer, and refuses uploads that would fill the memory."""

    def __init__(self, app: Application, max_bytes: int | None = None) -> None:
        self.app = app
        self.max_bytes = max_bytes or MAX_HELD_BYTES
        self.coming = 0  # bytes of uploads on their way; held ones are counted by Streamlit

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        if scope["method"] != "PUT" or not scope["path"].startswith(UPLOAD_PATH):
            await self.app(scope, receive, send_guarded)
            return
        length = dict(scope["headers"]).get(b"content-length", b"")
        if not length.isdigit():
            await _refuse(send_guarded, 411, "the length of the file must be told")
            return
        if held_bytes() + self.coming + int(length) > self.max_bytes:
            scope, receive = await _without_content(scope, receive)
            length = b"0"
        self.coming += int(length)
        try:
            await self.app(scope, receive, send_guarded)
        finally:
            self.coming -= int(length)


async def _without_content(
    scope: MutableMapping[str, Any], receive: Receive
) -> tuple[MutableMapping[str, Any], Receive]:
    """The same upload with a mark in the place of the file, so that the page can tell why it is not there.

    What is sent is read to its end and thrown away; a refusal would be shown as a number by the browser.
    """
    head, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":  # the browser has left
            break
        if len(head) < MAX_PART_HEADER:
            head += message.get("body", b"")[:MAX_PART_HEADER]
        more = message.get("more_body", False)
    header, _, _ = head.partition(b"\r\n\r\n")
    boundary = header.partition(b"\r\n")[0]
    body = header + b"\r\n\r\n" + NO_ROOM + b"\r\n" + boundary + b"--\r\n"
    headers = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
    changed = {**scope, "headers": [*headers, (b"content-length", b"%d" % len(body))]}
    waiting = [body]

    async def receive_mark() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return changed, receive_mark


def held_bytes() -> int:
    """Bytes of all uploads that Streamlit holds for its open pages."""
    stats = get_instance().uploaded_file_mgr.get_stats()
    return sum(
        item.byte_length for family in stats.values() for item in family if isinstance(item, CacheStat)
    )


async def _refuse(send: Send, status: int, sentence: str) -> None:
    body = sentence.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
