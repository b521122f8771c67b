"""A worker without a model: it gives the broker ready-made chunks as fast as credit allows (`bench.forwarding`).

    python -m bench.synthetic_worker CONFIG SOCKET [MODEL]

Like an engine it makes one step after the other, and each gives every stream that has credit one token: the chunks of a
step travel in one message.
"""

import os
import sys
import time
from pathlib import Path

import msgspec
import zmq
from ingle.wire.schema import Chunk
from ingled import config, link

WORD = "ember "
MODEL = "bench"


class Stream:
    """What one request was given, and may be."""

    def __init__(self, run: link.Run) -> None:
        body = msgspec.msgpack.decode(run.body, type=dict[str, object])
        wanted = body.get("max_tokens")
        assert isinstance(wanted, int), "the load names it"
        self.id, self.credit, self.left, self.made = run.id, run.credit, wanted, 0
        self.total = wanted


def main() -> None:
    """Attach to the broker and serve until it says stop."""
    settings = config.load(Path(sys.argv[1]), socket=Path(sys.argv[2]), engine="echo")
    context = zmq.Context(1)
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    dealer.set_hwm(0)
    dealer.connect(f"ipc://{settings.runtime / link.SOCKET_FILE}")
    secret = (settings.runtime / link.SECRET_FILE).read_text()

    def say(message: link.FromPeer) -> None:
        dealer.send(link.encode(message))

    say(link.Attach(secret, "worker", os.getpid(), spec=settings.spec((*sys.argv, MODEL)[3])))
    say(link.Ready(link.Info("synthetic", 1 << 20, max_running=1 << 10)))
    streams: dict[str, Stream] = {}
    alive_at = 0.0
    pack = msgspec.msgpack.Encoder().encode
    while True:
        if time.monotonic() > alive_at:
            alive_at = time.monotonic() + 1
            say(link.Alive())
        going = [stream for stream in streams.values() if stream.credit and stream.left]
        if dealer.poll(0 if going else 200):
            while True:
                try:
                    message = link.decode_to_peer(dealer.recv(zmq.NOBLOCK))
                except zmq.Again:
                    break
                match message:
                    case link.Run():
                        streams[message.id] = Stream(message)
                    case link.Credit(grants):
                        for id, (number, _) in grants.items():
                            if id in streams:
                                streams[id].credit += number
                    case link.Abort(ids):
                        for id in ids:
                            if streams.pop(id, None):
                                say(link.Ended(id, "abort", 1, 0, 0))
                    case link.Stop():
                        return
            continue
        pieces = []
        size = len(WORD)
        for stream in going:
            at = stream.made * size
            pieces.append(link.Piece(stream.id, at, size, [stream.made], pack(Chunk(stream.id, at, WORD))))
            stream.made += 1
            stream.left -= 1
            stream.credit -= 1
        if pieces:
            say(link.Chunks(pieces))
        for stream in going:
            if not stream.left:
                del streams[stream.id]
                say(link.Ended(stream.id, "length", 1, 0, stream.total))


if __name__ == "__main__":
    main()
