"""A stand-in for the daemon: a thread with a real ROUTER that speaks the public protocol, without any model."""

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import pytest
import zmq
from ingle.wire.codec import Message, pack, unpack
from ingle.wire.limits import CREDIT
from ingle.wire.schema import FromClient

PIECES = ["Once ", "upon ", "a ", "tïme ", "there ", "was ", "a ", "fire."] * 6
TEXT = "".join(PIECES)
DEADLINE = 60.0

WHO = {"account": "uid:7", "user": "ann", "groups": ["staff"], "rule": "rules[0]", "models": ["tiny"]}
WHO |= {"may": ["hook"], "priority": "batch", "limits": {"waiting": 4, "open_requests": None}, "open_requests": 1}
WHO |= {"tokens_left": {"minute": 99, "day": None}}

MODELS: list[Message] = [
    {
        "name": "tiny", "aliases": ["t"], "default": True, "state": "ready", "engine": "echo", "source": "/m/tiny",
        "license": None, "revision": None, "context": 4096, "why": None, "since_s": 3.0, "phase": None,
        "percent": None, "pid": 7, "device": "cpu", "kv_use": 0.25, "kv_tokens": 1024, "kv_bytes": 1 << 30,
        "weights_bytes": 1 << 29, "rss_bytes": 1 << 31, "running": 1, "waiting": 0, "tokens_total": 10,
        "tokens_s": 12.34, "cached_tokens": 0, "prompt_tokens": 5, "idle_s": 75.0, "load_s": 1.5,
    },
    {"name": "cold-one", "aliases": [], "default": False, "state": "cold"},
]  # fmt: skip

TRACE: list[Message] = [
    {
        "name": "shout", "version": "0", "point": "prompt", "verdict": "changed", "us": 40, "note": {"words": 2},
        "before": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi\nyou \x1b[31m"}],
        "after": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "HI\nyou \x1b[31m"}],
    },
    {"name": "late", "version": "0", "point": "answer", "verdict": "error", "us": 900, "why": "deadline"},
]  # fmt: skip


class Answer:
    """One request and how much of its answer has been sent."""

    def __init__(self, id: str, peer: bytes, credit: int, pieces: list[str], *, endless: bool) -> None:
        self.id = id
        self.peer = peer
        self.credit = credit
        self.pieces = pieces
        self.endless = endless
        self.next = 0
        self.ack = 0
        self.begin = 0
        """Where the text that is still held begins."""
        self.streamed = True
        self.trace = False
        self.closed = False

    def offset(self) -> int:
        return len("".join(self.pieces[: self.next]).encode())


