"""The private link's end in a nursery, hook host or keeper."""

import contextlib
import socket
from pathlib import Path

from ingle.zmtp import Zmtp
from ingled import link
from ingled.line import Line


def test_what_the_broker_said_before_its_end_is_read_although_nothing_can_be_sent_any_more(tmp_path: Path) -> None:
    (tmp_path / link.SECRET_FILE).write_text("secret")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / link.SOCKET_FILE))
        server.listen()
        line = Line(tmp_path, "keeper")
        line.tick()
        broker, _ = server.accept()
        broker.setblocking(False)
        protocol = Zmtp(1 << 20, kind=b"ROUTER", peers=frozenset({b"DEALER"}))
        came: list[link.FromPeer] = []
        while not came:
            with contextlib.suppress(BlockingIOError):
                came = [link.decode_from_peer(frames[0]) for frames in protocol.receive(broker.recv(1 << 16))]
            broker.send(protocol.outgoing)
            protocol.outgoing.clear()
            assert line.receive() == []
        assert isinstance(came[0], link.Attach)
        protocol.send([link.encode(link.Stop())])
        broker.send(protocol.outgoing)
        broker.close()
        for _ in range(2):
            line.send(link.HostEnded(1, "signal 9"))
        assert line.receive() == [link.Stop()]
        assert line.receive() == []
        assert line.connection is None
        line.close()
