"""webhook: what a server on the loopback gets, how often, and signed by whom."""

import hashlib
import hmac
import http.server
import json
import re
import socketserver
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ingle_plugins import webhook
from ingle_plugins.webhook import Options, Refused
from ingled.hooks import Call
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import wait_until

SECRET = "0123456789abcdef0123456789abcdef"
PAGE = (Path(__file__).parents[2] / "docs/plugins/webhook.md").read_text()
ANSWER: Any = {
    "text": "the answer",
    "finish": "stop",
    "model": {"name": "ember"},
    "usage": {"prompt": 1, "cached": 0, "completion": 2},
    "options": {},
    "hooks": [],
    "messages": [{"role": "user", "content": "the question"}],
}
CALL = Call("observe", "p3vd81xa", account="uid:1000", model="ember", op="chat", stream=True, client="shell")


class Server:
    """An HTTP server that answers as it is told, and then with 204."""

    def __init__(self, unix: Path | None = None) -> None:
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((dict(self.headers.items()), body))
                self.send_response(outer.statuses.pop(0) if outer.statuses else 204)
                self.send_header("Location", "/elsewhere")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

            def address_string(self) -> str:
                return "somebody"

        class Unix(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

        self.server: Any = (
            http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) if unix is None else Unix(str(unix), Handler)
        )
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/in?a=1" if unix is None else f"unix:{unix}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]


@pytest.fixture
def server() -> Iterator[Server]:
    one = Server()
    yield one
    one.close()


@pytest.fixture
def key(tmp_path: Path) -> str:
    file = tmp_path / "key"
    file.write_text(SECRET + "\n")
    file.chmod(0o600)
    return str(file)


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "FIRST_PAUSE_S", 0.0)


