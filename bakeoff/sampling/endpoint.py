"""The engine that asks an OpenAI-compatible endpoint: many requests at once, each group topped up until it is whole."""

import dataclasses
import queue
import re
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bakeoff.errors import UserError
from bakeoff.models import chat
from bakeoff.models.chat import plain_text
from bakeoff.records import Completion, Failure, Prompt
from bakeoff.sampling.engine import Failed, Sampling, completion, refuse, seed_of
from bakeoff.sampling.http_client import Client, GivenUp, Patience
from bakeoff.sampling.length_filter import not_empty

FINISH = {"stop": "stop", "eos_token": "stop", "stop_sequence": "stop", "length": "length"}
"""Reasons to finish that servers give; a completion with any other (a filter, a tool call) is none."""
OPTIONAL = ("logprobs", "seed", "n")
"""What a server may refuse to take; it is then asked without."""
MOST = 128
"""Completions asked for in one request."""
FRUITLESS = 3
"""Requests in a row that bring nothing usable, after which a prompt is given up."""
GIVE_UP = 8
"""Prompts in a row lost to a server in trouble, after which the job stops."""
TROUBLE = {"timeout", "overloaded", "server_error", "malformed"}
THOUGHT = "thoughts cut short, without an answer"
CUT = "empty completions, cut short"
"""Kinds of choices that are no completions; a server with a reasoning parser gives the first while it thinks."""


class EndpointEngine:
    """Samples from whatever an endpoint serves, which should be the policy whose tokenizer is given.

    The server renders the conversation with its own chat template; without one, the turns go as plain text. Tokens are
    the policy's tokens of the text, with its end of turn where the server says that the model ended, so they may be cut
    differently from those that were drawn. `logp` is known only where the server tells the log-probability of exactly
    as many tokens and the distribution is the model's own (temperature 1, nothing filtered) or greedy. `used` counts
    calls and, where the server tells them, tokens; `turned_away` counts choices that are no completions, by kind.
    """

    def __init__(
        self, url: str, model: str, tokenizer: Any, patience: Patience | None = None, setting: str = "sample.engine"
    ) -> None:
        self.client = Client(url, patience or Patience(), setting)
        self.used = self.client.used
        self.tokenizer, self.chat = tokenizer, bool(tokenizer.chat_template)
        end = chat.turn_end(tokenizer)
        self.end = tokenizer.eos_token_id if end is None else end
        self.untaken: set[str] = set()
        self.lost_in_a_row, self.fruitful = 0, False
        self.turned_away = Counter[str]()
        self.model = self._served(model)

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, failed: Failed = refuse
    ) -> Iterator[list[Completion]]:
        """One whole group per prompt, in the order in which they finish; a prompt given up goes to `failed`.

        Raises UserError when the endpoint refuses the key, is not there, or loses `GIVE_UP` prompts in a row.
        """
        asked, threads = not_empty(prompts, failed), self.client.patience.threads
        stopped = self.client.stopped = threading.Event()
        try:
            for prompt, outcome in _in_threads(lambda p: self._group(p, sampling), asked, threads, stopped):
                if isinstance(outcome, list):
                    self.lost_in_a_row, self.fruitful = 0, True
                    yield outcome
                elif isinstance(outcome, GivenUp):
                    self._lost(prompt, outcome, failed)
                else:
                    raise outcome
        finally:
            stopped.set()

    def _lost(self, prompt: Prompt, why: GivenUp, failed: Failed) -> None:
        if why.reason == "not_found":
            raise self.client.error(f"{why.said}; does the base URL end as it should (often /v1)?")
        barren = why.reason == "too_few" and not self.fruitful
        self.lost_in_a_row += why.reason in TROUBLE or barren
        if self.lost_in_a_row >= GIVE_UP:
            advice = "" if barren else "; when the server is well, the same command goes on from here"
            raise self.client.error(f"{GIVE_UP} prompts in a row without an answer ({why.said}){advice}")
        failed(Failure(prompt.id, why.reason, f"{prompt.source}: {self.client.base}: {why.said}"))

    def _served(self, model: str) -> str:
        """The name under which the endpoint serves a model: its own, its folder's, or for no name the only one."""
        try:
            listed = self.client.ask("models").get("data")
        except GivenUp:  # not every server lists its models: then its answers tell
            listed = None
        served = [m for m in listed or [] if isinstance(m, dict) and "id" in m]
        names = {str(m["id"]): [str(m["id"]), str(m.get("root") or "")] for m in served}
        self.listed = bool(names)
        if not names or (not model and len(names) == 1):
            return next(iter(names), model)
        for same in (str.__eq__, _alike):
            for name, known in names.items():
                if any(same(model, one) for one in known):
                    return name
        raise self._other(model, ", ".join(names))

    def _other(self, model: str, served: str) -> UserError:
        advice = f"name one that it serves: {self.client.base}?model=NAME"
        if self.client.setting == "sample.engine":
            advice = f"set model to the one whose log this is; if it is the same model: {self.client.base}?model=NAME"
        return self.client.error(f"does not serve {model!r} but {served[:200]}; {advice}")

    def _group(self, prompt: Prompt, sampling: Sampling) -> list[Completion]:
        """The whole group of a prompt, from as many requests as it takes; raises GivenUp when too few come."""
        group, away, fruitless = list[Completion](), Counter[str](), 0
        while len(group) < sampling.group_size and fruitless < FRUITLESS:
            missing = min(MOST, sampling.group_size - len(group))
            seed = seed_of(sampling.seed, prompt.id, len(group), fruitless)
            choices = self._choices(self._body(prompt, sampling) | {"n": missing, "seed": seed})
            usable = [c for c in choices if not _fault(c)][:missing]
            away.update(filter(None, map(_fault, choices)))
            group += [self._completion(prompt, len(group) + i, c, sampling) for i, c in enumerate(usable)]
            fruitless = 0 if usable else fruitless + 1
        with self.client.counting:
            self.turned_away.update(away)
        if len(group) < sampling.group_size:
            said = f"{len(group)} of {sampling.group_size} completions came, then none{self._instead(away)}"
            raise GivenUp("too_few", said)
        return group

    def _instead(self, away: Counter[str]) -> str:
        """What came instead of completions, most of all, and what to do about it."""
        if not away:
            return ""
        kind, count = away.most_common(1)[0]
        longer = kind in (THOUGHT, CUT) and self.client.setting == "sample.engine"
        return f", but {count} {kind}{': raise sample.max_tokens' if longer else ''}"

    def _body(self, prompt: Prompt, sampling: Sampling) -> dict[str, Any]:
        body = {"model": self.model, "temperature": sampling.temperature, "max_tokens": sampling.max_tokens}
        if self.chat:
            body["messages"] = [dataclasses.asdict(m) for m in prompt.messages]
        else:
            body["prompt"] = plain_text(prompt.messages)
        if sampling.top_p < 1:
            body["top_p"] = sampling.top_p
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.temperature == sampling.top_p == 1:  # the model's own distribution, whose numbers servers give
            body["logprobs"] = True if self.chat else 1
        return body

    def _choices(self, body: dict[str, Any]) -> list[dict]:
        """The choices of one answer; what the server does not take is left out from then on."""
        sent = {name: value for name, value in body.items() if name not in self.untaken}
        try:
            answer = self.client.ask("chat/completions" if self.chat else "completions", sent)
        except GivenUp as error:
            culprits = [n for n in OPTIONAL if n in sent and re.search(rf"\b{n}\b", error.said)]
            if error.reason != "refused" or not culprits:
                raise
            self.untaken.add(culprits[0])
            warnings.warn(
                f"{self.client.base} does not take {culprits[0]!r} ({error.said}); going on without", stacklevel=1
            )
            return self._choices(body)
        named, choices = answer.get("model"), answer.get("choices")
        if not self.listed and self.model and isinstance(named, str) and not _alike(self.model, named, dated=True):
            raise self._other(self.model, named)
        return [c for c in choices if isinstance(c, dict)] if isinstance(choices, list) else []

    def _completion(self, prompt: Prompt, index: int, choice: dict, sampling: Sampling) -> Completion:
        text, finish = _text(choice) or "", FINISH[choice["finish_reason"]]
        tokens = self.tokenizer(text, add_special_tokens=False).input_ids
        by_string = isinstance(choice.get("stop_reason"), str) and tokens
        if finish == "stop" and self.end is not None and not by_string:
            tokens = [*tokens, self.end]
        logp = 0.0 if sampling.temperature == 0 else _logp(choice, len(tokens))
        return completion(prompt.id, index, text, tokens, logp=logp, finish=finish)


