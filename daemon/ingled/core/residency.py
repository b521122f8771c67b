"""Which model is resident: one small state machine for each model.

Everything that changes a model's state is in this file, and the table below is the truth: a missing key is a bug of
ours, and its error tells the model's story.
"""

from dataclasses import dataclass, field
from dataclasses import replace as changed
from enum import Enum

from ingle.wire.schema import TEXT_OPS, Phase

from ingled.core.ladder import Sleep
from ingled.core.placement import Terms
from ingled.core.story import Story


class State(Enum):
    """Where a model is."""

    COLD = "cold"
    LOADING = "loading"
    READY = "ready"
    DOZING = "dozing"
    """It falls asleep."""
    SLEEPING = "sleeping"
    WAKING = "waking"
    CHECKING = "checking"
    """It is seen whether it answers as before the machine was suspended."""
    STOPPING = "stopping"
    FAILED = "failed"


class Cause(Enum):
    """Why a model's state changes."""

    WANTED = "wanted"
    READY = "worker ready"
    TO_SLEEP = "put to sleep"
    ASLEEP = "asleep"
    CHECK = "to be looked at"
    SLEEP_FAILED = "cannot sleep"
    LOAD_FAILED = "load failed"
    GONE = "worker gone"
    UNWANTED = "unload"
    EVICTED = "put out"
    ADOPTED = "worker adopted"
    DYING = "engine died"
    BASE_LEFT = "base left"
    BASE_FAILED = "base failed"
    GAVE_UP = "gave up"


CHANGING = (State.LOADING, State.DOZING, State.WAKING)
"""What it takes of its device changes: of one device, only one model does this at a time."""
MOVING = (*CHANGING, State.CHECKING)
"""It will be in another state by itself."""
STAYING = (State.READY, State.SLEEPING, *MOVING)
"""It has a worker, or is to get one, and nobody has told that to go."""
PRESENT = (*STAYING, State.STOPPING)
"""Its worker takes memory, or is about to, and has the options that it had when that was started."""
GONE = (State.COLD, State.FAILED)
"""It has no worker."""
WITH_ENGINE = (State.DOZING, State.SLEEPING, State.WAKING, State.CHECKING)

TRANSITIONS: dict[tuple[State, Cause], State] = {
    (State.COLD, Cause.WANTED): State.LOADING,
    (State.FAILED, Cause.WANTED): State.LOADING,
    (State.LOADING, Cause.READY): State.READY,
    (State.LOADING, Cause.LOAD_FAILED): State.FAILED,
    (State.LOADING, Cause.GONE): State.COLD,
    (State.LOADING, Cause.UNWANTED): State.STOPPING,
    (State.READY, Cause.UNWANTED): State.STOPPING,
    (State.READY, Cause.EVICTED): State.STOPPING,
    (State.READY, Cause.DYING): State.STOPPING,
    (State.LOADING, Cause.DYING): State.STOPPING,
    (State.COLD, Cause.GAVE_UP): State.FAILED,
    (State.READY, Cause.GONE): State.COLD,
    (State.STOPPING, Cause.GONE): State.COLD,
    (State.FAILED, Cause.UNWANTED): State.COLD,
    (State.COLD, Cause.ADOPTED): State.LOADING,
    (State.FAILED, Cause.ADOPTED): State.LOADING,
    (State.READY, Cause.TO_SLEEP): State.DOZING,
    (State.DOZING, Cause.ASLEEP): State.SLEEPING,
    (State.LOADING, Cause.ASLEEP): State.SLEEPING,
    (State.SLEEPING, Cause.WANTED): State.WAKING,
    (State.SLEEPING, Cause.EVICTED): State.STOPPING,
    (State.WAKING, Cause.READY): State.READY,
    (State.READY, Cause.CHECK): State.CHECKING,
    (State.CHECKING, Cause.READY): State.READY,
    **{(state, Cause.SLEEP_FAILED): State.STOPPING for state in MOVING},
    **{(state, Cause.UNWANTED): State.STOPPING for state in WITH_ENGINE},
    **{(state, Cause.DYING): State.STOPPING for state in WITH_ENGINE},
    **{(state, Cause.GONE): State.COLD for state in WITH_ENGINE},
    (State.LOADING, Cause.BASE_LEFT): State.COLD,
    (State.READY, Cause.BASE_LEFT): State.COLD,
    (State.STOPPING, Cause.BASE_LEFT): State.COLD,
    (State.COLD, Cause.BASE_FAILED): State.FAILED,
    (State.FAILED, Cause.BASE_FAILED): State.FAILED,
}

