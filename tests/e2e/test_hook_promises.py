"""No path around the chain, and the truth in the reply: what hooks are promised, on a real daemon."""

import os
import signal
from pathlib import Path
from typing import Any

from ingled.testing import Wire
from ingled.testing_link import wait_until
from ingled.testing_plugins import daemon_with, hooks, told, write_plugin

RAISES = """
HOOK = Hook(on_error="refuse")

@hookimpl
def ingled_prompt(messages):
    raise RuntimeError("always")
"""
NOTHING = """
@hookimpl
def ingled_prompt(messages):
    return None
"""


def test_a_plugin_that_has_tripped_stays_so_until_it_has_changed(tmp_path: Path) -> None:
    with daemon_with(tmp_path, bad=RAISES, other=NOTHING) as daemon, Wire(daemon.socket) as client:
        for _ in range(5):
            assert told(client.read(client.ask("x"))[1], "bad")["verdict"] == "error"
        assert hooks(client)["bad"]["state"] == "tripped"
        before = hooks(client)["other"]["pid"]
        write_plugin(tmp_path, "other", NOTHING + "\n# saved again\n")
        wait_until(lambda: hooks(client)["other"]["pid"] not in (None, before))
        assert hooks(client)["bad"]["state"] == "tripped", "a fresh host changes nothing"
        end = client.read(client.ask("x"))[1]
        assert end["code"] == "hook_failed"
        assert told(end, "bad")["verdict"] == "skipped" and "tripped" in told(end, "bad")["why"]
        write_plugin(tmp_path, "bad", NOTHING)
        wait_until(lambda: hooks(client)["bad"]["state"] == "active")
        assert told(client.read(client.ask("x"))[1], "bad")["verdict"] == "unchanged"


NEEDS_AN_OPTION = """
import msgspec

class Options(msgspec.Struct):
    works: bool = False

@hookimpl
def ingled_prompt(messages, options):
    if not options.works:
        raise RuntimeError("not so")
    return changed([{"role": "user", "content": "it works"}])
"""


def test_a_plugin_that_has_tripped_is_called_again_when_its_options_have_changed(tmp_path: Path) -> None:
    with daemon_with(tmp_path, "watch = false", bad=NEEDS_AN_OPTION) as daemon, Wire(daemon.socket) as client:
        for _ in range(5):
            assert told(client.read(client.ask("x"))[1], "bad")["verdict"] == "error"
        assert hooks(client)["bad"]["state"] == "tripped"
        assert client.call("reload")["changed"] == []
        assert hooks(client)["bad"]["state"] == "tripped", "nothing has changed"
        daemon.file.write_text(daemon.file.read_text() + "[plugins.bad.options]\nworks = true\n")
        assert client.call("reload")["changed"] == ["plugins.bad"]
        # Who has asked for the reload asks the next request of the plugin as it is configured now.
        text, end = client.read(client.ask("x"))
        assert (text, told(end, "bad")["verdict"]) == ("it works", "changed")
        assert hooks(client)["bad"]["state"] == "active"


def test_a_reload_tells_which_plugins_cannot_run_as_they_are_configured(tmp_path: Path) -> None:
    with daemon_with(tmp_path, "watch = false", bad=NEEDS_AN_OPTION) as daemon, Wire(daemon.socket) as client:
        whole = daemon.file.read_text()
        daemon.file.write_text(whole + "[plugins.bad.options]\nworks = 7\n")
        told = client.call("reload")
        assert told["changed"] == ["plugins.bad"]
        assert [one["plugin"] for one in told["problems"]] == ["bad"]
        said = daemon.cli("reload").stdout
        assert "plugin bad cannot run: " in said, said
        daemon.file.write_text(whole)
        assert client.call("reload")["problems"] == []


TO_OTHER = """
HOOK = Hook(order=1)

@hookimpl
def ingled_request(request):
    return changed(request | {"model": "other"})
"""


def test_a_request_that_is_moved_to_another_model_meets_the_plugins_of_that_one(tmp_path: Path) -> None:
    guard = "@hookimpl\ndef ingled_request(request):\n    return refuse(f'not {request[\"model\"]}')\n"
    table = "[plugins.guard]\nmodels = ['other']\n"
    with daemon_with(tmp_path, table, router=TO_OTHER, guard=guard) as daemon, Wire(daemon.socket) as client:
        end = client.read(client.ask("x", model="quick"))[1]
        assert (end["code"], [hook["name"] for hook in end["hooks"]]) == ("refused_by_hook", ["router", "guard"])
        write_plugin(tmp_path, "guard", "def (\n")
        wait_until(lambda: client.call("hooks")["problems"])
        assert client.read(client.ask("x"))[1]["code"] == "refused_by_hook", "the guard before it stays"
    with daemon_with(tmp_path, table, router=TO_OTHER, guard="def (\n") as daemon, Wire(daemon.socket) as client:
        end = client.read(client.ask("x"))[1]
        assert (end["code"], end["fault"]) == ("hook_failed", "hook:guard")
        assert told(end, "guard")["verdict"] == "skipped"


