"""`python -m ingled.hooks --check`: load the plugins of a Setup in a process that ends then, and say what is wrong."""

import os
import sys
from typing import NoReturn

import msgspec

from ingled import link
from ingled.hooks import confine
from ingled.hooks.registry import Registry


def check() -> NoReturn:
    """Read a packed Setup on standard input, write the packed Offers; ends with 1 if a plugin has a problem."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what plugins print is not part of the answer
    setup = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=link.Setup)
    confine.limit_memory(setup.memory)
    offers = link.Offers(Registry(setup).told)
    with answer:
        answer.write(link.encode(offers))
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of plugins cannot keep it.
    os._exit(1 if any(plugin.problem for plugin in offers.plugins) else 0)
