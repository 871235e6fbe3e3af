"""Asking an HTTP endpoint: waits and asks again where that can help, and tells apart what it cannot mend."""

import email.utils
import json
import math
import os
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass

import httpx2

from bakeoff.errors import UserError

KEY = "OPENAI_API_KEY"
"""The environment variable that holds the endpoint's key."""
LONGEST_PAUSE = 60.0
"""Seconds; a server that asks for a longer pause gets it, up to ten times as long."""
AGAIN = {408: "timeout", 409: "overloaded", 425: "overloaded", 429: "overloaded", 503: "overloaded", 529: "overloaded"}
"""Answers after which asking again may help, as reasons; so may every other 5xx."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long, how often and how hard an endpoint is asked."""

    timeout: float = 600.0
    """Seconds without a sign of life until one request is given up."""
    tries: int = 6
    """Requests for the same thing, the first included."""
    pause: float = 1.0
    """Seconds before the second try; each later pause is twice as long, and all vary at random by half."""
    threads: int = 32
    """Requests under way at once."""


class GivenUp(Exception):
    """One request will not be answered: a Failure's reason and, in one line, what was said."""

    def __init__(self, reason: str, said: str) -> None:
        super().__init__(said)
        self.reason, self.said = reason, " ".join(said.split())[:300]


class _Again(GivenUp):
    """It failed this time; after so many seconds at least, another try may succeed."""

    def __init__(self, reason: str, said: str, after: float = 0.0) -> None:
        super().__init__(reason, said)
        self.after = after


class Client:
    """Sends JSON to paths below a base URL, which `setting` names, with the key that the environment holds."""

    def __init__(self, base: str, patience: Patience, setting: str) -> None:
        self.base, self.patience, self.setting = base.rstrip("/"), patience, setting
        self.used, self.counting = Counter[str](), threading.Lock()
        # it follows no redirection: the key goes to the endpoint that the user named and nowhere else
        self.http = httpx2.Client(timeout=patience.timeout, limits=httpx2.Limits(max_connections=None))
        self.stopped = threading.Event()
        """Set it, and nobody waits for another try."""

    def ask(self, path: str, body: dict | None = None) -> dict:
        """The JSON object answered to a POST of `body`, or to a GET without one.

        Raises GivenUp for this request alone; UserError for what every request would meet: a key that is refused, or
        nobody there.
        """
        for number in range(1, self.patience.tries + 1):
            try:
                return self._once(path, body)
            except _Again as error:
                last = error
            if number == self.patience.tries or self.stopped.wait(self._pause(number, last.after)):
                break
        if last.reason == "unreachable":
            raise self.error(f"cannot be reached ({last.said}); is the server running?")
        raise GivenUp(last.reason, f"{last.said}, {number} times")

    def error(self, said: str) -> UserError:
        """What to raise for something that every request would meet."""
        return UserError(f"{self.setting}: {self.base}: {said}")

    def _once(self, path: str, body: dict | None) -> dict:
        key = os.environ.get(KEY, "").strip()
        headers = {"Content-Type": "application/json", "User-Agent": "bakeoff"}
        headers |= {"Authorization": f"Bearer {key}"} if key else {}
        method, data = ("GET", None) if body is None else ("POST", json.dumps(body))
        try:
            response = self.http.request(method, f"{self.base}/{path}", content=data, headers=headers)
        except httpx2.TimeoutException:
            raise _Again("timeout", f"no answer within {self.patience.timeout:g} s") from None
        except httpx2.ConnectError as error:
            raise _Again("unreachable", str(error)) from None
        except httpx2.HTTPError as error:
            raise _Again("server_error", f"the connection broke off ({type(error).__name__})") from None
        if not response.is_success:
            raise self._refused(response)
        answer = _object(response)
        if body is not None:
            self._count(answer.get("usage"))
        return answer

    def _count(self, usage: object) -> None:
        known = usage if isinstance(usage, dict) else {}
        tokens = {name: known.get(name) for name in ("prompt_tokens", "completion_tokens")}
        with self.counting:
            self.used.update({"calls": 1} | {name: n for name, n in tokens.items() if isinstance(n, int)})

    def _refused(self, response: httpx2.Response) -> Exception:
        """What to raise for an answer with a status that is no success."""
        status, said = response.status_code, _said(response)
        if status in (401, 403):
            advice = f"the key in {KEY} is refused" if os.environ.get(KEY) else f"it wants a key: set {KEY}"
            return self.error(f"{advice} (status {status})")
        if status < 400:
            return self.error(f"sends on to {response.headers.get('Location', 'elsewhere')}; give the right base URL")
        if status in AGAIN or status >= 500:
            return _Again(AGAIN.get(status, "server_error"), f"status {status}", _after(response))
        if status in (404, 405):
            return GivenUp("not_found", f"status {status}: {said}")
        return GivenUp("too_long" if "context" in said.lower() else "refused", f"status {status}: {said}")

    def _pause(self, number: int, after: float) -> float:
        own = min(LONGEST_PAUSE, self.patience.pause * 2 ** (number - 1)) * random.uniform(0.5, 1.5)
        return max(own, min(after, 10 * LONGEST_PAUSE) + random.uniform(0, self.patience.pause))


def _object(response: httpx2.Response) -> dict:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise _Again("malformed", f"an answer that is not a JSON object ({response.content[:60]!r})")
    return answer


def _said(response: httpx2.Response) -> str:
    """The message in the body of a refusal, else its beginning."""
    try:
        answer = response.json()
        inner = answer.get("error", answer)
        return str(inner.get("message", inner) if isinstance(inner, dict) else inner)
    except (ValueError, AttributeError):
        return response.text[:200]


def _after(response: httpx2.Response) -> float:
    """The seconds of a Retry-After header, which holds a number or a date; 0 without one that can be read."""
    text = response.headers.get("Retry-After", "")
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        except ValueError:
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
