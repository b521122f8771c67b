"""The process: its link and lease, its threads, its limits, and what is known of it when it dies."""

import signal
from pathlib import Path

import pytest
from ingle.wire.hook_schema import HookCall
from ingled import link
from ingled.testing_link import HostBench, LinkBroker, group_members, wait_until

MEETS = """
import threading
everybody = threading.Barrier(20)
@hookimpl
def ingled_prompt(messages):
    everybody.wait(60)
    return note(met=True)
"""
WAITS = """
import pathlib, time
@hookimpl
def ingled_prompt(messages):
    while not pathlib.Path(messages[0]["content"]).exists():
        time.sleep(0.01)
"""
SLEEPS = """
import time
@hookimpl
def ingled_prompt(messages):
    time.sleep(float(messages[0]["content"]))
    return note(slept=True)
"""
LOOPS = """
@hookimpl
def ingled_prompt(messages):
    while True:
        pass
"""
HOLDS = """
import re
@hookimpl
def ingled_prompt(messages):
    re.match(r"(a+)+$", "a" * 40 + "b")
"""
GOOD = "@hookimpl\ndef ingled_prompt(messages):\n    return changed(messages)\n"


# ---------------------------------------------------------------- threads


def test_calls_of_different_requests_run_side_by_side(bench: HostBench) -> None:
    bench.write("meets", MEETS)
    bench.start()
    numbers = [bench.call("prompt", ["meets"], {"messages": []}, id=f"r{at}") for at in range(20)]
    for number in numbers:
        assert bench.reply(number, 60).results[0].note == {"met": True}


def test_an_answer_does_not_wait_for_a_slow_call_of_the_same_message(bench: HostBench, tmp_path: Path) -> None:
    bench.write("waits", WAITS)
    bench.write("good", GOOD)
    bench.start()
    value = {"messages": [{"role": "user", "content": str(tmp_path / "gate")}]}
    calls = [HookCall(number, "prompt", [hook], value) for number, hook in ((1, "good"), (2, "waits"), (3, "good"))]
    bench.broker.send(bench.peer, link.HookCalls(calls))
    assert bench.reply(1).results[0].verdict == "changed"
    assert bench.reply(3).results[0].verdict == "changed"
    wait_until(lambda: [slot[0] for slot in bench.table()] == [2])
    (tmp_path / "gate").touch()
    assert bench.reply(2).results[0].verdict == "unchanged"


def test_answers_of_one_moment_travel_together(bench: HostBench) -> None:
    bench.write("good", GOOD)
    bench.start()
    value = {"messages": [{"role": "user", "content": "x"}]}
    calls = [HookCall(number, "prompt", ["good"], value) for number in range(1, 101)]
    bench.broker.send(bench.peer, link.HookCalls(calls))
    for number in range(1, 101):
        bench.reply(number)
    messages = [message for _, message in bench.broker.seen if isinstance(message, link.HookReplies)]
    assert len(messages) < 80


def test_the_heart_beats_while_a_plugin_loops_and_others_are_served(bench: HostBench) -> None:
    bench.write("loops", LOOPS)
    bench.write("good", GOOD)
    bench.start()
    number = bench.call("prompt", ["loops"], {"messages": []})
    wait_until(lambda: bench.table())
    assert bench.prompt("good").results[0].verdict == "changed"
    bench.broker.wait_for_beats(3)
    ((call, index, thread),) = bench.table()
    assert (call, index) == (number, 0)
    assert Path(f"/proc/{bench.process.pid}/task/{thread}").exists()


def test_the_heart_stops_while_a_plugin_holds_the_interpreter(bench: HostBench) -> None:
    bench.write("good", GOOD)
    bench.write("holds", HOLDS)
    bench.start()
    number = bench.call("prompt", ["good", "holds"], {"messages": []})
    wait_until(lambda: bench.table() and bench.table()[0][1] == 1)
    wait_until(lambda: bench.broker.beats(1.0) == 0)
    assert bench.table()[0][:2] == (number, 1)


# ---------------------------------------------------------------- deaths