def test_a_plugin_is_selected_by_the_other_names_of_its_models(tmp_path: Path) -> None:
    table = "[plugins.guard]\nmodels = ['quick']\n"
    guard = "@hookimpl\ndef ingled_prompt(messages):\n    return refuse('no')\n"
    with daemon_with(tmp_path, table, guard=guard) as daemon, Wire(daemon.socket) as client:
        for name in ("quick", "fast", None):
            assert client.read(client.ask("x", model=name))[1]["code"] == "refused_by_hook"
        assert client.read(client.ask("x", model="other"))[1]["t"] == "done"


def offer(tool: Wire, name: str, *points: str, **fields: Any) -> None:
    tool.send({"t": "hook_offer", "ref": 1, "name": name, "points": list(points), "deadline_ms": 60_000} | fields)
    assert tool.until("result", "failed")[-1]["t"] == "result"


def test_a_hook_that_saw_the_prompt_and_whose_program_ended_before_the_answer_has_failed(tmp_path: Path) -> None:
    for policy, kind in (("refuse", "failed"), ("skip", "done")):
        with daemon_with(tmp_path) as daemon, Wire(daemon.socket) as client:
            with Wire(daemon.socket) as tool:
                offer(tool, "both", "prompt", "answer", on_error=policy)
                id = client.ask("x", model="other", stream=False)  # which is cold: its answer takes a while
                call = tool.until("hook_call")[-1]
                tool.send({"t": "hook_reply", "call": call["call"], "results": [{"hook": "both"}]})
                client.until("progress")
            wait_until(lambda: hooks(client) == {})
            end = client.read(id)[1]
            assert end["t"] == kind
            assert [hook["verdict"] for hook in end["hooks"]] == ["unchanged", "skipped"]


def test_a_hook_cannot_tell_a_plugin_whose_request_it_is(tmp_path: Path) -> None:
    seen = (
        "@hookimpl\ndef ingled_prompt(messages, call):\n    return note(account=call.account, tags=list(call.tags))\n"
    )
    with daemon_with(tmp_path, seen=seen) as daemon, Wire(daemon.socket) as tool, Wire(daemon.socket) as client:
        offer(tool, "liar", "prompt", order=1)
        id = client.ask("x")
        call = tool.until("hook_call")[-1]
        value = {"messages": call["value"]["messages"], "call": {"account": "uid:4711", "tags": ["trusted"]}}
        results = [{"hook": "liar", "verdict": "changed"}]
        tool.send({"t": "hook_reply", "call": call["call"], "results": results, "value": value})
        end = client.read(id)[1]
        assert told(end, "seen")["note"] == {"account": client.welcome["account"], "tags": []}


LETTERS = """
HOOK = Hook(order={order}, on_error="refuse")

class Handler:
    held = 0
    def feed(self, text):
        return {what}
    def flush(self):
        return ""

@hookimpl
def ingled_chunk(call):
    return Handler()

@hookimpl
def ingled_prompt(messages):
    if messages[-1]["content"] == "boom {order}":
        os._exit(3)
"""


def test_a_stream_goes_on_when_one_of_its_handlers_gets_a_host_of_its_own(tmp_path: Path) -> None:
    plugins = {
        "a": LETTERS.format(order=1, what="text.upper()"),
        "b": LETTERS.format(order=2, what="text.replace(' ', ', ')"),
        "c": LETTERS.format(order=3, what="text.replace('W', '')"),
    }
    more = "[models.slow]\nsource = 'builtin:ember'\necho = {delay_ms = 3}\n"
    text = " ".join(f"word{i}" for i in range(1200))
    with daemon_with(tmp_path, more, **plugins) as daemon, Wire(daemon.socket) as client, Wire(daemon.socket) as other:
        id = client.ask(text, model="slow", body={"max_tokens": 1200})
        first = client.until("chunk")[-1]["x"]
        for _ in range(2):
            assert other.read(other.ask("boom 2"))[1]["code"] == "hook_failed"
        wait_until(lambda: hooks(other)["b"]["pid"] not in (None, hooks(other)["a"]["pid"]))
        got, end = client.read(id, ack=len(first))
        assert end["t"] == "done", end
        assert first + got == text.upper().replace(" ", ", ").replace("W", "")
        assert {hook["name"]: hook["verdict"] for hook in end["hooks"] if hook["point"] == "chunk"} == {
            "a": "changed", "b": "changed", "c": "changed"
        }  # fmt: skip
        assert other.read(other.ask("a b"))[0].startswith("A, B")


