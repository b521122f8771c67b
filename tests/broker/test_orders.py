"""What workers are told waits for the end of a turn of the loop, and travels together."""

import asyncio

from ingled import link
from ingled.broker.orders import Orders


def test_what_one_turn_has_for_a_worker_travels_together() -> None:
    async def run() -> None:
        sent: list[tuple[str, link.ToPeer]] = []
        orders = Orders(asyncio.get_running_loop(), lambda worker, message: sent.append((worker, message)))
        orders.grant("1", "a", 3, 10)
        orders.release("1", "old")
        orders.grant("1", "a", 2, 7)
        orders.grant("2", "b", 1, 0)
        assert sent == []
        await asyncio.sleep(0)
        credit = link.Credit({"a": (5, 10)})
        assert sent == [("1", credit), ("1", link.Release(["old"])), ("2", link.Credit({"b": (1, 0)}))]

    asyncio.run(run())


def test_aborts_leave_before_they_are_answered_and_only_once() -> None:
    async def run() -> None:
        sent: list[tuple[str, link.ToPeer]] = []
        orders = Orders(asyncio.get_running_loop(), lambda worker, message: sent.append((worker, message)))
        orders.abort("1", "a")
        orders.abort("1", "b")
        orders.grant("2", "c", 1, 0)
        orders.settle()
        assert sent == [("1", link.Abort(["a", "b"]))], "nobody else is told before its time"
        await asyncio.sleep(0)
        assert sent[1:] == [("2", link.Credit({"c": (1, 0)}))]
        orders.release("1", "a")
        orders.tell("1")
        assert sent[2:] == [("1", link.Release(["a"]))]
        await asyncio.sleep(0)
        assert len(sent) == 3

    asyncio.run(run())
