"""Metrics as Prometheus gets them: from a unix socket or a loopback port, true, and without a word of anybody's."""

import json
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from ingled.testing import DaemonFixture, Wire
from prometheus_client.parser import text_string_to_metric_families

MODELS = '[models.echo]\nsource = "/x"\ndefault = true\n[models.bad]\nsource = "/y"\necho = {fail = "refuse"}\n'
DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana.json"


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ingle-") as folder:
        yield Path(folder) / "metrics.sock"


def fetch(place: Path | int, head: bytes = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n") -> tuple[str, bytes]:
    """Return status line and body."""
    if isinstance(place, int):
        one = socket.create_connection(("127.0.0.1", place), 30)
    else:
        one = socket.socket(socket.AF_UNIX)
        one.settimeout(30)
        one.connect(str(place))
    with one:
        one.sendall(head)
        data = b"".join(iter(lambda: one.recv(65536), b""))
    top, _, body = data.partition(b"\r\n\r\n")
    return top.split(b"\r\n")[0].decode(), body


def samples(body: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    found = {}
    for family in text_string_to_metric_families(body.decode()):
        assert family.documentation
        for sample in family.samples:
            found[sample.name, frozenset(sample.labels.items())] = sample.value
    return found


def of(body: bytes, name: str, **labels: str) -> float:
    return samples(body)[name, frozenset(labels.items())]


def test_what_was_done_is_counted_and_nothing_said_is_told(place: Path) -> None:
    with DaemonFixture(f'[daemon]\nmetrics = "{place}"\n' + MODELS) as daemon, Wire(daemon.socket) as client:
        assert place.stat().st_mode & 0o777 == 0o660
        usage = client.read(client.ask("a canary sings " * 4))[1]["usage"]
        client.read(client.ask("a canary sings", model="bad"))
        status, body = fetch(place)
        assert status == "HTTP/1.1 200 OK"
        who = {"gen_ai_operation_name": "chat", "gen_ai_request_model": "echo"}
        assert of(body, "gen_ai_server_request_duration_seconds_count", **who, error_type="") == 1
        assert of(body, "gen_ai_server_time_to_first_token_seconds_count", **who) == 1
        assert of(body, "gen_ai_server_time_per_output_token_seconds_count", **who) == 1
        assert of(body, "ingle_tokens_total", model="echo", type="output") == usage["completion"]
        assert of(body, "ingle_requests_ended_total", outcome="failed") == 1
        assert of(body, "ingle_model_state", model="echo", state="ready") == 1
        assert of(body, "ingle_model_transitions_total", model="echo", state="ready") == 1
        assert of(body, "ingle_connections") == 1
        assert of(body, "ingle_broker_process_resident_memory_bytes") > 1e6
        assert b"canary" not in body and b"uid" not in body
    assert not place.exists()


def test_a_loopback_port_serves_too_and_bad_visitors_harm_nobody() -> None:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with DaemonFixture(f'[daemon]\nmetrics = "127.0.0.1:{port}"\n' + MODELS) as daemon, Wire(daemon.socket) as client:
        assert fetch(port)[0] == "HTTP/1.1 200 OK"
        assert fetch(port, b"HEAD /metrics HTTP/1.1\r\n\r\n") == ("HTTP/1.1 200 OK", b"")
        assert fetch(port, b"GET / HTTP/1.1\r\n\r\n")[0] == "HTTP/1.1 404 Not Found"
        assert fetch(port, b"POST /metrics HTTP/1.1\r\n\r\n")[0].startswith("HTTP/1.1 405")
        for junk in (b"x" * 100_000, b"\xff\r\n\r\n"):
            with suppress(ConnectionError):  # it is closed before all of it was read
                fetch(port, junk)
        silent = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(40)]
        assert client.call("status")["connections"] == 1
        for one in silent:
            one.close()
        while fetch(port)[0] != "HTTP/1.1 200 OK":
            pass
        assert "Traceback" not in daemon.log.read_text()


def test_the_dashboard_asks_for_what_there_is(place: Path) -> None:
    asked = set(re.findall(r"\b(?:ingle|gen_ai)_[a-z_]+", json.dumps(json.loads(DASHBOARD.read_text())["panels"])))
    labels = {"gen_ai_request_model", "gen_ai_operation_name"}
    with DaemonFixture(f'[daemon]\nmetrics = "{place}"\n' + MODELS) as daemon, Wire(daemon.socket) as client:
        client.read(client.ask("one two"))
        client.read(client.ask("one two"))
        served = {name for name, _ in samples(fetch(place)[1])}
        # What comes with the worker's once-a-second report, or with a plugin, is known by its declaration.
        served |= {line.split()[2] for line in fetch(place)[1].decode().splitlines() if line.startswith("# TYPE")}
        served |= {f"{name}_total" for name in served}
    assert len(asked) > 12
    assert asked - labels <= served