@pytest.mark.parametrize(
    ("code", "status"),
    [("import os; os._exit(7)", 7), ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV)],
)
def test_a_host_that_dies_leaves_a_table_that_names_the_call(bench: HostBench, code: str, status: int) -> None:
    bench.write("good", GOOD)
    bench.write("dies", f"@hookimpl\ndef ingled_prompt(messages):\n    {code}\n")
    bench.start()
    bench.prompt("good")
    number = bench.call("prompt", ["good", "dies", "good"], {"messages": [{"role": "user", "content": "x"}]})
    assert bench.process.wait(60) == status
    assert [slot[:2] for slot in bench.table()] == [(number, 1)]


def test_the_last_words_of_a_host_that_dies_while_it_loads_name_the_plugin(bench: HostBench) -> None:
    bench.write("a", GOOD)
    bench.write("b", "import os\nos._exit(4)")
    bench.begin()
    assert bench.process.wait(60) == 4
    assert bench.log().splitlines()[-1].endswith("loading plugin 'b'")


@pytest.mark.parametrize("code", ["x = bytearray(2 << 30)", "x = [bytearray(1 << 20) for _ in range(2048)]"])
def test_a_plugin_that_eats_memory_gets_an_error_and_the_host_lives(bench: HostBench, code: str) -> None:
    bench.write("eats", f"@hookimpl\ndef ingled_prompt(messages):\n    {code}\n")
    bench.write("good", GOOD)
    bench.start(memory=256 << 20)
    for _ in range(2):
        reply = bench.prompt("eats", "good")
        assert [one.verdict for one in reply.results] == ["error", "changed"]
        assert reply.results[0].reason.startswith("MemoryError (")


def test_prompts_do_not_get_into_a_core_dump(bench: HostBench) -> None:
    bench.write("good", GOOD)
    bench.start()
    bench.prompt("good")
    limits = Path(f"/proc/{bench.process.pid}/limits").read_text()
    assert [line.split()[4:6] for line in limits.splitlines() if "core file" in line] == [["0", "0"]]
    # Who is not dumpable has files in /proc that are root's.
    assert Path(f"/proc/{bench.process.pid}/maps").stat().st_uid == 0


def test_what_plugins_do_with_prompts_is_not_logged(bench: HostBench) -> None:
    bench.write("fails", "@hookimpl\ndef ingled_prompt(messages):\n    raise ValueError(messages)\n")
    bench.start()
    assert "tell nobody" in bench.prompt("fails", text="tell nobody").results[0].reason
    assert "tell nobody" not in bench.log()


# ---------------------------------------------------------------- the link


def test_a_host_says_what_it_runs_when_it_comes_back_and_answers_no_old_calls(bench: HostBench, tmp_path: Path) -> None:
    bench.write("waits", WAITS)
    bench.write("good", GOOD)
    plugins = bench.start()
    bench.call("prompt", ["waits"], {"messages": [{"role": "user", "content": f"{tmp_path}/go"}]}, call=77)
    wait_until(lambda: bench.table())
    bench.broker.close()
    with LinkBroker(bench.runtime) as second:
        bench.broker = second
        peer, attach = second.wait(link.Attach)
        assert attach.setup == link.Setup({}, str(bench.folder))
        assert {one.name: one for one in second.wait(link.Offers)[1].plugins} == plugins
        bench.peer = peer
        assert bench.prompt("good").results[0].verdict == "changed"
        (tmp_path / "go").touch()
        wait_until(lambda: not bench.table())
        second.quiet(0.2)


def test_a_host_that_is_unknown_attaches_again(bench: HostBench) -> None:
    bench.write("good", GOOD)
    bench.start()
    bench.broker.send(bench.peer, link.Who())
    bench.broker.wait(link.Attach)
    bench.broker.wait(link.Offers)


def test_a_host_leaves_when_no_broker_answers(bench: HostBench) -> None:
    bench.broker.grace = 1.0
    bench.write("loops", LOOPS)
    bench.start()
    bench.call("prompt", ["loops"], {"messages": []})
    bench.broker.answers = False
    assert bench.process.wait(60) == 0
    assert not link.host_table(bench.runtime, bench.process.pid).exists()