GUARD = """
HOOK = Hook(security=True)

@hookimpl
def ingled_answer(answer, call):
    said = answer["text"]
    if "fail" in said:
        raise RuntimeError("it does not work")
    if "secret" in said:
        return refuse("a secret")
    if "name" in said:
        return changed(said.replace("name", "****"))
"""


def test_no_text_goes_out_before_a_guard_has_seen_all_of_it(tmp_path: Path) -> None:
    with daemon_with(tmp_path, guard=GUARD) as daemon, Wire(daemon.socket) as client:
        for stream in (True, False):
            for text, code, why in (
                ("this is a secret", "refused_by_hook", "a secret"),
                ("this must fail", "hook_failed", "it does not work"),
            ):
                got, end = client.read(client.ask(text, stream=stream))
                assert (got, end["code"], why in end["message"]) == ("", code, True)
                assert "result" not in end
        text, end = client.read(client.ask("my name is"))
        assert (text, told(end, "guard")["verdict"]) == ("my **** is", "changed")
        long = " ".join(f"word{i}" for i in range(3000))
        text, end = client.read(client.ask(long, credit=1))
        assert (text, told(end, "guard")["verdict"]) == (long, "unchanged")
        assert hooks(client)["guard"]["on_error"] == "refuse"
        client.ask("probable", stream=False, body={"logprobs": True})
        assert client.until("done", "failed")[-1]["result"] == {"text": "probable"}


BEFORE = {"filtering", "queued"}
"""A request that is in none of these states is with its worker, or, on a machine that was held up, beyond it."""


def test_an_answer_that_waits_for_its_guard_outlives_the_daemon(tmp_path: Path) -> None:
    more = "adopt_grace = 20\n[models.slow]\nsource = 'builtin:ember'\necho = {delay_ms = 2}\n"
    long = " ".join(f"word{i}" for i in range(800))
    with daemon_with(tmp_path, more, guard=GUARD) as daemon:
        with Wire(daemon.socket) as client:
            ids = [client.ask(f"{long} {last}", model="slow", detach=True) for last in ("secret", "end")]
            wait_until(lambda: {one["state"] for one in client.call("requests")["requests"]}.isdisjoint(BEFORE))
            daemon.kill()
        daemon.start()
        with Wire(daemon.socket) as client:
            for id, kind, text in zip(ids, ("failed", "done"), ("", f"{long} end"), strict=True):
                client.send({"t": "attach", "ref": 1, "id": id, "offset": 0, "credit": 100})
                assert client.until("accepted", "failed")[-1]["t"] == "accepted"
                got, end = client.read(id)
                assert (got, end["t"]) == (text, kind)
                assert told(end, "guard")


def test_no_client_rewrites_what_a_plugin_for_security_has_let_pass(tmp_path: Path) -> None:
    seen = "HOOK = Hook(order=1, security=True)\n@hookimpl\ndef ingled_prompt(messages):\n"
    seen += "    return note(seen=messages[-1]['content'])\n"
    with daemon_with(tmp_path, seen=seen) as daemon, Wire(daemon.socket) as tool, Wire(daemon.socket) as client:
        offer(tool, "rewriter", "prompt", order=1000)
        id = client.ask("harmless")
        call = tool.until("hook_call")[-1]
        value, results = {"messages": [{"role": "user", "content": "harmful"}]}, [{"hook": "rewriter"}]
        results[0]["verdict"] = "changed"
        tool.send({"t": "hook_reply", "call": call["call"], "results": results, "value": value})
        text, end = client.read(id)
        assert (text, told(end, "seen")["note"]) == ("harmful", {"seen": "harmful"})


