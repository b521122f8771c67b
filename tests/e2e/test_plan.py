"""What models need is estimated, then learned, and `plan` tells it: a real daemon and the command."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ingled.testing import DaemonFixture, Wire
from ingled.testing_link import start_nursery, wait_until

MIB = 1 << 20
CONFIG = """
[daemon]
memory = "400MiB"
[models.a]
source = "/a"
concurrency = 1
echo = {memory = {weights = 62914560, kv_cache = 104857600, process = 41943040, token_bytes = 1024, context = 102400, answers = 1.0, dtype = "float32"}}
[models.b]
source = "/b"
memory = "150MiB"
[models.c]
source = "/c"
memory = "300MiB"
[models.huge]
source = "/huge"
kv_cache = "700MiB"
echo = {memory = {weights = 104857600, kv_cache = 734003200, token_bytes = 1024, context = 65536, dtype = "bfloat16"}}
[models.odd]
source = "/odd"
echo = {bogus = 1}
[[rules]]
accounts = ["*"]
may = ["load"]
"""  # noqa: E501


@pytest.fixture
def daemon() -> Iterator[DaemonFixture]:
    with DaemonFixture(CONFIG) as daemon, Wire(daemon.socket) as client:
        # Estimates come one after the other, the last model's last.
        wait_until(lambda: client.call("show", model="odd")["why"] is not None)
        yield daemon


def test_a_plan_tells_parts_and_does_nothing(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        plan = client.call("plan", model="a")
        assert (plan["fits"], plan["decision"], plan["load_s"], plan["evicts"]) == (True, "fits", None, [])
        need = plan["need"]
        assert (need["source"], need["bytes"]) == ("estimated", 200 * MIB)
        assert (need["weights"], need["kv_cache"], need["process"]) == (60 * MIB, 100 * MIB, 40 * MIB)
        assert plan["device"] == {"name": "memory", "budget_bytes": 400 * MIB, "taken_bytes": 0}
        assert {model["state"] for model in client.call("models")["models"]} == {"cold"}


def test_what_would_go_and_what_would_fit_is_named(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        client.call("load", model="b")
        plan = client.call("plan", model="c")
        assert (plan["decision"], plan["evicts"], plan["fits"]) == ("evict", ["b"], True)
        client.call("pin", model="b")
        plan = client.call("plan", model="c")
        assert (plan["decision"], plan["fits"]) == ("never", False)
        assert {"what": "unload", "value": ["b"], "need_bytes": 300 * MIB} in plan["would_fit"]
        assert client.call("plan", model="b")["decision"] == "resident"
        plan = client.call("plan", model="huge")
        assert plan["decision"] == "never" and "800 MiB" in plan["why"]
        (smaller,) = plan["would_fit"]
        assert (smaller["what"], smaller["value"], smaller["need_bytes"]) == ("kv_cache", "150MiB", 250 * MIB)
        assert client.call("plan", model="odd")["decision"] == "refused"


def test_a_load_is_learned_and_the_next_daemon_knows_it(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        client.call("load", model="a")
        model = client.call("show", model="a")
        assert model["taken_bytes"] > MIB
        plan = client.call("plan", model="a")
        assert plan["need"]["source"] == model["need_source"] == "measured"
        near = pytest.approx(model["taken_bytes"], abs=4 * MIB)  # it may take a page more between two looks
        assert (plan["need"]["bytes"], model["need_bytes"]) == (near, near)
        assert model["weights_bytes"] == plan["need"]["weights"] > 0, "both say the same of the same thing"
        other = client.call("plan", model="a", context=51200)
        assert other["need"]["source"] == "estimated" and other["load_s"] is None
    daemon.stop()
    daemon.start()
    with Wire(daemon.socket) as client:
        wait_until(lambda: client.call("show", model="odd")["why"] is not None)
        again = client.call("plan", model="a")
        assert again["decision"] == "fits"
        assert again["load_s"] == plan["load_s"]
        assert again["need"]["bytes"] >= plan["need"]["bytes"], "with what it has had since, at most"
        assert client.call("want", model="a")["eta_ms"] == round(plan["load_s"] * 1000)


def test_of_a_model_that_is_there_it_does_not_say_who_would_go() -> None:
    models = "".join(f'[models.{name}]\nsource = "/{name}"\nmemory = "150MiB"\n' for name in "ab")
    with DaemonFixture(f'[daemon]\nmemory = "300MiB"\n{models}') as daemon, Wire(daemon.socket) as client:
        client.call("load", model="a")
        client.call("load", model="b")
        daemon.file.write_text(f'[daemon]\nmemory = "200MiB"\n{models}')
        client.call("reload")
        wait_until(lambda: client.call("plan", model="a")["device"]["budget_bytes"] == 200 * MIB)
        plan = client.call("plan", model="a")
        assert (plan["decision"], plan["why"], plan["evicts"]) == ("resident", None, [])


def test_it_goes_by_what_is_configured_however_little_that_has_changed() -> None:
    model = '[models.a]\nsource = "/a"\nmemory = "150MiB"\n'
    with DaemonFixture(f'[daemon]\nmemory = "300MiB"\n{model}') as daemon, Wire(daemon.socket) as client:
        wait_until(lambda: client.call("plan", model="a")["device"]["budget_bytes"] == 300 * MIB)
        daemon.file.write_text(f'[daemon]\nmemory = "301MiB"\n{model}')
        client.call("reload")
        wait_until(lambda: client.call("plan", model="a")["device"]["budget_bytes"] == 301 * MIB)


def test_of_a_model_that_could_not_be_loaded_it_says_so() -> None:
    memory = "memory = {weights = 62914560, token_bytes = 1, context = 16}"
    with DaemonFixture(f'[models.a]\nsource = "/a"\necho = {{fail = "load", {memory}}}\n') as daemon:
        assert daemon.cli("load", "a").returncode == 1
        done = daemon.cli("plan", "a")
        assert "note           its last load failed: the echo engine was told to fail" in done.stdout, done.stdout
        assert "failed" not in daemon.cli("plan", "a", "--context", "16").stdout, "that is another one"


def test_what_was_measured_without_an_adapter_is_not_taken_for_what_it_takes_with_one() -> None:
    base = '[models.a]\nsource = "/a"\n'
    with DaemonFixture(base) as daemon, Wire(daemon.socket) as client:
        client.call("load", model="a")
        assert client.call("plan", model="a")["need"]["source"] == "measured"
        client.call("unload", model="a")
        daemon.file.write_text(base + '[models.b]\nbase = "a"\nadapter = "/b"\n')
        client.call("reload")
        plan = client.call("plan", model="a")
        assert (plan["need"]["source"], plan["load_s"]) == ("estimated", None), "vLLM keeps room for its adapters"
        daemon.file.write_text(base)
        client.call("reload")
        assert client.call("plan", model="a")["need"]["source"] == "measured", "nothing was forgotten"


def test_what_one_load_told_is_known_of_the_same_weights_under_another_name() -> None:
    with DaemonFixture("".join(f'[models.{name}]\nsource = "/same"\n' for name in "ab")) as daemon:
        with Wire(daemon.socket) as client:
            client.call("load", model="a")
            load_s = client.call("plan", model="b")["load_s"]
            assert load_s is not None and client.call("want", model="b")["eta_ms"] == round(load_s * 1000)


def test_a_damaged_ledger_is_set_aside(daemon: DaemonFixture) -> None:
    with Wire(daemon.socket) as client:
        state = Path(client.call("status")["daemon"]["state_dir"])
    daemon.stop()
    (state / "ledger.json").write_bytes(b"\x00half")
    daemon.start()
    (aside,) = state.glob("ledger.json.unreadable-*")
    assert aside.read_bytes() == b"\x00half"
    assert str(aside) in daemon.log.read_text()


def test_the_command_prints_it_for_people(daemon: DaemonFixture) -> None:
    done = daemon.cli("plan", "a")
    assert done.returncode == 0, done.stderr
    for words in (
        "a: it fits",
        "needs          200 MiB (as the engine estimates)",
        "weights      60 MiB",
        "room           400 MiB for models (memory), 0 B taken by others",
        "never loaded",
    ):
        assert words in done.stdout
    done = daemon.cli("plan", "huge")
    assert done.returncode == 5 and "would fit      a KV cache of 300MiB (400 MiB)" in done.stdout
    assert daemon.json("plan", "a", "--context", "4096")["fits"] is True
    assert daemon.cli("plan", "nobody").returncode == 4
    assert daemon.cli("plan", "a", "--kv-cache", "much").returncode == 2
    done = daemon.cli("plan", "a", "--context", "4")
    assert (done.returncode, done.stderr) == (4, "ingle: --context is 4: expected int >= 16\n"), (
        "the option, not a path"
    )
    done = daemon.cli("plan", "a", "--context", "4", "--json")
    assert '"at": "args.context"' in done.stdout and "see docs/protocol.md" in done.stdout, "programs get it as it is"


def test_without_a_bound_the_free_memory_is_it() -> None:
    with DaemonFixture('[daemon]\nhead_room = "64MiB"\n[models.a]\nsource = "/a"\n') as daemon:
        with Wire(daemon.socket) as client:
            device = client.call("plan", model="a")["device"]
            assert device["name"] == "memory" and device["budget_bytes"] > 64 * MIB


class WithoutEngine(DaemonFixture):
    """A daemon whose nursery somebody else starts."""

    @property
    def command(self) -> list[str]:
        return [*super().command, "--nursery", "unit"]


def test_a_plan_waits_for_the_engine_to_start() -> None:
    config = '[models.a]\nsource = "/a"\necho = {memory = {weights = 62914560, token_bytes = 1, context = 16}}\n'
    with WithoutEngine(config) as daemon, Wire(daemon.socket) as client:
        client.send({"t": "call", "ref": 900, "verb": "plan", "args": {"model": "a"}})
        progress = client.until("progress", "result")[-1]
        assert {key: progress.get(key) for key in ("t", "ref", "phase", "what", "percent")} == {
            "t": "progress",
            "ref": 900,
            "phase": "loading",
            "what": "starting the engine",
            "percent": 0,
        }
        nursery = start_nursery(Path(f"{daemon.socket}.d"), "echo")
        try:
            result = client.until("result")[-1]
            assert result["ref"] == 900 and result["value"]["note"] is None
            assert (result["value"]["need"]["source"], result["value"]["decision"]) == ("estimated", "fits")
        finally:
            nursery.terminate()
            nursery.wait(60)