def _alike(one: str, other: str, *, dated: bool = False) -> bool:
    """Whether two names of a model end in the same word; a `dated` one may go on: `gpt-4o-2024-08-06`."""
    short, long = sorted((Path(name).name.casefold() for name in (one, other)), key=len)
    return long.startswith(short) and short != "" if dated else short == long


def _fault(choice: dict) -> str:
    """Why a choice is no completion: that has a known end and a text, empty only where the model ended at once."""
    text, finish = _text(choice), FINISH.get(str(choice.get("finish_reason")))
    message = choice.get("message")
    thought = isinstance(message, dict) and (message.get("reasoning_content") or message.get("reasoning"))
    if finish is None:
        return f"choices that ended with {choice.get('finish_reason')!r}"
    if text or (text == "" and finish == "stop"):
        return ""
    return "choices without a text" if finish != "length" else THOUGHT if thought else CUT


def _text(choice: dict) -> str | None:
    """What was answered, with what no file can hold (half a surrogate pair) replaced; None when there is no text."""
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    return text.encode("utf-8", "replace").decode("utf-8") if isinstance(text, str) else None


def _logp(choice: dict, count: int) -> float | None:
    """The sum of a choice's log-probabilities, if it tells those of `count` tokens."""
    given = choice.get("logprobs") or {}
    entries = given.get("content") or given.get("token_logprobs") or []
    values = [e.get("logprob") if isinstance(e, dict) else e for e in entries]
    known = [float(v) for v in values if isinstance(v, int | float)]
    return sum(known) if len(known) == len(values) == count else None


def _in_threads(
    work: Callable[[Prompt], list[Completion]], prompts: Sequence[Prompt], threads: int, stopped: threading.Event
) -> Iterator[tuple[Prompt, list[Completion] | Exception]]:
    """(prompt, what `work` gave or raised) as they finish; nobody waits for a silent server once `stopped` is set."""
    waiting = iter(prompts)  # which the threads share: each prompt goes to one of them
    finished: queue.SimpleQueue[tuple[Prompt, list[Completion] | Exception]] = queue.SimpleQueue()

    def take() -> None:
        for prompt in waiting:
            if stopped.is_set():
                return
            try:
                finished.put((prompt, work(prompt)))
            except Exception as error:  # raised where the outcome is read
                finished.put((prompt, error))

    for _ in range(min(threads, len(prompts))):
        threading.Thread(target=take, daemon=True).start()
    for _ in prompts:
        yield finished.get()