def test_a_plugin_with_a_host_of_its_own_is_met_after_both_died_with_the_daemon(tmp_path: Path) -> None:
    guard = LETTERS.format(order=1, what="text.upper()")
    with daemon_with(tmp_path, "adopt_grace = 20\n", guard=guard, other=NOTHING) as daemon:
        with Wire(daemon.socket) as client:
            for _ in range(2):
                assert client.read(client.ask("boom 1"))[1]["code"] == "hook_failed"
            wait_until(lambda: hooks(client)["guard"]["pid"] not in (None, hooks(client)["other"]["pid"]))
            alone = hooks(client)["guard"]["pid"]
        daemon.kill()
        os.kill(alone, signal.SIGKILL)
        daemon.start()
        with Wire(daemon.socket) as client:
            text, end = client.read(client.ask("hello"))
            assert (text, [hook["name"] for hook in end["hooks"]]) == ("HELLO", ["guard", "other", "guard"])


def test_a_request_that_ends_while_a_hook_is_at_work_says_so(tmp_path: Path) -> None:
    slow = "HOOK = Hook(deadline_ms=60000)\n@hookimpl\ndef ingled_prompt(messages):\n"
    slow += "    if messages[-1]['content'] == 'x':\n        time.sleep(60)\n"
    with daemon_with(tmp_path, slow=slow) as daemon, Wire(daemon.socket) as client:
        client.read(client.ask("warm"))
        end = client.read(client.ask("x", deadline_ms=1500))[1]
        assert end["code"] == "deadline"
        assert told(end, "slow")["why"] == "the request ended before it had answered"


def test_an_answer_that_is_cancelled_tells_what_its_handlers_did(tmp_path: Path) -> None:
    more = "[models.slow]\nsource = 'builtin:ember'\necho = {delay_ms = 2}\n"
    upper = LETTERS.format(order=1, what="text.upper()")
    with daemon_with(tmp_path, more, upper=upper) as daemon, Wire(daemon.socket) as client:
        id = client.ask(" ".join(f"word{i}" for i in range(3000)), model="slow", body={"max_tokens": 3000})
        client.until("chunk")
        client.send({"t": "cancel", "ref": 5, "id": id})
        end = client.until("failed")[-1]
        assert end["code"] == "cancelled"
        assert {hook["point"]: hook["verdict"] for hook in end["hooks"]} == {"prompt": "unchanged", "chunk": "changed"}


ON_TRIAL = """
class Loud:
    held = 0
    def feed(self, text):
        if "three" in text:
            raise Stop("it counts too far")
        return text.upper()
    def flush(self):
        return ""

@hookimpl
def ingled_chunk():
    return Loud()
"""


def test_a_handler_on_trial_says_what_it_would_have_done(tmp_path: Path) -> None:
    table = "[plugins.loud]\ntrial = true\non_error = 'refuse'\n"
    with daemon_with(tmp_path, table, loud=ON_TRIAL) as daemon, Wire(daemon.socket) as client:
        body = {"logprobs": True}
        for stream in (True, False):
            text, end = client.read(client.ask("one two", stream=stream, body=body))
            text = text or end["result"]["text"]
            assert (text, end["finish"]) == ("one two", "stop")
            assert {"verdict": "changed", "trial": True}.items() <= told(end, "loud").items()
            text, end = client.read(client.ask("one two three four", stream=stream))
            text = text or end["result"]["text"]
            assert (text, end["finish"]) == ("one two three four", "stop")
            assert {"verdict": "stop", "why": "it counts too far"}.items() <= told(end, "loud").items()
        assert hooks(client)["loud"]["calls"] >= 4


def test_a_handler_on_trial_costs_no_log_probabilities(tmp_path: Path) -> None:
    with (
        daemon_with(tmp_path, "[plugins.loud]\ntrial = true\n", loud=ON_TRIAL) as daemon,
        Wire(daemon.socket) as client,
    ):
        client.ask("one two", body={"logprobs": True})
        messages = client.until("done", "failed")
        plain = [one for one in messages if one["t"] == "chunk"]
        assert plain and messages[-1]["t"] == "done"
        assert all(one.get("p") for one in plain)


def test_an_example_is_of_the_account_that_gives_it(tmp_path: Path) -> None:
    seen = "@hookimpl\ndef ingled_prompt(messages, call):\n    return note(account=call.account, model=call.model)\n"
    with daemon_with(tmp_path, seen=seen) as daemon, Wire(daemon.socket) as client:
        client.read(client.ask("x"))
        value = {"messages": [{"role": "user", "content": "x"}], "call": {"account": "uid:4711", "model": "other"}}
        found = client.call("hook_test", hook="seen", point="prompt", value=value)
        assert found["results"][0]["note"] == {"account": client.welcome["account"], "model": "other"}