AWAY = (State.COLD, State.FAILED, State.SLEEPING)
"""It cannot answer, and does not change by itself: whoever wants it has to have it brought back."""


class IllegalTransition(AssertionError):
    """A bug of ours: the message names model, state and cause, and tells the model's story."""

    def __init__(self, model: str, message: str) -> None:
        super().__init__(message)
        self.model = model


RETRY_FIRST_S = 1.0
RETRY_MOST_S = 60.0
CRASHES = 5
"""Deaths of a worker in a row after which its model is given up until somebody asks again."""
STABLE_S = 60.0
"""A worker that was ready for so long ends the row."""


@dataclass(slots=True)
class Model:
    """One model and its worker, if it has one."""

    name: str
    aliases: tuple[str, ...] = ()
    license: str | None = None
    revision: str | None = None
    ops: tuple[str, ...] = TEXT_OPS
    """What it can be asked."""
    adapts: str | None = None
    """Its base, if this is an adapter: it has no worker of its own, and is loaded into that one's."""
    state: State = State.COLD
    worker: str | None = None
    pid: int | None = None
    forked_at: float | None = None
    """Since when it has a worker, or another daemon's; what is told of its load is reckoned from then on."""
    on: tuple[int, ...] = (0,)
    """Indices of the devices that it is on, or was last."""
    since: float = 0.0
    why: str | None = None
    """Reason of the last failure."""
    log: tuple[str, ...] = ()
    phase: str | None = None
    percent: int = 0
    """How far the load is, the start of the engine included."""
    base: int = 0
    """Percent at which the worker began: above 0 when it had to wait for the nursery."""
    failures: int = 0
    loads: int = 0
    """How often it has been loaded: from the second on it is known how long that takes."""
    retry_at: float = 0.0
    ready_at: float | None = None
    """Since when its worker has been ready."""
    wanted_again: bool = False
    """Somebody wants it while its worker is being stopped."""
    dying: bool = False
    """Its worker said that its engine died."""
    crashes: int = 0
    """Deaths of its worker in a row."""
    restart_at: float | None = None
    """When the next worker is to be started, while the model is cold between two."""
    terms: Terms = field(default_factory=Terms)
    ttl: float | None = None
    """Seconds without a request after which it is unloaded."""
    comes_back: float | None = None
    """It was put out: once those that took its place have been idle for so many seconds, it is loaded again."""
    pin: bool = False
    """Its profile says that it is pinned, unless somebody says otherwise."""
    pinned: bool = False
    """It is not put out for others, and its `ttl` does not count."""
    leaving: bool = False
    """The configuration has it no more: it goes when it has nothing left to do."""
    later: tuple[str | None, str | None, tuple[str, ...], str | None] | None = None
    """License, revision, ops and base of what the next worker will run."""
    sleep: Sleep = field(default_factory=Sleep)
    level: int = 0
    """At which it sleeps, or falls asleep, or from which it wakes; 0 otherwise."""
    asleep: bool = False
    """It takes only what it keeps asleep, also while it is being stopped."""
    suspended: bool = False
    """It slept while the machine was suspended: if it does not wake as it was, that says nothing of its sleep."""
    used_at: float = 0.0
    """When its last request came or ended."""
    places: int = 0
    """Requests that its engine runs at once; 0: any number."""
    closed: bool = False
    """Nothing more is given to it: others have waited too long for its memory."""
    waits: tuple[Phase, str] | None = None
    """Why it is not being loaded, though it is wanted."""
    story: Story = field(default_factory=Story)

    def idle(self, now: float) -> float:
        """Return the seconds since it was used, or became ready."""
        return max(0.0, now - max(self.used_at, self.ready_at or 0.0))

    def took(self, seconds: float) -> None:
        """Its load took so long, by its worker's own clock."""
        self.terms = changed(self.terms, reload_s=seconds)

    def settle(self) -> None:
        """Be what the profile says by now: no worker runs what it said before."""
        if self.later is not None:
            (self.license, self.revision, self.ops, self.adapts), self.later = self.later, None

    def abandon(self, now: float, why: str) -> None:
        """Fail, whatever the state is: what led here was a bug of ours."""
        self.story.add(now, f"{self.state.value} -> failed (abandoned: {why})")
        self.state, self.why, self.since, self.retry_at = State.FAILED, why, now, now + RETRY_FIRST_S
        self.worker = self.pid = self.forked_at = self.phase = self.ready_at = self.restart_at = None
        self.dying = self.wanted_again = self.asleep = self.suspended = False
        self.percent = self.base = self.level = 0

    def was_stable(self, now: float) -> bool:
        """Return whether its worker has been ready for a good while."""
        return self.ready_at is not None and now - self.ready_at >= STABLE_S

    def left_s(self, now: float) -> float | None:
        """Return the seconds until it could answer, once it is being brought back; None while nothing was measured."""
        match self.state:
            case State.READY:
                return 0.0
            case State.SLEEPING:
                return self.sleep.back_s(self.level)
            case State.WAKING:
                return max(0.0, self.sleep.back_s(self.level) - (now - self.since))
            case State.CHECKING:
                return None
            case State.LOADING if self.loads and self.forked_at is not None:
                return max(0.0, self.terms.reload_s - (now - self.forked_at))
            case State.LOADING if self.phase:
                return None  # the nursery starts first, and how long that takes was never measured
        return self.terms.reload_s if self.loads else None

    def so_far(self, now: float) -> int:
        """Return the percent of its load that is done: as its worker says, or as far as the last one was by now."""
        left = self.left_s(now)
        if left is None or self.forked_at is None:
            return self.percent
        done = (1 - left / self.terms.reload_s) * (100 - self.base)
        return max(self.percent, min(99, self.base + round(done)))

    @property
    def doing(self) -> str:
        """Return what the model does while it loads, for people."""
        return f"{self.name}: {self.phase}" if self.phase else self.name

    def move(self, now: float, cause: Cause) -> tuple[State, State]:
        """Change the state; returns the old and the new one. Raises IllegalTransition."""
        old = self.state
        new = TRANSITIONS.get((old, cause))
        if new is None:
            story = "; ".join(self.story.lines(now)) or "nothing"
            raise IllegalTransition(
                self.name,
                f"model '{self.name}' is {old.value}: '{cause.value}' cannot happen now (story: {story})",
            )
        if old is State.WAKING and new is State.READY:
            self.sleep = changed(self.sleep, wake_s={**self.sleep.wake_s, self.level: now - self.since})
        elif old is State.LOADING and new is State.READY:
            self.loads += 1
            self.terms = changed(self.terms, reload_s=max(0.01, now - self.since))
        self.state = new
        self.asleep = new is State.SLEEPING or (self.asleep and new is State.STOPPING)
        self.since = now
        self.waits = None
        self.story.add(now, f"{old.value} -> {new.value} ({cause.value})")
        if new is State.FAILED:
            self.failures += 1
            self.retry_at = now + min(RETRY_MOST_S, RETRY_FIRST_S * 2 ** (self.failures - 1))
        elif new is State.READY:
            self.failures = 0
            self.why = None
            self.log = ()
            self.ready_at = self.ready_at if old is State.CHECKING else now
            self.level = 0
            self.suspended = False
        if new is not State.READY:
            self.closed = False
        if new in (State.COLD, State.FAILED):
            self.settle()
            self.worker = self.pid = self.forked_at = self.phase = self.ready_at = None
            self.dying = self.wanted_again = self.suspended = False
            self.percent = self.base = self.level = 0
        return old, new
