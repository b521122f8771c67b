"""The benchmark's clients and its synthetic worker against a real daemon, without a model."""

import argparse
import sys
from pathlib import Path

import pytest
from ingled.testing import DaemonFixture, Wire

from bench import curve, forwarding
from bench.command import RPC, Answering
from bench.contenders import run_client
from bench.load import Load

ECHO = '[models.bench]\nsource = "builtin:ember"\n'


@pytest.mark.parametrize("streamed", [pytest.param(True, id="streamed"), pytest.param(False, id="whole")])
def test_the_load_generator_drives_a_daemon(streamed: bool) -> None:
    with DaemonFixture(ECHO, engine="echo") as daemon:
        assert daemon.process is not None
        load = Load(4, 12, streamed=streamed, tokens=20)
        outcome = run_client(load, {"broker": [daemon.process.pid]}, {"socket": str(daemon.socket)})
    assert outcome.tokens == 12 * 20
    assert outcome.prompt_tokens > 0
    assert len(outcome.firsts) == 12
    assert bool(outcome.pieces) == bool(outcome.gaps) == streamed
    assert outcome.client_cpu_s > 0


def test_a_broker_takes_the_synthetic_worker_on_and_forwards_its_chunks() -> None:
    args = argparse.Namespace(clients=[3], window=[16], quick=True)
    found = forwarding.measure(args, rounds=1, chunks=3000)
    assert found[3, 16]["chunks_s"].median > 0


def test_a_curve_has_the_hooks_and_models_that_its_points_name() -> None:
    _, hooked = curve.points(quick=True)
    with curve.running(hooks=True) as daemon:
        for tag, met in {"none": 0, "filters5": 5, "filters20": 20, "remotes5": 5, "handler": 1}.items():
            assert tag in {point.tag for point in hooked}
            with Wire(daemon.socket, tags=(tag,)) as wire:
                _, done = wire.read(wire.ask(model=curve.model(7), body={"max_tokens": 1}))
            assert len(done["hooks"]) == met, done
        point = curve.Point("clients", "3", clients=3, idle=2, tag="filters5", models=2, tokens=20, answers=6)
        assert curve.measure(daemon, point, 1)["tokens_s"] > 0


def test_the_command_is_timed_to_its_request_and_its_first_character(tmp_path: Path) -> None:
    answering = Answering(tmp_path)
    try:
        for words, input in ((["ask", "hi"], b""), (["rpc"], RPC)):
            times = answering.run([sys.executable, "-P", "-m", "ingle", *words], input)
            assert times.request is not None and times.character is not None
            assert times.request <= times.character <= times.end
    finally:
        answering.close()
