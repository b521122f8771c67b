"""The text of running requests: exact under every order of chunks, credit, acknowledgement and attach."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from ingle.wire.codec import pack, unpack
from ingle.wire.limits import CREDIT
from ingled.core.flow import UNLIMITED, BadOffset, Flow, Sends


def message(offset: int, text: str) -> bytes:
    return pack({"t": "chunk", "id": "r", "o": offset, "x": text})


def flow_with(credit: int, *, keep: bool = False) -> Flow:
    flow = Flow()
    flow.open("r", "uid:1", 7, credit, keep)
    flow.run("r", "w")
    return flow


def produce(flow: Flow, text: str) -> list[bytes]:
    sends: Sends = []
    at = flow.streams["r"].end
    flow.chunk("r", at, len(text.encode()), [len(text)], message(at, text), sends)
    return [data for _, data in sends]


def test_chunks_go_out_while_there_is_credit_and_wait_for_more() -> None:
    flow = flow_with(2)
    assert [len(produce(flow, text)) for text in ("a", "b", "c")] == [1, 1, 0]
    sends, more, ended = flow.credit(7, "r", 1, 1)
    assert [unpack(data)["x"] for _, data in sends] == ["c"]
    assert (more, ended) == (0, False)


def test_the_worker_may_send_as_much_as_the_reader_can_take() -> None:
    flow = flow_with(4)
    assert flow.streams["r"].allowed == 4
    produce(flow, "a")
    assert flow.credit(7, "r", 3, 1)[1] == 3
    assert flow.streams["r"].allowed == 6 == flow.streams["r"].credit


def test_credit_has_an_upper_bound() -> None:
    flow = flow_with(CREDIT)
    assert flow.credit(7, "r", CREDIT, 0)[1] == 0
    assert flow.streams["r"].credit == CREDIT


def test_credit_of_somebody_else_changes_nothing() -> None:
    flow = flow_with(0)
    produce(flow, "a")
    assert flow.credit(8, "r", 5, 0) == ([], None, False)
    assert flow.credit(7, "nothing", 5, 0) == ([], None, False)


def test_last_tokens_without_text_count_once_and_go_out_where_there_are_details_of_them() -> None:
    for details in (b"", pack({"t": "chunk", "id": "r", "o": 1, "x": "", "p": []})):
        flow = flow_with(2)
        produce(flow, "a")
        sends: Sends = []
        for _ in range(2):  # a link that broke sends again
            assert flow.chunk("r", 1, 0, [5, 6], details, sends) is None
        assert sends == ([(7, details)] if details else [])
        assert flow.streams["r"].tokens == [1, 5, 6] and flow.made("r") == 3
        assert flow.streams["r"].credit == flow.streams["r"].allowed == (0 if details else 1)
        assert flow.close("r", b"end")[1]


def test_the_end_waits_for_the_last_chunk() -> None:
    flow = flow_with(0)
    produce(flow, "a")
    assert flow.close("r", b"end") == ([], False)
    sends, more, ended = flow.credit(7, "r", 1, 0)
    assert [data for _, data in sends] == [message(0, "a"), b"end"]
    assert (more, ended) == (0, True)


def test_acknowledged_text_is_forgotten_and_kept_text_is_not() -> None:
    for keep, held in ((False, 1), (True, 2)):
        flow = flow_with(2, keep=keep)
        produce(flow, "ab")
        produce(flow, "cd")
        flow.credit(7, "r", 0, 2)
        assert len(flow.streams["r"].chunks) == held


def test_a_kept_stream_lets_the_worker_go_on_without_a_reader() -> None:
    flow = flow_with(0, keep=True)
    assert flow.streams["r"].allowed == UNLIMITED
    flow.detach("r")
    produce(flow, "ab")
    sends, _, _ = flow.attach("r", 9, 0, 1)
    assert sends == [(9, message(0, "ab"))]


def test_an_attach_inside_a_chunk_gets_its_tail() -> None:
    flow = flow_with(4, keep=True)
    produce(flow, "aäb")
    flow.check_offset("r", 3)
    sends, _, _ = flow.attach("r", 9, 3, 4)
    assert [unpack(data) for _, data in sends] == [{"t": "chunk", "id": "r", "o": 3, "x": "b"}]
    assert [unpack(m)["x"] for _, _, m in flow.streams["r"].chunks] == ["aä", "b"]


def test_offsets_that_cannot_be_served_are_refused() -> None:
    flow = flow_with(4)
    produce(flow, "aäb")
    with pytest.raises(BadOffset, match="inside a character"):
        flow.check_offset("r", 2)
    with pytest.raises(BadOffset, match="from offset 0 to 4 is held, not from 5"):
        flow.check_offset("r", 5)
    flow.credit(7, "r", 0, 4)
    with pytest.raises(BadOffset, match="from offset 4 to 4"):
        flow.check_offset("r", 0)


def test_chunks_of_a_stream_that_was_cut_are_dropped() -> None:
    flow = flow_with(4)
    assert flow.cut("r") == 7
    assert flow.cut("r") is None
    sends: Sends = []
    flow.chunk("r", 0, 1, [1], b"late", sends)
    assert sends == []


def test_what_is_held_can_be_counted() -> None:
    flow = flow_with(0)
    produce(flow, "ab")
    assert flow.held("r") == len(message(0, "ab")) + 160
    assert flow.held("nothing") == 0


def test_a_reader_that_has_the_end_is_told_nothing_more() -> None:
    flow = flow_with(0)
    flow.close("r", b"end")
    assert flow.cut("r") is None


class Streams(RuleBasedStateMachine):
    """Random workers, readers and reconnects: the reader's text is always a prefix of what was produced."""

    @initialize(credit=st.integers(0, 4), keep=st.booleans())
    def open(self, credit: int, keep: bool) -> None:
        self.flow = Flow()
        self.flow.open("r", "uid:1", 1, credit, keep)
        self.allowed = self.flow.run("r", "w").allowed
        self.conn: int | None = 1
        self.conns = 1
        self.given = credit
        self.produced = self.got = b""
        self.count = 0
        self.ended = False
        self.closed = False

    def take(self, sends: Sends) -> None:
        for conn, data in sends:
            assert conn == self.conn
            if data == b"end":
                assert not self.ended
                assert self.closed
                assert self.got == self.produced
                self.ended = True
                continue
            chunk = unpack(data)
            assert chunk["o"] == len(self.got)
            self.got += chunk["x"].encode()
            self.given -= 1
            assert self.given >= 0

    @precondition(lambda self: not self.closed and self.allowed > 0)
    @rule(text=st.text("aäö€", min_size=1, max_size=4))
    def chunk(self, text: str) -> None:
        sends: Sends = []
        at = len(self.produced)
        self.flow.chunk("r", at, len(text.encode()), [1], message(at, text), sends)
        self.allowed -= 1
        self.produced += text.encode()
        self.count += 1
        self.take(sends)

    @precondition(lambda self: self.conn is not None)
    @rule(n=st.integers(0, 5), back=st.integers(0, 3))
    def credit(self, n: int, back: int) -> None:
        self.given += n
        sends, more, _ = self.flow.credit(self.conn or 0, "r", n, max(0, len(self.got) - back))
        assert more is not None
        self.allowed += more
        self.take(sends)

    @precondition(lambda self: not self.closed)
    @rule()
    def close(self) -> None:
        self.closed = True
        self.take(self.flow.close("r", b"end")[0])

    @precondition(lambda self: not self.closed)
    @rule()
    def worker_dies(self) -> None:
        """Another engine goes on behind what arrived; what the dead one sent late, or sends again, is dropped."""
        stream = self.flow.run("r", "another")
        assert stream.end == len(self.produced)
        assert len(stream.tokens) == self.count
        self.allowed = stream.allowed
        sends: Sends = []
        if stream.end:
            self.flow.chunk("r", stream.end - 1, 1, [1], b"again", sends)
        assert sends == []

    @rule()
    def lose(self) -> None:
        self.flow.detach("r")
        self.conn = None

    @precondition(lambda self: self.conn is None)
    @rule(credit=st.integers(0, 4), data=st.data())
    def attach(self, credit: int, data: st.DataObject) -> None:
        begin = self.flow.streams["r"].begin
        offset = data.draw(st.integers(min(begin, len(self.got)), len(self.got)))
        try:
            self.flow.check_offset("r", offset)
        except BadOffset:
            return
        self.conns += 1
        self.conn, self.given, self.got, self.ended = self.conns, credit, self.got[:offset], False
        sends, more, _ = self.flow.attach("r", self.conn, offset, credit)
        self.allowed += more
        self.take(sends)

    @invariant()
    def who_waits_waits_for_something(self) -> None:
        if not hasattr(self, "flow"):
            return
        assert self.produced.startswith(self.got)
        if self.conn is not None and self.given > 0:
            assert self.got == self.produced, "text is held back from a reader with credit"
            assert self.closed or self.allowed > 0, "the reader can take more, and the worker may not send"
        if self.conn is not None and self.closed and self.got == self.produced:
            assert self.ended


TestStreams = Streams.TestCase


@given(st.lists(st.text("aä€𝄞", min_size=1, max_size=3), min_size=1, max_size=5), st.data())
def test_an_attach_anywhere_gives_exactly_the_rest(texts: list[str], data: st.DataObject) -> None:
    flow = flow_with(0, keep=True)
    for text in texts:
        produce(flow, text)
    whole = "".join(texts)
    at = data.draw(st.integers(0, len(whole)))
    offset = len(whole[:at].encode())
    flow.check_offset("r", offset)
    sends, _, _ = flow.attach("r", 9, offset, CREDIT)
    assert "".join(unpack(data)["x"] for _, data in sends) == whole[at:]


def test_a_stream_that_is_taken_over_goes_on_behind_what_its_reader_had() -> None:
    flow = Flow()
    flow.adopt("r", "uid:1", "w", False, 6, [1, 2])
    produce(flow, "cd")
    assert flow.streams["r"].tokens == [1, 2, 2]
    with pytest.raises(BadOffset, match="from offset 6 to 8 is held, not from 5"):
        flow.check_offset("r", 5)
    sends, more, _ = flow.attach("r", 9, 6, 3)
    assert sends == [(9, message(6, "cd"))]
    assert more == 2
