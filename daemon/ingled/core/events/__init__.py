"""What can happen to the daemon: every value that `Control.handle` takes, one module for each side that it comes from.

Events are facts in the past. Each carries `now` (monotonic seconds), so that the core never reads a clock.
"""

from ingled.core.events.clients import *
from ingled.core.events.clients import OfClients
from ingled.core.events.daemon import *
from ingled.core.events.daemon import OfDaemon
from ingled.core.events.hooks import *
from ingled.core.events.hooks import OfHooks
from ingled.core.events.workers import *
from ingled.core.events.workers import OfWorkers

Event = OfClients | OfWorkers | OfHooks | OfDaemon