def genuine() -> Any:
    """The function of the page."""
    (text,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names: dict[str, Any] = {"hmac": hmac, "hashlib": hashlib, "time": time}
    exec(text, names)
    return names["genuine"]


def test_an_end_is_told_signed_and_without_its_text(server: Server, key: str) -> None:
    options = Options(url=server.url, secret_file=key)
    webhook.check(options)
    webhook.ingled_observe(ANSWER, CALL, options)
    ((headers, body),) = server.got
    told = json.loads(body)
    shown = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
    assert set(told) == set(shown), "as the page says"
    assert (told["id"], told["finish"], told["usage"]) == ("p3vd81xa", "stop", ANSWER["usage"])
    assert b"question" not in body and b"answer" not in body
    assert headers["Ingle-Event"] == "p3vd81xa"
    check = genuine()
    assert check(SECRET.encode(), headers["Ingle-Signature"], body)
    assert not check(SECRET.encode(), headers["Ingle-Signature"], body + b" ")
    assert not check(b"x" * 32, headers["Ingle-Signature"], body)
    old = webhook.signature(SECRET.encode(), body, int(time.time()) - 3600)["Ingle-Signature"]
    assert not check(SECRET.encode(), old, body)


def test_text_is_told_where_it_is_asked_for_and_a_failure_says_no_words_otherwise(server: Server, key: str) -> None:
    failed = ANSWER | {"finish": "failed", "failed": {"code": "hook_failed", "message": "the question", "fault": "x"}}
    for text in (False, True):
        webhook.ingled_observe(failed, CALL, Options(url=server.url, secret_file=key, text=text))
    short, whole = server.events()
    assert short["failed"] == {"code": "hook_failed", "fault": "x"} and "messages" not in short
    assert (whole["failed"], whole["messages"], whole["text"]) == (failed["failed"], ANSWER["messages"], "the answer")


def test_only_some_ends_are_told(server: Server, key: str) -> None:
    options = Options(url=server.url, secret_file=key, only=("failed",))
    webhook.ingled_observe(ANSWER, CALL, options)
    webhook.ingled_observe(ANSWER | {"finish": "failed"}, CALL, options)
    assert [event["finish"] for event in server.events()] == ["failed"]


@pytest.mark.parametrize("status", [500, 503, 429, 408])
def test_what_may_be_taken_later_is_sent_again_the_same(server: Server, key: str, status: int) -> None:
    server.statuses = [status, status]
    webhook.ingled_observe(ANSWER, CALL, Options(url=server.url, secret_file=key))
    assert len(server.got) == 3
    assert len({body for _, body in server.got}) == 1 and len({head["Ingle-Event"] for head, _ in server.got}) == 1


@pytest.mark.parametrize("status", [301, 400, 401, 404, 410])
def test_what_will_not_be_taken_is_not_sent_again(server: Server, key: str, status: int) -> None:
    server.statuses = [status]
    with pytest.raises(Refused, match=str(status)):
        webhook.ingled_observe(ANSWER, CALL, Options(url=server.url, secret_file=key))
    assert len(server.got) == 1


def test_attempts_are_bounded(server: Server, key: str) -> None:
    server.statuses = [500] * 10
    with pytest.raises(Refused, match="500"):
        webhook.ingled_observe(ANSWER, CALL, Options(url=server.url, secret_file=key, attempts=3))
    assert len(server.got) == 3
    server.close()
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1: "):
        webhook.ingled_observe(ANSWER, CALL, Options(url=server.url, secret_file=key, attempts=2))
    server.__init__()  # type: ignore[misc]  # for the fixture to close


def test_a_unix_socket_is_told_too(tmp_path: Path, key: str) -> None:
    server = Server(tmp_path / "socket")
    try:
        options = Options(url=server.url, secret_file=key)
        webhook.check(options)
        webhook.ingled_observe(ANSWER, CALL, options)
        assert [event["id"] for event in server.events()] == ["p3vd81xa"]
        assert server.got[0][0]["Host"] == "localhost"
    finally:
        server.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"url": "ftp://here/"}, "is none of http"),
        ({"url": "http://name:word@here/"}, "has a name or password"),
        ({"url": "unix:relative"}, "is none of http"),
        ({"secret_file": "relative"}, "no absolute path"),
        ({"secret_file": "/nowhere/key"}, "No such file"),
        ({"attempts": 0}, "attempts: from 1"),
        ({"timeout_ms": 0}, "timeout_ms: from 1"),
    ],
)
def test_options_that_cannot_be_are_refused(key: str, change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        webhook.check(Options(**({"url": "http://127.0.0.1/", "secret_file": key} | change)))


def test_a_secret_that_others_can_read_or_guess_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "loose"
    file.write_text(SECRET)
    file.chmod(0o644)
    with pytest.raises(ValueError, match="is open to others"):
        webhook.check(Options(url="http://127.0.0.1/", secret_file=str(file)))
    file.write_text("short")
    file.chmod(0o600)
    with pytest.raises(ValueError, match="has 5 bytes; at least 32"):
        webhook.check(Options(url="http://127.0.0.1/", secret_file=str(file)))


def test_in_a_daemon_nobody_waits_and_what_nobody_takes_is_counted(tmp_path: Path, server: Server, key: str) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "webhook.py").write_text("from ingle_plugins.webhook import *\n")
    table = f'[plugins.webhook.options]\nurl = "{server.url}"\nsecret_file = "{key}"\n'
    with DaemonFixture(f'[daemon]\nplugin_folder = "{folder}"\n{table}') as daemon, Wire(daemon.socket) as client:
        id = client.ask("hello there")
        text, end = client.read(id)
        assert text == "hello there"
        assert [(hook["name"], hook["verdict"]) for hook in end["hooks"]] == [("webhook", "told")]
        wait_until(lambda: server.got)
        assert [(event["id"], event["finish"]) for event in server.events()] == [(id, "stop")]
        server.statuses = [400]
        client.read(client.ask("once more"))
        wait_until(lambda: client.call("hooks")["hooks"][0]["failures"] == 1)
        assert "the server answers 400" in client.call("hooks")["hooks"][0]["last_failure"]
