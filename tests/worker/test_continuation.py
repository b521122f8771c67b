"""The text of an answer that goes on with a new engine: exactly what one engine would have made."""

from hypothesis import given
from hypothesis import strategies as st
from ingled.worker.continuation import Continuation


class Bytes:
    """A detokenizer whose tokens are bytes: half characters wait, and a stop string holds text back."""

    def __init__(self, stop: str | None) -> None:
        self.output_text = ""
        self._stop = stop
        self._bytes = b""
        self._given = 0

    def update(self, new_token_ids: list[int], stop_terminated: bool) -> str | None:
        self._bytes += bytes(new_token_ids[:-1] if stop_terminated else new_token_ids)
        self.output_text = self._bytes.decode(errors="ignore")
        if self._stop and self._stop in self.output_text:
            self.output_text = self.output_text[: self.output_text.index(self._stop)]
            return self._stop
        return None

    def get_next_output_text(self, finished: bool, delta: bool) -> str:
        end = len(self.output_text) - (0 if finished or not self._stop else len(self._stop) - 1)
        text = self.output_text[self._given : max(end, self._given)]
        self._given += len(text)
        return text


def one_engine(text: bytes, stop: str | None) -> str:
    detokenizer = Bytes(stop)
    for byte in text:
        if detokenizer.update([byte], False) is not None:
            break
    return detokenizer.get_next_output_text(True, True)


@given(st.text("abä€", min_size=1, max_size=12), st.sampled_from([None, "ab", "ä€a"]), st.data())
def test_however_it_was_interrupted_the_text_is_the_same(text: str, stop: str | None, data: st.DataObject) -> None:
    whole = one_engine(text.encode(), stop)
    ids = list(text.encode())
    done = data.draw(st.integers(0, len(ids)), "tokens of the dead engine")
    sent = data.draw(st.integers(0, len(one_engine(bytes(ids[:done]), None))), "characters sent")
    head = whole[:sent]
    continuation = Continuation(Bytes(stop), ids[:done], len(head.encode()))
    rest = ""
    for index in range(done, len(ids)):
        if continuation.stop is not None:
            break
        rest += continuation.text([ids[index]], finished=False, stop_terminated=False)
    rest += continuation.text([], finished=True, stop_terminated=False)
    assert head + rest == whole