class FakeDaemon:
    """Answers every message; what the prompt says decides how."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._received: list[Message] = []
        self.connections = 0
        self.answers: dict[str, Answer] = {}
        self.subscriptions: dict[str, Answer] = {}
        self.silent: set[str] = set()
        """Types of messages that get no answer."""
        self.models = MODELS
        self.kept: set[str] = set()
        """Ids of requests that are over."""
        self.limits: dict[str, int] = {}
        self.offers: dict[str, Message] = {}
        """Hooks that are offered, each with the `peer` that did."""
        self.refused_offers: dict[str, str] = {}
        """Names that are not taken, and with which code."""
        self.hook_list: list[Message] = []
        self.wrong: list[str] = []
        """Messages about hooks that the daemon would not have taken."""
        self._calls = count(1)
        self._news = threading.Condition()
        self._todo: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._context = zmq.Context()
        self._router: zmq.Socket[bytes] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._bell = self._context.socket(zmq.PAIR)
        self._bell.bind(f"inproc://bell-{id(self)}")
        self._thread.start()
        self.do(self._bind)

    # ---- for tests

    def do(self, what: Callable[[], None]) -> None:
        """Run something on the daemon's thread and wait for it."""
        done = threading.Event()

        def run() -> None:
            what()
            done.set()

        self._todo.put(run)
        self._bell.send(b"")
        assert done.wait(DEADLINE)

    @property
    def received(self) -> list[Message]:
        """Return the messages that have been handled so far."""
        with self._news:
            return list(self._received)

    def forget(self) -> None:
        """Begin to count messages anew."""
        with self._news:
            self._received.clear()

    def wait_for(self, kind: str, count: int = 1, **fields: Any) -> Message:
        """Wait until `count` messages of this type, with these fields, have come; returns the last of them."""
        until = monotonic() + DEADLINE
        with self._news:
            while True:
                found = [m for m in self._received if m["t"] == kind and fields.items() <= m.items()]
                if len(found) >= count:
                    return found[-1]
                assert self._news.wait(max(0.0, until - monotonic())), f"no {kind} {fields} in {self._received}"

    def down(self) -> None:
        """Close the socket: every client loses its connection."""
        self.do(self._unbind)

    def up(self, *, forget: bool = False) -> None:
        """Listen again; with `forget` nothing is known of earlier requests."""
        if forget:
            self.answers.clear()
        self.do(self._bind)

    def restart(self, *, forget: bool = False) -> None:
        self.down()
        self.up(forget=forget)

    def emit(self, topic: str, value: Message) -> None:
        """Send an event to all subscriptions."""

        def send() -> None:
            for answer in self.subscriptions.values():
                self._send(answer.peer, {"t": "event", "id": answer.id, "topic": topic, "value": value})

        self.do(send)

    def hook_call(self, point: str, value: Message, *hooks: str, wait: bool = True, **fields: Any) -> Message:
        """Call hooks, by default all that are offered, and return the reply."""
        names = list(hooks or self.offers)
        number = next(self._calls) if wait else 0  # its own, as several may wait at once
        message = {"t": "hook_call", "call": number, "point": point, "hooks": names, "id": "r1"}
        about = {"account": "uid:0", "model": "tiny", "op": "chat", "stream": True, "client": "t", "tags": ["shell"]}
        message |= {"value": {"call": about | {"context": []}} | value, "deadline_ms": 50_000} | fields
        self.do(lambda: self._send(self.offers[names[0]]["peer"], message))
        return self.wait_for("hook_reply", call=number) if wait else {}

    def hook_end(self, name: str, id: str = "r1") -> None:
        """Let a hook forget a stream."""
        self.do(lambda: self._send(self.offers[name]["peer"], {"t": "hook_end", "id": id}))

    def raw(self, *frames: bytes) -> None:
        """Send anything to whoever said something last."""

        def send() -> None:
            assert self._router is not None
            self._router.send_multipart([self._last, *frames])

        self.do(send)

    def close(self) -> None:
        self._todo.put(None)
        self._bell.send(b"")
        self._thread.join(DEADLINE)
        self._bell.close(0)
        self._context.destroy(0)

    # ---- the thread

    def _run(self) -> None:
        bell = self._context.socket(zmq.PAIR)
        bell.connect(f"inproc://bell-{id(self)}")
        while True:
            poller = zmq.Poller()
            poller.register(bell, zmq.POLLIN)
            if self._router is not None:
                poller.register(self._router, zmq.POLLIN)
            ready = dict(poller.poll())
            if bell in ready:
                bell.recv()
                todo = self._todo.get()
                if todo is None:
                    break
                todo()
            elif self._router is not None and self._router in ready:
                self._take()
        self._unbind()
        bell.close(0)

    def _bind(self) -> None:
        self._router = self._context.socket(zmq.ROUTER)
        self._router.setsockopt(zmq.LINGER, 0)
        self._router.bind(f"ipc://{self.path}")

    def _unbind(self) -> None:
        if self._router is not None:
            self._router.close(0)
            self._router = None
        self.offers.clear()
        Path(self.path).unlink(missing_ok=True)

    def _send(self, peer: bytes, message: Message) -> None:
        assert self._router is not None
        self._router.send_multipart([peer, pack(message)])

    def _take(self) -> None:
        assert self._router is not None
        peer, data = self._router.recv_multipart()
        self._last = peer
        message = unpack(data)
        if message["t"].startswith("hook_"):
            try:
                msgspec.msgpack.decode(data, type=FromClient)
            except msgspec.ValidationError as error:
                self.wrong.append(f"{error}: {message}")
        with self._news:  # who has seen the reply finds the message in `received`
            if message["t"] not in self.silent:
                handler: Callable[[bytes, Message], None] = getattr(self, "_" + message["t"])
                handler(peer, message)
            self._received.append(message)
            self._news.notify_all()

    def _hello(self, peer: bytes, message: Message) -> None:
        self.connections += 1
        welcome: Message = {"t": "welcome", "protocol": [1, 0], "token": "tok", "account": "uid:0"}
        welcome |= {"limits": self.limits, "daemon": {"version": "9", "boot": str(self.connections)}}
        self._send(peer, welcome | {"ops": ["chat", "complete"], "verbs": [], "topics": ["model", "request", "hook"]})

    def _request(self, peer: bytes, message: Message) -> None:
        body = message["body"]
        prompt = body.get("prompt") or body["messages"][-1]["content"]
        if prompt.startswith("fail:"):
            code = prompt.removeprefix("fail:")
            fault = "daemon" if code in ("internal", "load_failed") else "client"
            failed = {"t": "failed", "ref": message["ref"], "code": code, "message": f"it is {code}", "hint": "do x"}
            ran = {"hooks": TRACE} if code == "refused_by_hook" else {}
            self._send(peer, failed | {"fault": fault, "at": "body.messages"} | ran)
            return
        id = f"r{len(self.answers) + 1}"
        pieces = [prompt.removeprefix("say:")] if prompt.startswith("say:") else list(PIECES)
        answer = Answer(id, peer, message.get("credit", 16), pieces, endless=prompt == "forever")
        answer.streamed = message.get("stream", True)
        answer.trace = message.get("trace", False)
        self.answers[id] = answer
        self._send(peer, {"t": "accepted", "ref": message["ref"], "id": id})
        self._send(peer, {"t": "progress", "id": id, "phase": "loading", "percent": 40})
        self._advance(answer)

    def _advance(self, answer: Answer) -> None:
        while answer.streamed and answer.credit > 0 and answer.next < len(answer.pieces):
            piece = answer.pieces[answer.next]
            self._send(answer.peer, {"t": "chunk", "id": answer.id, "o": answer.offset(), "x": piece})
            answer.next += 1
            answer.credit -= 1
        if answer.endless or answer.closed or (answer.streamed and answer.next < len(answer.pieces)):
            return
        answer.closed = True
        done: Message = {
            "t": "done", "id": answer.id, "finish": "stop", "usage": {"prompt": 3, "cached": 1, "completion": 48},
            "ms": {"queued": 0.1, "load": 0.0, "first": 4.5, "total": 50.0}, "model": {"name": "tiny"},
            "hooks": [{"name": "redact", "point": "prompt", "verdict": "unchanged", "us": 12}], "new_field": 1,
        }  # fmt: skip
        if answer.trace:
            done["hooks"] = TRACE
        if not answer.streamed:
            done["result"] = {"text": "".join(answer.pieces)}
        self._send(answer.peer, done)

    def _credit(self, peer: bytes, message: Message) -> None:
        answer = self.answers.get(message["id"])
        if answer is None:
            return
        assert message["n"] + answer.credit <= CREDIT
        answer.credit += message["n"]
        answer.ack = message.get("ack", 0)
        self._advance(answer)

    def _attach(self, peer: bytes, message: Message) -> None:
        answer = self.answers.get(message["id"])
        if answer is None:
            failed = {"t": "failed", "ref": message["ref"], "code": "no_such_request", "message": "no", "hint": "h"}
            self._send(peer, failed | {"fault": "client"})
            return
        offset = message.get("offset", answer.begin)
        if offset < answer.begin:
            failed = {"t": "failed", "ref": message["ref"], "code": "bad_value", "message": "not held", "hint": "h"}
            self._send(peer, failed | {"fault": "client", "at": "offset"})
            return
        answer.peer, answer.credit, answer.next, answer.closed = peer, message["credit"], 0, False
        while answer.offset() < offset:
            answer.next += 1
        self._send(peer, {"t": "accepted", "ref": message["ref"], "id": answer.id})
        self._advance(answer)

    def _cancel(self, peer: bytes, message: Message) -> None:
        if message["id"] in self.kept:
            self._send(peer, {"t": "result", "ref": message["ref"], "value": {"cancelled": False, "state": "kept"}})
            return
        answer = self.answers.get(message["id"]) or self.subscriptions.get(message["id"])
        value = {"cancelled": answer is not None, "state": "ending" if answer else "done"}
        self._send(peer, {"t": "result", "ref": message["ref"], "value": value})
        if answer is not None:
            failed = {"t": "failed", "id": answer.id, "code": "cancelled", "message": "cancelled", "hint": ""}
            self._send(answer.peer, failed | {"fault": "client"})

    def _subscribe(self, peer: bytes, message: Message) -> None:
        id = f"s{len(self.subscriptions) + 1}"
        self.subscriptions[id] = Answer(id, peer, message["credit"], [], endless=True)
        self._send(peer, {"t": "accepted", "ref": message["ref"], "id": id})

    def _hook_offer(self, peer: bytes, message: Message) -> None:
        name = message["name"]
        if name in self.refused_offers:
            failed = {
                "t": "failed",
                "ref": message["ref"],
                "code": self.refused_offers[name],
                "message": "no",
                "hint": "",
            }
            self._send(peer, failed | {"fault": "client"})
            return
        self.offers[name] = message | {"peer": peer}
        value = {"name": name, "order": message.get("order", 500), "scope": "account", "points": message["points"]}
        self._send(peer, {"t": "result", "ref": message["ref"], "value": value})

    def _hook_withdraw(self, peer: bytes, message: Message) -> None:
        known = self.offers.pop(message["name"], None) is not None
        self._send(peer, {"t": "result", "ref": message["ref"], "value": {"withdrawn": known}})

    def _hook_reply(self, peer: bytes, message: Message) -> None:
        pass

    def _bye(self, peer: bytes, message: Message) -> None:
        pass

    def _call(self, peer: bytes, message: Message) -> None:
        args = message["args"]
        daemon = {"name": "ingled", "version": "9", "boot": "b", "pid": 5, "uptime_s": 61.0, "socket": self.path}
        daemon |= {"state_dir": "/s", "rss_bytes": 50 << 20, "draining": False}
        requests = [{"id": id, "model": "tiny", "state": "running", "op": "chat", "age_s": 1.0, "offset": 9,
                     "detach": True, "account": "uid:7"} for id in self.answers]  # fmt: skip
        values: dict[str, Any] = {
            "status": {
                "daemon": daemon,
                "protocol": [1, 0],
                "models": {"total": 2, "ready": 1, "loading": 0, "failed": 0},
                "requests": {"running": 1, "queued": 0, "ending": 0, "done_total": 4, "failed_total": 0},
                "connections": 1,
                "sessions": 1,
                "dropped": {"unreadable": 0, "no_identity": 0, "clogged": 0},
                "nursery": {"state": "ready", "pid": 6},
            },
            "models": {"models": self.models},
            "requests": {"requests": requests},
            "whoami": WHO,
            "show": MODELS[0] | {"options": {"a": 1}, "sampling": {}, "log": ["last words"], "story": ["loaded"]},
            "plan": {
                "model": args.get("model"),
                "state": "cold",
                "options": {"context": args.get("context", 4096)},
                "fits": "context" in args,
                "decision": "evict" if "context" in args else "never",
                "why": "too large",
                "evicts": ["coder"] if "context" in args else [],
                "need": {
                    "bytes": 3 << 30,
                    "source": "estimated",
                    "weights": 2 << 30,
                    "kv_cache": 1 << 30,
                    "activations": None,
                    "process": None,
                    "token_bytes": 1024,
                    "answers": 4.0,
                },
                "device": {"name": "memory", "budget_bytes": None, "taken_bytes": 0},
                "load_s": 2.5,
                "note": None,
                "would_fit": [{"what": "unload", "value": ["coder"], "need_bytes": 3 << 30}],
            },
            "load": {"model": args.get("model"), "state": "ready"},
            "unload": {"model": args.get("model"), "state": "cold"},
            "pin": {"model": args.get("model"), "state": "ready", "pinned": args.get("pinned")},
            "want": {"model": args.get("model"), "state": "loading", "eta_ms": args.get("within_ms"), "why": None},
            "yield": {"models": ["tiny"] if args.get("bytes") else [], "bytes": args.get("bytes") or 0},
            "doctor": {"findings": [{"check": "gpu", "state": "warning", "text": "no driver", "remedy": "install it"}]},
            "shutdown": {"draining": True, "running": 2},
            "hooks": {"hooks": self.hook_list, "problems": [{"plugin": "bad", "why": "bad.py:3: no hook"}]},
            "hook_test": {
                "results": [{"hook": args.get("hook"), "verdict": "changed", "us": 21, "note": {"words": 1}}],
                "value": {"messages": [{"role": "user", "content": "HI"}]},
                "us": 150,
            },
        }
        if args.get("model") == "nobody":
            failed = {"t": "failed", "ref": message["ref"], "code": "no_such_model", "message": "no model 'nobody'"}
            self._send(peer, failed | {"hint": "see `ingle models`", "fault": "client"})
            return
        if message["verb"] == "load" and args.get("wait"):
            self._send(
                peer, {"t": "progress", "ref": message["ref"], "phase": "loading", "percent": 70, "what": "w\x1b"}
            )
        self._send(peer, {"t": "result", "ref": message["ref"], "value": values[message["verb"]]})


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path: a socket's may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ingle-") as path:
        yield Path(path)


@pytest.fixture
def daemon(folder: Path) -> Iterator[FakeDaemon]:
    """A running stand-in."""
    fake = FakeDaemon(str(folder / "s"))
    yield fake
    fake.close()
    assert fake.wrong == []


class Command:
    """Runs the `ingle` command as a process."""

    def __init__(self, socket: str) -> None:
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(Path(__file__).parents[2] / "client"),
            "INGLE_SOCKET": socket,
            "TERM": "xterm",
        }

    def start(
        self,
        *argv: str,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ingle", *argv]
        # A job in the background is started with SIGINT ignored, and so would the command be.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return subprocess.Popen(command, env=self.environment, stdin=stdin, stdout=stdout, stderr=stderr)
        finally:
            signal.signal(signal.SIGINT, before)

    def __call__(self, *argv: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        stdin: dict[str, Any] = {"stdin": subprocess.DEVNULL} if input is None else {"input": input}
        return subprocess.run(
            [sys.executable, "-m", "ingle", *argv],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=100,
            **stdin,
        )


@pytest.fixture
def ingle(daemon: FakeDaemon) -> Command:
    """The command, and a daemon for it."""
    return Command(daemon.path)