@pytest.mark.parametrize("how", ["stop", "signal"])
def test_a_host_leaves_when_told_though_a_plugin_hangs(bench: HostBench, how: str) -> None:
    bench.write("loops", LOOPS)
    bench.start()
    bench.call("prompt", ["loops"], {"messages": []})
    wait_until(lambda: bench.table())
    if how == "stop":
        bench.broker.send(bench.peer, link.Stop())
    else:
        bench.process.send_signal(signal.SIGTERM)
    assert bench.process.wait(60) == 0
    assert not link.host_table(bench.runtime, bench.process.pid).exists()


def test_what_runs_at_the_end_is_answered_and_plugins_may_close_their_files(bench: HostBench, tmp_path: Path) -> None:
    bench.write("waits", WAITS + "    return note(waited=True)\n")
    bench.write("closes", f"import atexit, pathlib\natexit.register(pathlib.Path('{tmp_path}/closed').touch)\n" + GOOD)
    bench.start()
    number = bench.call("prompt", ["waits"], {"messages": [{"role": "user", "content": f"{tmp_path}/go"}]})
    wait_until(lambda: bench.table())
    bench.broker.send(bench.peer, link.Stop())
    (tmp_path / "go").touch()
    assert bench.reply(number).results[0].note == {"waited": True}
    assert bench.process.wait(60) == 0
    assert (tmp_path / "closed").exists()


def test_a_host_that_never_ends_an_import_leaves_when_told(bench: HostBench) -> None:
    bench.write("loops", "while True: pass")
    bench.begin()
    wait_until(lambda: "loading plugin 'loops'" in bench.log())
    bench.broker.send(bench.peer, link.Stop())
    assert bench.process.wait(60) == 0


def test_a_large_value_passes_both_ways(bench: HostBench) -> None:
    bench.write("good", GOOD)
    bench.start()
    text = "x" * (3 << 20)
    reply = bench.prompt("good", text=text)
    assert reply.value == {"messages": [{"role": "user", "content": text}]}


def test_nothing_is_left_of_a_host(bench: HostBench) -> None:
    bench.write("good", GOOD)
    bench.start()
    bench.broker.send(bench.peer, link.Stop())
    assert bench.process.wait(60) == 0
    assert group_members(bench.process.pid) == []
    assert list((bench.runtime / "hosts").iterdir()) == []


def test_endless_recursion_through_c_is_an_error_and_no_crash(bench: HostBench) -> None:
    bench.write(
        "deep",
        """
        class Deep:
            def __eq__(self, other):
                return sorted([self, self], key=lambda one: one == other)
        @hookimpl
        def ingled_prompt(messages):
            return Deep() == Deep()
        """,
    )
    bench.start()
    assert bench.prompt("deep").results[0].reason.startswith("RecursionError: ")


def test_every_call_of_a_crowd_is_answered_once(bench: HostBench) -> None:
    bench.write("sleeps", SLEEPS)
    bench.write("good", GOOD)
    bench.start(memory=192 << 20)  # not enough for all threads: it goes on with those that there are
    numbers: list[int] = []
    for at in range(100):
        value = {"messages": [{"role": "user", "content": f"{at % 7 / 200}"}]}
        batch = [HookCall(at * 10 + one + 1, "prompt", ["sleeps" if one % 2 else "good"], value) for one in range(10)]
        numbers += [call.call for call in batch]
        bench.broker.send(bench.peer, link.HookCalls(batch))
    for number in numbers:
        assert bench.reply(number, 30).results[0].verdict in ("changed", "unchanged")
    replies = [message.replies for _, message in bench.broker.seen if isinstance(message, link.HookReplies)]
    assert sorted(reply.call for some in replies for reply in some) == numbers


def test_a_broker_that_vanishes_under_answers_does_not_end_the_host(bench: HostBench) -> None:
    bench.write("good", GOOD)
    bench.start()
    for _ in range(5):
        value = {"messages": [{"role": "user", "content": "x" * 100_000}]}
        calls = [HookCall(number, "prompt", ["good"], value) for number in range(1, 101)]
        bench.broker.send(bench.peer, link.HookCalls(calls))
        bench.broker.pump(5)
        bench.broker.close()
        bench.broker = LinkBroker(bench.runtime)
        bench.peer, _ = bench.broker.wait(link.Attach)
        bench.broker.wait(link.Offers)
        assert bench.prompt("good").results[0].verdict == "changed"
    bench.broker.close()
