"""Requests and the hooks that they meet: which, with what value, and what becomes of the request. Pure.

One chain for every request, whatever its entrance: `request` before admission, `prompt` before the template, `chunk`
on the text (`ingled.core.stations`), `answer` before the end is told, `observe` behind it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ingle.wire.hook_schema import HookResult, Point
from ingle.wire.schema import Code, Result
from msgspec.structs import replace

from ingled.core import chain as chains
from ingled.core import effects as do
from ingled.core import events as on
from ingled.core import views
from ingled.core.accounts import lacking
from ingled.core.chain import Chain, Hop, Outcome, Value
from ingled.core.naming import Names
from ingled.core.outcomes import refuse
from ingled.core.registry import Entry, Registry, Who
from ingled.core.requests import Record

Step = tuple[list[do.Effect], Outcome | None]
"""What to do, and how the chain ended, if it has."""

GONE = "it was removed meanwhile, or its connection has ended"


@dataclass(frozen=True, slots=True)
class Rule:
    """What the configuration says of a hook that a client offers, `[hooks.NAME]`."""

    account: str | None = None
    """Only this account may offer it."""
    order: int | None = None
    scope_all: bool = False
    """It may see the requests of all accounts."""


class Pipeline:
    """The hooks of the daemon, and the requests that are with them."""

    def __init__(self, rules: Mapping[str, Rule], names: Names, awaited: Iterable[str]) -> None:
        """`awaited`: hosts of plugins; no request may pass before each has told of what it runs."""
        self.registry = Registry()
        self.rules = rules
        """For hooks that are offered from now on."""
        self._names = names
        self._awaited = set(awaited)

    @property
    def waiting(self) -> bool:
        """It is not known yet which plugins there are."""
        return bool(self._awaited)

    # ------------------------------------------------------------ who takes part

    def meet(self, point: Point, record: Record) -> list[Entry]:
        """Return the hooks that a request meets at a point.

        One that it has met before and that is gone is among them, as broken. What stands for a plugin that cannot run
        and may be skipped is met once, at whatever point that is. Vectors are no text: nobody looks at them.
        """
        if not record.textual and point in ("chunk", "answer"):
            return []
        found: list[Entry] = []
        if self.registry.any_at(point):
            who = Who(record.account, record.origin, record.tags)
            found = self.registry.select(point, who, self._names.of(record.model))
        if not found and not record.met:
            return []
        met, present = record.met, self.registry.entries
        gone = [one.gone(GONE) for key, one in met.items() if key not in present and point in one.offer.points]
        found = [one for one in found if not (one.broken and one.key in met and met[one.key].broken)]
        found = [*gone, *found]
        met.update({one.key: one for one in found})
        return found

    def offer(self, e: on.HookOffered) -> list[do.Effect]:
        """Take the offer of a client, or refuse it."""
        offer, caller = e.offer, e.caller

        def no(code: Code, message: str, hint: str, at: str) -> list[do.Effect]:
            return [refuse(caller.conn, offer.ref, code, message, hint, at=at)]

        if "hook" not in caller.rights.may:
            return no("not_allowed", *lacking("hook", caller.account, "offer hooks"), at="t")
        rule = self.rules.get(offer.name, Rule())
        if rule.account not in (None, caller.account):
            text = f"hook '{offer.name}' is kept for account {rule.account}, and this is {caller.account}"
            return no("not_allowed", text, "offer it under another name", "name")
        if offer.scope == "all" and not rule.scope_all:
            text = f"hook '{offer.name}': scope 'all' needs a rule in the daemon's configuration"
            return no("not_allowed", text, f"ask for scope_all = true in [hooks.{offer.name}]", "scope")
        if rule.order is not None:
            offer = replace(offer, order=rule.order)
        provider = f"conn:{caller.conn}"
        label, placed = f"client {e.client}", rule.order is not None
        entry = Entry(offer, provider, caller.account, caller.conn, caller.rights, label, placed=placed)
        taken = self.registry.entries.get(entry.key)
        if taken is not None and taken.provider != provider:
            text = f"hook '{offer.name}' is offered already by another connection of account {caller.account}"
            return no("already_exists", text, "end that one, or choose another name", "name")
        self.registry.put(entry)
        value = {"name": offer.name, "order": offer.order, "scope": offer.scope, "points": list(offer.points)}
        return [do.Send(caller.conn, Result(offer.ref, value)), *_event(entry, "offered")]

    def withdraw(self, e: on.HookWithdrawn) -> list[do.Effect]:
        """Forget a hook that a client offers."""
        key = f"{e.caller.account}/{e.name}"
        entry = self.registry.entries.get(key)
        if entry is None or entry.conn != e.caller.conn:
            text = f"this connection offers no hook '{e.name}'"
            return [refuse(e.caller.conn, e.ref, "bad_value", text, "see `ingle hooks`", at="name")]
        self.registry.remove([key])
        return [do.Send(e.caller.conn, Result(e.ref, {"name": e.name})), *_event(entry, "withdrawn")]

    def provider_gone(self, provider: str) -> list[do.Effect]:
        """Forget the hooks of a connection that has ended."""
        gone = self.registry.remove([entry.key for entry in self.registry.of(provider)])
        if not gone:
            return []
        return [do.ProviderGone(provider), *(effect for entry in gone for effect in _event(entry, "gone"))]

    def plugins(self, e: on.PluginsOffered) -> list[do.Effect]:
        """A host of plugins offers these from now on, and no others."""
        self._awaited.discard(e.provider)
        new = {entry.key for entry in e.entries}
        gone = self.registry.remove([one.key for one in self.registry.of(e.provider) if one.key not in new])
        out: list[do.Effect] = []
        for entry in e.entries:
            old = self.registry.entries.get(entry.key)
            if old is None or old.offer != entry.offer or old.broken != entry.broken:
                out += _event(entry, "broken" if entry.broken else "offered")
            self.registry.put(entry)
        return [*out, *(effect for entry in gone for effect in _event(entry, "gone"))]

    def awaited(self, e: on.PluginsAwaited) -> list[do.Effect]:
        """Let no request pass before a host of plugins has told what it runs."""
        self._awaited.add(e.provider)
        return []

    def model_changed(self, now: float, change: Value) -> list[do.Effect]:
        """Tell observers that a model has another state; whose requests it serves plays no part."""
        if not self.registry.any_at("model"):
            return []
        names = self._names.of(change["model"])
        found = [
            one
            for one in self.registry.entries.values()
            if "model" in one.offer.points
            and one.rights.uses(change["model"])
            and not one.out_of_order(now)
            and (not one.offer.select.models or not names.isdisjoint(one.offer.select.models))
        ]
        value = {"change": change}
        return [
            do.CallHooks(hop.provider, "", "model", hop.names, value, {}, hop.deadlines, False, confirmed=hop.confirms)
            for hop in chains.hops(found)
        ]

    # ------------------------------------------------------------ a chain

    def start(self, now: float, record: Record, point: Point, value: Value, entries: Sequence[Entry]) -> Step:
        """Begin the chain of a request at a point."""
        record.hooked = True
        record.chain, outcome = chains.start(point, value, entries, now, record.trace)
        record.chain.edits = self.registry.edits
        return self._next(now, record, record.chain, outcome)

    def replied(self, e: on.HookReplied, record: Record) -> Step:
        """A provider has answered."""
        chain = record.chain
        if chain is None or chain.point != e.point or chain.hop is None:
            return [], None
        hop = chain.hop
        wrong = chains.fits(hop.names, e.results) or self._wrong(record, chain, e.results, e.value)
        if wrong:
            return self.failed(on.HookFailed(e.now, record.id, e.point, (), wrong), record)
        out: list[do.Effect] = []
        for entry, result in zip(hop.entries, e.results, strict=False):
            if result.verdict == "error":
                out += self.count(e.now, entry, result.reason)
            else:
                entry.tally.worked(result.us)
            if result.state is not None:
                record.states[entry.key] = result.state
        value = e.value
        if value is not None and chain.point == "answer" and "text" in value:
            value = {"answer": {**chain.value["answer"], "text": value["text"]}}
        effects, outcome = self._next(e.now, record, chain, chains.replied(chain, e.results, value))
        return [*out, *effects], outcome

    def failed(self, e: on.HookFailed, record: Record) -> Step:
        """A provider has not answered, or has broken its promise."""
        chain = record.chain
        if chain is None or chain.point != e.point or chain.hop is None:
            return [], None
        guilty = [entry for entry in chain.hop.entries if not e.blamed or entry.name in e.blamed]
        out = [effect for entry in guilty for effect in self.count(e.now, entry, e.why)]
        effects, outcome = self._next(e.now, record, chain, chains.failed(chain, e.blamed, e.why))
        return [*out, *effects], outcome

    def again(self, e: on.HookAgain, record: Record) -> Step:
        """A call is made again: its hooks may have moved to other providers, or may be gone."""
        chain = record.chain
        if chain is None or chain.point != e.point:
            return [], None
        return self._next(e.now, record, chain, self._settle(e.now, chain))

    def _settle(self, now: float, chain: Chain) -> Outcome | None:
        """Let the hooks that are due go to where they are by now; one that is gone or broken has failed."""
        chain.edits, present = self.registry.edits, self.registry.entries
        due = [entry for hop in chain.hops for entry in hop.entries]
        return chains.go_on(chain, [present.get(entry.key) or entry.gone(GONE) for entry in due], now)

    def observed(self, e: on.Observed) -> list[do.Effect]:
        """Count what hooks made of what they were told."""
        out: list[do.Effect] = []
        for result in e.results:
            if result.verdict == "error":
                out += self.observer_failed(
                    on.ObserverFailed(e.now, e.provider, e.point, (result.hook,), result.reason)
                )
            elif (entry := self.registry.named(e.provider, result.hook)) is not None:
                entry.tally.worked(result.us)
        return out

    def observer_failed(self, e: on.ObserverFailed) -> list[do.Effect]:
        """Count and log what hooks failed at when nobody waited for them."""
        out: list[do.Effect] = []
        for name in e.hooks:
            if (entry := self.registry.named(e.provider, name)) is None:
                continue
            out += self.count(e.now, entry, e.why)
            if entry.tally.row == 1:  # and not why: what a hook says may quote a prompt
                text = f"hook '{entry.name}' failed at '{e.point}', {entry.tally.failed} times now; see `ingle hooks`"
                out.append(do.Log("warning", text, hook=entry.name))
        return out

    def count(self, now: float, entry: Entry, why: str) -> list[do.Effect]:
        """Count a failure; the hook may trip."""
        return tripped(entry) if entry.tally.failed_at(now, why) else []

    def _next(self, now: float, record: Record, chain: Chain, outcome: Outcome | None) -> Step:
        if outcome is None and chain.edits != self.registry.edits:
            outcome = self._settle(now, chain)
        if outcome is not None:
            record.ran += chain.ran
            record.chain = None
            return [], outcome
        hop = chain.hop
        assert hop is not None, "a chain without outcome has a hop"
        return [call(record, chain.point, hop, chain.value, reply=True)], None

    def _wrong(self, record: Record, chain: Chain, results: Sequence[HookResult], value: Value | None) -> str:
        """Return what is wrong with what a hop made of the value."""
        verdicts = {result.verdict for result in results}
        if "stop" in verdicts or ("answer" in verdicts and chain.point != "prompt"):
            return f"it cannot {'stop' if 'stop' in verdicts else 'answer'} at '{chain.point}'"
        if "answer" in verdicts and not isinstance((value or {}).get("text"), str):
            return "it answered, and gave no text"
        if "changed" not in verdicts or verdicts & {"refuse", "answer"} or chain.hops[0].trial:
            return ""
        if value is None:
            return "it changed the value, and gave none"
        try:
            match chain.point:
                case "request":
                    views.with_options(record, value["request"])
                case "prompt":
                    views.with_messages(record, value["messages"])
                case "answer":
                    if record.stream and not record.sealed:
                        return "it changed an answer that has been streamed"
                    if not isinstance(value["text"], str):
                        return "it changed the answer, and gave no text"
        except (KeyError, TypeError, ValueError) as error:
            return f"it changed the value to what is none: {error}"
        return ""


def tripped(entry: Entry) -> list[do.Effect]:
    """Return what tells that a hook is not called for a while."""
    # Not why: what a hook says may quote a prompt.
    text = f"hook '{entry.name}' has tripped: it failed again and again"
    return [do.Log("warning", text, hook=entry.name), *_event(entry, "tripped")]


def _event(entry: Entry, state: str) -> list[do.Effect]:
    value = {"hook": entry.name, "account": entry.account, "state": state, "why": entry.broken or None}
    return [do.Publish("hook", value, entry.account)]


def call(record: Record, point: Point, hop: Hop, value: Value, *, reply: bool) -> do.CallHooks:
    """Return the call of a hop."""
    shown = {**value, "call": views.about(record)}
    return do.CallHooks(
        hop.provider, record.id, point, hop.names, shown, states(record, hop), hop.deadlines, reply,
        confirmed=reply or hop.confirms,
    )  # fmt: skip


def states(record: Record, hop: Hop) -> dict[str, bytes]:
    """Return what the hooks of a hop have left with earlier calls for a request."""
    return {entry.name: record.states[entry.key] for entry in hop.entries if entry.key in record.states}
