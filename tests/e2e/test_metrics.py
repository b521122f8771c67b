"""Metrics as Prometheus gets them: from a unix socket or a loopback port, true, and without a word of anybody's."""

import json
import os
import re
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from ingled.testing import DaemonFixture, Wire, free_port
from ingled.testing_model import profile
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


def fetch_of_engines(place: Path, marks: set[bytes]) -> bytes:
    """Return the metrics once these marks of engines are in them: one that is held up for a second is left out."""
    deadline = time.monotonic() + 60
    while not all(mark in (body := fetch(place)[1]) for mark in marks):
        assert time.monotonic() < deadline, body[-2000:]
    return body


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
    port = free_port()
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
        served = False
        while not served:
            with suppress(ConnectionError):  # more visitors are there than it serves: it is closed at once
                served = fetch(port)[0] == "HTTP/1.1 200 OK"
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


def test_what_engines_count_is_passed_on_with_the_model_as_a_label(place: Path) -> None:
    models = '[models.one]\nsource = "/x"\ndefault = true\n[models.two]\nsource = "/y"\n'
    with DaemonFixture(f'[daemon]\nmetrics = "{place}"\n' + models) as daemon, Wire(daemon.socket) as client:
        assert b"echo:" not in fetch(place)[1], "nothing is loaded"
        usage = client.read(client.ask("a b c"))[1]["usage"]
        client.call("load", model="two")
        body = fetch_of_engines(place, {b'model="one",of="answer"', b'model="two",of="answer"'})
        assert body.count(b"# TYPE echo:tokens_total counter") == 1, "a metric has one heading, whoever counts it"
        assert of(body, "echo:tokens_total", of="answer", model="one") == usage["completion"]
        assert of(body, "echo:tokens_total", of="prompt", model="two") == 0
        stopped = next(one["pid"] for one in client.call("models")["models"] if one["name"] == "two")
        os.kill(stopped, signal.SIGSTOP)
        try:
            told = samples(fetch_of_engines(place, {b"echo:"}))  # who does not answer is left out, and keeps nobody
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert {dict(labels)["model"] for name, labels in told if name == "echo:tokens_total"} == {"one"}
        assert told["ingle_model_state", frozenset({"model": "two", "state": "ready"}.items())] == 1


FRONTS = {"core": "core", "async": "async", "stops": "core"}
"""Models of the real engine, and how it is asked; each test has its own, for what is counted begins with its load."""


@pytest.fixture(scope="module")
def real() -> Iterator[tuple[DaemonFixture, Path]]:
    """A daemon with the real engine, and where its metrics are."""
    with tempfile.TemporaryDirectory(prefix="ingle-") as name:
        folder = Path(name)
        models = (profile(folder / "model", model) + f'front = "{front}"\n' for model, front in FRONTS.items())
        config = f'[daemon]\nmetrics = "{folder / "metrics.sock"}"\n' + "".join(models)
        with DaemonFixture(config, engine="vllm") as daemon:
            yield daemon, folder / "metrics.sock"


@pytest.mark.vllm
@pytest.mark.timeout(600)
@pytest.mark.parametrize("model", ["core", "async"])
def test_vllm_s_own_metrics_pass_through_whichever_way_it_is_asked(
    real: tuple[DaemonFixture, Path], model: str
) -> None:
    daemon, place = real
    with Wire(daemon.socket) as client:
        client.call("load", model=model)
        bodies = [{"max_tokens": count, "ignore_eos": True} for count in (1, 7, 20)]
        ended = [client.read(client.ask("hello", model=model, body=body)) for body in bodies]
        prompts = sum(end["usage"]["prompt"] for _, end in ended)
        broken_off = client.ask("hello", model=model, body={"max_tokens": 4000, "ignore_eos": True})
        client.until("chunk")
        client.send({"t": "cancel", "ref": 99, "id": broken_off})
        client.until("failed")
        who = {"model": model, "model_name": model, "engine": "0"}
        body = fetch_of_engines(place, {vllm_of(model)})
        for name in ("vllm:e2e_request_latency_seconds", "vllm:request_decode_time_seconds", "vllm:request_params_n"):
            assert of(body, f"{name}_count", **who) == 3
        assert of(body, "vllm:time_to_first_token_seconds_count", **who) == 4
        assert of(body, "vllm:request_success_total", **who, finished_reason="length") == 3
        assert of(body, "vllm:request_prompt_tokens_sum", **who) == prompts
        assert of(body, "vllm:request_generation_tokens_sum", **who) == 1 + 7 + 20
        assert of(body, "vllm:generation_tokens_total", **who) > 1 + 7 + 20
        assert of(body, "vllm:inter_token_latency_seconds_count", **who) >= 0 + 6 + 19
        assert of(body, "vllm:prefix_cache_queries_total", **who) >= prompts
        deadline = time.monotonic() + 60  # the core says nothing of an abort: that nothing runs is known here
        while of(fetch_of_engines(place, {vllm_of(model)}), "vllm:num_requests_running", **who):
            assert time.monotonic() < deadline
        assert b"hello" not in body


def vllm_of(model: str) -> bytes:
    """What stands in each line that a model's engine has counted."""
    return f'model_name="{model}"'.encode()


@pytest.mark.vllm
@pytest.mark.timeout(600)
def test_stop_strings_are_ends_for_vllm_s_metrics_too(real: tuple[DaemonFixture, Path]) -> None:
    """The core does not know of them: the worker ends the request there."""
    daemon, place = real
    with Wire(daemon.socket) as client:
        greedy = {"temperature": 0, "ignore_eos": True, "max_tokens": 40}
        text, _ = client.read(client.ask("hello", model="stops", body=dict(greedy)))
        _, end = client.read(client.ask("hello", model="stops", body=greedy | {"stop": text[4:8]}))
        assert end["finish"] == "stop"
        who = {"model": "stops", "model_name": "stops", "engine": "0"}
        body = fetch_of_engines(place, {vllm_of("stops")})
        assert of(body, "vllm:request_success_total", **who, finished_reason="stop") == 1
        assert of(body, "vllm:request_success_total", **who, finished_reason="length") == 1
