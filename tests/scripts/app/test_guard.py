"""What stands before Streamlit: headers, and the bound on uploads."""

import asyncio

import pytest

pytest.importorskip("streamlit", reason='needs the extra: pip install "synthlabel[app]"')

from scripts.app import guard
from scripts.app.guard import UPLOAD_PATH, Guard


class Inner:
    """The application behind the guard: notes what comes through, and answers."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.go_on = asyncio.Event()

    async def __call__(self, scope, receive, send) -> None:
        self.seen.append(scope["path"])
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 204, "headers": [(b"x-own", b"1")]})
        await send({"type": "http.response.body", "body": b""})


async def ask(app, method: str, path: str, length: int | None = None):
    """The status, headers and body of the answer."""
    answer: list[dict] = []

    async def send(message) -> None:
        answer.append(message)

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    await app({"type": "http", "method": method, "path": path, "headers": headers}, None, send)
    return answer[0]["status"], dict(answer[0]["headers"]), answer[1]["body"]


@pytest.fixture
def held(monkeypatch):
    """How much Streamlit holds already."""
    amount = {"bytes": 0}
    monkeypatch.setattr(guard, "held_bytes", lambda: amount["bytes"])
    return amount


def test_every_answer_keeps_the_browser_from_asking_elsewhere():
    async def main():
        inner = Inner()
        inner.go_on.set()
        return await ask(Guard(inner), "GET", "/")

    status, headers, _ = asyncio.run(main())
    assert status == 204 and headers[b"x-own"] == b"1"
    policy = headers[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy and "connect-src 'self'" in policy and "http" not in policy
    assert headers[b"referrer-policy"] == b"no-referrer" and headers[b"x-frame-options"] == b"DENY"


def test_uploads_that_would_fill_the_memory_are_refused_unread(held):
    async def main():
        inner = Inner()
        inner.go_on.set()
        app = Guard(inner, max_bytes=1000)
        held["bytes"] = 700
        answers = [await ask(app, "PUT", f"{UPLOAD_PATH}s/f", length) for length in (300, 301, None)]
        return inner.seen, answers

    seen, answers = asyncio.run(main())
    assert [status for status, _, _ in answers] == [204, 413, 411] and len(seen) == 1
    assert b"too many files are open" in answers[1][2]


def test_uploads_on_their_way_count_until_they_have_come(held):
    async def main():
        inner = Inner()
        app = Guard(inner, max_bytes=1000)
        first = asyncio.create_task(ask(app, "PUT", f"{UPLOAD_PATH}s/1", 800))
        await asyncio.sleep(0)
        status, _, _ = await ask(app, "PUT", f"{UPLOAD_PATH}s/2", 300)
        inner.go_on.set()
        await first
        again, _, _ = await ask(app, "PUT", f"{UPLOAD_PATH}s/3", 300)
        return status, again, app.coming

    assert asyncio.run(main()) == (413, 204, 0)


def test_taking_files_away_is_never_refused(held):
    async def main():
        inner = Inner()
        inner.go_on.set()
        held["bytes"] = 10**9
        return await ask(Guard(inner, max_bytes=1), "DELETE", f"{UPLOAD_PATH}s/f")

    assert asyncio.run(main())[0] == 204
