"""The exact bytes of every message. Changing one is a decision about the protocol: bump docs/protocol.md.

Both readers are held to the same bytes: the client's `codec` (msgpack) and the daemon's `schema` (msgspec).
"""

from array import array
from typing import Any, get_args

import msgspec
import pytest
from ingle.wire import codec
from ingle.wire import hook_schema as h
from ingle.wire import schema as s
from ingled.worker import vectors
from msgspec import Raw, Struct

BODY = Raw(msgspec.msgpack.encode({"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}))

GOLDEN: dict[str, tuple[Struct, str]] = {
    "hello": (
        s.Hello((1, 1), s.ClientInfo("vim", "9", ["editor"])),
        "85a174a568656c6c6fa870726f746f636f6c920101a6636c69656e7483a46e616d65a376696da776657273696f6ea139a474"
        "61677391a6656469746f72a5746f6b656ec0a36b6579c0",
    ),
    "hello_resume": (
        s.Hello((1, 1), s.ClientInfo("vim"), "tok", "key"),
        "85a174a568656c6c6fa870726f746f636f6c920101a6636c69656e7483a46e616d65a376696da776657273696f6ea130a474"
        "61677390a5746f6b656ea3746f6ba36b6579a36b6579",
    ),
    "request": (
        s.Request(1, "chat", BODY, "ember", credit=8),
        "8da174a772657175657374a372656601a26f70a463686174a4626f647982a86d657373616765739182a4726f6c65a4757365"
        "72a7636f6e74656e74a26869aa6d61785f746f6b656e7305a56d6f64656ca5656d626572a673747265616dc3a66372656469"
        "7408ab646561646c696e655f6d73c0a6646574616368c2a867726163655f6d7300a87072696f7269747900a7636f6e746578"
        "7490a57472616365c2",
    ),
    "request_embed": (
        s.Request(4, "embed", Raw(msgspec.msgpack.encode({"input": ["a", "b"]})), "mini", stream=False),
        "8da174a772657175657374a372656604a26f70a5656d626564a4626f647981a5696e70757492a161a162a56d6f64656ca46d"
        "696e69a673747265616dc2a663726564697410ab646561646c696e655f6d73c0a6646574616368c2a867726163655f6d7300"
        "a87072696f7269747900a7636f6e7465787490a57472616365c2",
    ),
    "request_detached": (
        s.Request(2, "chat", BODY, stream=False, deadline_ms=9000, detach=True, grace_ms=500, priority=-1),
        "8da174a772657175657374a372656602a26f70a463686174a4626f647982a86d657373616765739182a4726f6c65a4757365"
        "72a7636f6e74656e74a26869aa6d61785f746f6b656e7305a56d6f64656cc0a673747265616dc2a663726564697410ab6465"
        "61646c696e655f6d73cd2328a6646574616368c3a867726163655f6d73cd01f4a87072696f72697479ffa7636f6e74657874"
        "90a57472616365c2",
    ),
    "credit": (
        s.GiveCredit("ab2c", 8, 1234),
        "84a174a6637265646974a26964a461623263a16e08a361636bcd04d2",
    ),
    "cancel": (
        s.Cancel(3, "ab2c"),
        "83a174a663616e63656ca372656603a26964a461623263",
    ),
    "attach": (
        s.Attach(4, "ab2c", 300, 16),
        "85a174a6617474616368a372656604a26964a461623263a66f6666736574cd012ca663726564697410",
    ),
    "call": (
        s.Call(5, "load", Raw(b"\x81\xa5model\xa5ember")),
        "84a174a463616c6ca372656605a476657262a46c6f6164a46172677381a56d6f64656ca5656d626572",
    ),
    "subscribe": (
        s.Subscribe(6, ["model"], 4),
        "84a174a9737562736372696265a372656606a6746f7069637391a56d6f64656ca663726564697404",
    ),
    "bye": (
        s.Bye(),
        "81a174a3627965",
    ),
    "welcome": (
        s.Welcome((1, 0), "tok", "uid:1000", {"frame": 4194304}, {"name": "ingled"}, ["chat"], ["status"], ["model"]),
        "89a174a777656c636f6d65a870726f746f636f6c920100a5746f6b656ea3746f6ba76163636f756e74a87569643a31303030"
        "a66c696d69747381a56672616d65ce00400000a66461656d6f6e81a46e616d65a6696e676c6564a36f707391a463686174a5"
        "766572627391a6737461747573a6746f7069637391a56d6f64656c",
    ),
    "accepted": (
        s.Accepted(1, "ab2c"),
        "83a174a86163636570746564a372656601a26964a461623263",
    ),
    "progress": (
        s.Progress("loading", "ab2c", position=0, percent=40, eta_ms=1500, what="ember: weights"),
        "87a174a870726f6772657373a57068617365a76c6f6164696e67a26964a461623263a8706f736974696f6e00a77065726365"
        "6e7428a66574615f6d73cd05dca477686174ae656d6265723a2077656967687473",
    ),
    "chunk": (
        s.Chunk("ab2c", 0, "hé"),
        "84a174a56368756e6ba26964a461623263a16f00a178a368c3a9",
    ),
    "chunk_logprobs": (
        s.Chunk("ab2c", 3, "y", p=[{"token": "y", "logprob": -0.5, "top": []}]),
        "85a174a56368756e6ba26964a461623263a16f03a178a179a1709183a5746f6b656ea179a76c6f6770726f62cbbfe0000000"
        "000000a3746f7090",
    ),
    "chunk_reasoning": (
        s.Chunk("ab2c", 4, r="so"),
        "84a174a56368756e6ba26964a461623263a16f04a172a2736f",
    ),
    "done": (
        s.Done(
            "ab2c",
            "stop",
            s.Usage(10, 4, 5),
            s.Timings(0.0, 1.5, 12.5, 99.0),
            s.ModelRef("ember", None, "Apache-2.0"),
            [],
        ),
        "87a174a4646f6e65a26964a461623263a666696e697368a473746f70a5757361676583a670726f6d70740aa6636163686564"
        "04aa636f6d706c6574696f6e05a26d7384a6717565756564cb0000000000000000a46c6f6164cb3ff8000000000000a56669"
        "727374cb4029000000000000a5746f74616ccb4058c00000000000a56d6f64656c82a46e616d65a5656d626572a76c696365"
        "6e7365aa4170616368652d322e30a5686f6f6b7390",
    ),
    "done_result": (
        s.Done(
            "ab2c",
            "length",
            s.Usage(1, 0, 1),
            s.Timings(0.0, 0.0, 1.0, 2.0),
            s.ModelRef("ember"),
            [],
            "END",
            {"text": "hi"},
            1,
        ),
        "8aa174a4646f6e65a26964a461623263a666696e697368a66c656e677468a5757361676583a670726f6d707401a663616368"
        "656400aa636f6d706c6574696f6e01a26d7384a6717565756564cb0000000000000000a46c6f6164cb0000000000000000a5"
        "6669727374cb3ff0000000000000a5746f74616ccb4000000000000000a56d6f64656c81a46e616d65a5656d626572a5686f"
        "6f6b7390a473746f70a3454e44a6726573756c7481a474657874a26869a7726573756d656401",
    ),
    "failed": (
        s.Failed(
            "bad_value",
            "body.temperature is -1: expected float >= 0.0",
            "see docs",
            "client",
            ref=1,
            at="body.temperature",
        ),
        "87a174a66661696c6564a4636f6465a96261645f76616c7565a76d657373616765d92d626f64792e74656d70657261747572"
        "65206973202d313a20657870656374656420666c6f6174203e3d20302e30a468696e74a873656520646f6373a56661756c74"
        "a6636c69656e74a372656601a26174b0626f64792e74656d7065726174757265",
    ),
    "failed_request": (
        s.Failed("load_failed", "no", "why", "model", id="ab2c", retry_after_ms=1000, usage=s.Usage(1, 0, 0)),
        "88a174a66661696c6564a4636f6465ab6c6f61645f6661696c6564a76d657373616765a26e6fa468696e74a3776879a56661"
        "756c74a56d6f64656ca26964a461623263ae72657472795f61667465725f6d73cd03e8a5757361676583a670726f6d707401"
        "a663616368656400aa636f6d706c6574696f6e00",
    ),
    "result": (
        s.Result(5, {"model": "ember", "state": "ready"}),
        "83a174a6726573756c74a372656605a576616c756582a56d6f64656ca5656d626572a57374617465a57265616479",
    ),
    "event": (
        s.Event("ev1", "model", {"model": "ember", "state": "ready"}, 2),
        "85a174a56576656e74a26964a3657631a5746f706963a56d6f64656ca576616c756582a56d6f64656ca5656d626572a57374"
        "617465a57265616479a46c6f737402",
    ),
    "request_with_context": (
        s.Request(
            3, "chat", BODY, context=[s.ContextItem("diff", "+x"), s.ContextItem("file", "y", "a.py")], trace=True
        ),
        "8da174a772657175657374a372656603a26f70a463686174a4626f647982a86d657373616765739182a4726f6c65a4757365"
        "72a7636f6e74656e74a26869aa6d61785f746f6b656e7305a56d6f64656cc0a673747265616dc3a663726564697410ab6465"
        "61646c696e655f6d73c0a6646574616368c2a867726163655f6d7300a87072696f7269747900a7636f6e746578749283a46b"
        "696e64a464696666a474657874a22b78a46e616d65c083a46b696e64a466696c65a474657874a179a46e616d65a4612e7079"
        "a57472616365c3",
    ),
    "hook_offer": (
        h.HookOffer(7, "shout", ["prompt"]),
        "84a174aa686f6f6b5f6f66666572a372656607a46e616d65a573686f7574a6706f696e747391a670726f6d7074",
    ),
    "hook_offer_of_an_observer": (
        h.HookOffer(9, "ears", ["observe"], confirms=True),
        "85a174aa686f6f6b5f6f66666572a372656609a46e616d65a465617273a6706f696e747391a76f627365727665a8636f6e6669726d73c3",
    ),
    "hook_offer_in_full": (
        h.HookOffer(
            8,
            "mask",
            ["prompt", "chunk"],
            "1.2",
            300,
            h.Select(["ember"], ["uid:1000"], ["shell"]),
            500,
            "refuse",
            True,
            "all",
            h.Hold(64, 250),
            True,
        ),
        "8da174aa686f6f6b5f6f66666572a372656608a46e616d65a46d61736ba6706f696e747392a670726f6d7074a56368756e6b"
        "a776657273696f6ea3312e32a56f72646572cd012ca673656c65637483a66d6f64656c7391a5656d626572a86163636f756e"
        "747391a87569643a31303030a47461677391a57368656c6cab646561646c696e655f6d73cd01f4a86f6e5f6572726f72a672"
        "6566757365a5747269616cc3a573636f7065a3616c6ca4686f6c6482a5636861727340a26d73ccfaa87365637572697479c3",
    ),
    "hook_withdraw": (
        h.HookWithdraw(9, "shout"),
        "83a174ad686f6f6b5f7769746864726177a372656609a46e616d65a573686f7574",
    ),
    "hook_reply": (
        h.HookReply(
            3,
            [h.HookResult("a"), h.HookResult("mask", "changed", us=40, state=b"\x00k", note={"found": 1})],
            {"messages": [{"role": "user", "content": "HI"}]},
        ),
        "84a174aa686f6f6b5f7265706c79a463616c6c03a7726573756c74739281a4686f6f6ba16185a4686f6f6ba46d61736ba776"
        "657264696374a76368616e676564a2757328a57374617465c402006ba46e6f746581a5666f756e6401a576616c756581a86d"
        "657373616765739182a4726f6c65a475736572a7636f6e74656e74a24849",
    ),
    "hook_reply_refused": (
        h.HookReply(4, [h.HookResult("mask", "refuse", "no")]),
        "83a174aa686f6f6b5f7265706c79a463616c6c04a7726573756c74739183a4686f6f6ba46d61736ba776657264696374a672"
        "6566757365a6726561736f6ea26e6f",
    ),
    "hook_reply_chunk": (
        h.HookReply(5, [h.HookResult("mask", "changed", held=2)], {"text": "a"}),
        "84a174aa686f6f6b5f7265706c79a463616c6c05a7726573756c74739183a4686f6f6ba46d61736ba776657264696374a763"
        "68616e676564a468656c6402a576616c756581a474657874a161",
    ),
    "hook_call": (
        h.HookCall(
            3, "prompt", ["a", "mask"], {"call": {}, "messages": []}, "ab2c", states={"mask": b"k"}, deadline_ms=500
        ),
        "88a174a9686f6f6b5f63616c6ca463616c6c03a5706f696e74a670726f6d7074a5686f6f6b7392a161a46d61736ba576616c"
        "756582a463616c6c80a86d6573736167657390a26964a461623263a673746174657381a46d61736bc4016bab646561646c69"
        "6e655f6d73cd01f4",
    ),
    "hook_call_chunk": (
        h.HookCall(5, "chunk", ["mask"], {"text": "ab"}, "ab2c", 2, True, True),
        "89a174a9686f6f6b5f63616c6ca463616c6c05a5706f696e74a56368756e6ba5686f6f6b7391a46d61736ba576616c756581"
        "a474657874a26162a26964a461623263a373657102a46c617374c3a5666c757368c3",
    ),
    "hook_end": (
        h.HookEnd("ab2c"),
        "82a174a8686f6f6b5f656e64a26964a461623263",
    ),
    "failed_with_hooks": (
        s.Failed("refused_by_hook", "no", "", "hook:a", id="ab2c", hooks=[{"name": "a", "verdict": "refuse"}]),
        "87a174a66661696c6564a4636f6465af726566757365645f62795f686f6f6ba76d657373616765a26e6fa468696e74a0a566"
        "61756c74a6686f6f6b3a61a26964a461623263a5686f6f6b739182a46e616d65a161a776657264696374a6726566757365",
    ),
}


def test_vectors_travel_as_floats_of_four_bytes() -> None:
    result = {"vectors": Raw(vectors.pack([array("f", [0.5, -2.0]), array("f", [0.1, 3.0])]))}
    done = s.Done("ab2c", "stop", s.Usage(3, 0, 0), s.Timings(0, 0, 0, 0), s.ModelRef("mini"), [], result=result)
    golden = (
        "88a174a4646f6e65a26964a461623263a666696e697368a473746f70a5757361676583a670726f6d707403a663616368656400aa"
        "636f6d706c6574696f6e00a26d7384a671756575656400a46c6f616400a5666972737400a5746f74616c00a56d6f64656c81a46e"
        "616d65a46d696e69a5686f6f6b7390a6726573756c7481a7766563746f7273dd00000002dd00000002ca3f000000cac0000000dd"
        "00000002ca3dcccccdca40400000"
    )
    assert msgspec.msgpack.encode(done).hex() == golden
    assert codec.unpack(bytes.fromhex(golden))["result"]["vectors"] == [[0.5, -2.0], [pytest.approx(0.1), 3.0]]


@pytest.mark.parametrize("name", GOLDEN)
def test_a_message_has_exactly_these_bytes(name: str) -> None:
    message, golden = GOLDEN[name]
    assert msgspec.msgpack.encode(message).hex() == golden


@pytest.mark.parametrize("name", GOLDEN)
def test_both_readers_read_the_bytes(name: str) -> None:
    message, golden = GOLDEN[name]
    data = bytes.fromhex(golden)
    read: Any = msgspec.msgpack.decode(data, type=type(message))
    assert read == message
    assert codec.unpack(data)["t"] == type(message).__struct_config__.tag


@pytest.mark.parametrize("name", GOLDEN)
def test_the_light_codec_writes_the_same_bytes(name: str) -> None:
    data = bytes.fromhex(GOLDEN[name][1])
    assert codec.pack(codec.unpack(data)) == data


def test_every_message_of_the_schema_has_golden_bytes() -> None:
    every = set(get_args(s.FromClient)) | set(get_args(s.ToClient))
    assert {type(message) for message, _ in GOLDEN.values()} == every
