"""Whether a request may come in: who asks, how much of theirs is under way, and which model it is for. Pure."""

from collections.abc import Mapping

from ingled.core import events as on
from ingled.core.accounts import visible
from ingled.core.desk import Limits
from ingled.core.naming import Names, Unusable
from ingled.core.outcomes import why_failed
from ingled.core.passage import Refusal
from ingled.core.quota import Quotas
from ingled.core.requests import Record, Requests
from ingled.core.residency import Model, State


class Admission:
    """Refusals, each with what would help."""

    def __init__(
        self, models: Mapping[str, Model], names: Names, limits: Limits, requests: Requests, quotas: Quotas
    ) -> None:
        """All of them are read only here; `limits` may be replaced."""
        self.limits = limits
        self._models, self._names = models, names
        self._requests, self._quotas = requests, quotas

    def arrives(self, e: on.RequestArrived, *, draining: bool) -> Refusal | None:
        """Say why a request may not come in, whatever model it will be for."""
        account, rights = e.caller.account, e.caller.rights
        if draining:
            return Refusal("draining", "the daemon is shutting down", "try again when it is back")
        if e.priority < 0 and rights.priority != "interactive":
            text = f"priority is {e.priority}: account {account} has class '{rights.priority}' and may not go before"
            return Refusal("not_allowed", f"{text} others", "use 0 or more", at="priority")
        most = rights.open_requests or self.limits.open_requests
        if self._requests.open_of(account) >= most:
            return Refusal("over_limit", f"account {account} has {most} open requests, the limit", "let some end")
        used_up = self._quotas.wait(e.now, account, rights)
        if used_up is not None:
            limit, seconds = used_up
            text = f"account {account} has used up its limit of {limit}"
            return Refusal("over_limit", text, f"try again in {_in_words(seconds)}", retry=seconds)
        return None

    def model(self, now: float, record: Record, wanted: str | None) -> Refusal | None:
        """Settle the model of a request, or say why it cannot be run."""
        name = self._names.usable(wanted, record.account, record.rights)
        if isinstance(name, Unusable):
            return Refusal(*name, at="model")
        model = self._models[name]
        if record.op not in model.ops:
            return self._other_op(record, model)
        turns = self._requests.turns[name]
        mine, queued = turns.waits(record.account), len(turns.waiting)
        # Nobody is kept out by the queue of others: who has less than an equal part of it may come in.
        if queued >= self.limits.queue and mine * turns.accounts >= self.limits.queue:
            return Refusal("queue_full", f"{queued} requests wait for model '{name}'", "try again later")
        most = record.rights.waiting
        if most is not None and mine >= most:
            text = f"account {record.account} has {most} requests that wait for model '{name}', the limit"
            return Refusal("over_limit", text, "let some end")
        if model.state is State.FAILED and now < model.retry_at:
            return Refusal(*why_failed(model), retry=model.retry_at - now)
        record.model = name
        return None

    def _other_op(self, record: Record, model: Model) -> Refusal:
        """Say what the model can be asked instead, and which others of the account's can be asked this."""
        able = [name for name in visible(self._models, record.rights) if record.op in self._models[name].ops]
        what = "makes vectors of texts" if "embed" in model.ops else "makes text"
        text = f"model '{model.name}' {what}: it takes op {' and '.join(model.ops)}, not {record.op}"
        hint = f"ask {' or '.join(able[:3])}" if able else "no model that you may use takes it"
        return Refusal("unsupported", text, hint, at="op")


def _in_words(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} minutes" if seconds < 5400 else f"{round(seconds / 3600)} hours"
