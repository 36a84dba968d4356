"""What stands before Streamlit: headers, and the bound on uploads."""

import asyncio

import pytest

pytest.importorskip("streamlit", reason='needs the extra: pip install "synthlabel[app]"')

from classifier.uploads import NO_ROOM
from scripts.app import guard
from scripts.app.guard import UPLOAD_PATH, Guard


class Inner:
    """The application behind the guard: notes what comes through, and answers."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.lengths: list[int] = []
        self.go_on = asyncio.Event()

    async def __call__(self, scope, receive, send) -> None:
        length = dict(scope["headers"]).get(b"content-length")
        if receive is not None:
            body, more = b"", True
            while more:
                message = await receive()
                body, more = body + message["body"], message["more_body"]
            self.bodies.append(body)
            self.lengths.append(int(length))
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 204, "headers": [(b"x-own", b"1")]})
        await send({"type": "http.response.body", "body": b""})


async def ask(app, method: str, path: str, length: int | None = None, receive=None):
    """The status, headers and body of the answer."""
    answer: list[dict] = []

    async def send(message) -> None:
        answer.append(message)

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    await app({"type": "http", "method": method, "path": path, "headers": headers}, receive, send)
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


PART = b'--xyz\r\nContent-Disposition: form-data; name="f"; filename="big.nrrd"\r\n\r\n'
END = b"\r\n--xyz--\r\n"


def sent(content: bytes, chunk: int = 50):
    """An upload as it arrives, in pieces, and its length."""
    body = PART + content + END
    pieces = [body[start : start + chunk] for start in range(0, len(body), chunk)]

    async def receive():
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

    return receive, len(body)


def test_an_upload_that_would_fill_the_memory_comes_as_a_mark_in_its_place(held):
    async def main():
        inner = Inner()
        inner.go_on.set()
        app = Guard(inner, max_bytes=5000)
        held["bytes"] = 4000
        for content in (bytes(500), bytes(1000)):
            receive, length = sent(content)
            status, _, _ = await ask(app, "PUT", f"{UPLOAD_PATH}s/f", length, receive)
            assert status == 204
        assert (await ask(app, "PUT", f"{UPLOAD_PATH}s/f", None))[0] == 411
        return inner

    inner = asyncio.run(main())
    assert inner.bodies == [PART + bytes(500) + END, PART + NO_ROOM + END]
    assert inner.lengths[1] == len(inner.bodies[1])


def test_uploads_on_their_way_count_until_they_have_come(held):
    async def main():
        inner = Inner()
        app = Guard(inner, max_bytes=1500)
        tasks = []
        for _ in range(2):
            receive, length = sent(bytes(900))
            tasks.append(asyncio.create_task(ask(app, "PUT", f"{UPLOAD_PATH}s/1", length, receive)))
            await asyncio.sleep(0.01)
        inner.go_on.set()
        await asyncio.gather(*tasks)
        receive, length = sent(bytes(900))
        await ask(app, "PUT", f"{UPLOAD_PATH}s/3", length, receive)
        return [NO_ROOM in body for body in inner.bodies], app.coming

    assert asyncio.run(main()) == ([False, True, False], 0)


def test_taking_files_away_is_never_refused(held):
    async def main():
        inner = Inner()
        inner.go_on.set()
        held["bytes"] = 10**9
        return await ask(Guard(inner, max_bytes=1), "DELETE", f"{UPLOAD_PATH}s/f")

    assert asyncio.run(main())[0] == 204
