"""Asking an HTTP endpoint: waits and asks again where that can help, and tells apart what it cannot mend."""

import datetime
import email.utils
import http.client
import json
import math
import os
import random
import threading
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass
from typing import Any, NoReturn

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
    """One thing asked for will not come: a Failure's reason and, in one line, what was said."""

    def __init__(self, reason: str, said: str) -> None:
        super().__init__(said)
        self.reason, self.said = reason, " ".join(said.split())[:300]


class _Again(Exception):
    """It failed this time; after so many seconds at least, another try may go well."""

    def __init__(self, reason: str, said: str, after: float = 0.0) -> None:
        super().__init__(said)
        self.reason, self.said, self.after = reason, said, after


class _SamePlace(urllib.request.HTTPRedirectHandler):
    """Follows no redirection: the key goes to the endpoint that the user named and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


class Client:
    """Sends JSON to paths below a base URL, which `setting` names, with the key that the environment holds."""

    def __init__(self, base: str, patience: Patience, setting: str) -> None:
        self.base, self.patience, self.setting = base.rstrip("/"), patience, setting
        self.used, self.counting = Counter[str](), threading.Lock()
        self.opener = urllib.request.build_opener(_SamePlace)
        self.stopped = threading.Event()
        """Set it, and nobody waits for another try."""

    def ask(self, path: str, body: dict | None = None) -> dict:
        """The JSON object answered to a POST of `body`, or to a GET without one.

        Raises GivenUp for this request alone; UserError for what every request would meet: a key that is refused, or
        nobody there.
        """
        for number in range(self.patience.tries):
            try:
                return self._once(path, body)
            except _Again as error:
                last = error
            final = number + 1 == self.patience.tries
            if final or self.stopped.wait(self._pause(number, last.after)):
                break
        if last.reason == "unreachable":
            raise UserError(f"{self.setting}: {self.base}: cannot be reached ({last.said}); is the server running?")
        raise GivenUp(last.reason, f"{last.said}, {number + 1} times")

    def _once(self, path: str, body: dict | None) -> dict:
        key = os.environ.get(KEY, "").strip()
        headers = {"Content-Type": "application/json", "User-Agent": "bakeoff"}
        headers |= {"Authorization": f"Bearer {key}"} if key else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.base}/{path}", data, headers)
        try:
            with self.opener.open(request, timeout=self.patience.timeout) as response:
                answer = _object(response.read())
        except urllib.error.HTTPError as error:
            self._refused(error)
        except (OSError, http.client.HTTPException) as error:
            raise _broken(error, self.patience.timeout) from None
        if body is not None:
            self._count(answer.get("usage"))
        return answer

    def _count(self, usage: object) -> None:
        told = usage if isinstance(usage, dict) else {}
        spent = {name: told.get(name) for name in ("prompt_tokens", "completion_tokens")}
        with self.counting:
            self.used.update({"calls": 1} | {name: n for name, n in spent.items() if isinstance(n, int)})

    def _refused(self, error: urllib.error.HTTPError) -> NoReturn:
        status, said = error.code, _said(error)
        if status in (401, 403):
            advice = f"the key in {KEY} is refused" if os.environ.get(KEY) else f"it wants a key: set {KEY}"
            raise UserError(f"{self.setting}: {self.base}: {advice} (status {status})") from None
        if 300 <= status < 400:
            elsewhere = error.headers.get("Location", "elsewhere")
            raise UserError(f"{self.setting}: {self.base}: sends on to {elsewhere}; give the right base URL") from None
        if status in AGAIN or status >= 500:
            raise _Again(AGAIN.get(status, "server_error"), f"status {status}", _after(error)) from None
        if status in (404, 405):
            raise GivenUp("not_found", f"status {status}: {said}") from None
        raise GivenUp("too_long" if "context" in said.lower() else "refused", f"status {status}: {said}") from None

    def _pause(self, number: int, after: float) -> float:
        own = min(LONGEST_PAUSE, self.patience.pause * 2**number) * random.uniform(0.5, 1.5)
        return max(own, min(after, 10 * LONGEST_PAUSE) + random.uniform(0, self.patience.pause))


def _object(data: bytes) -> dict:
    try:
        answer = json.loads(data)
    except ValueError:
        raise _Again("malformed", f"an answer that is not JSON ({data[:60]!r})") from None
    if not isinstance(answer, dict):
        raise _Again("malformed", f"an answer that is not an object ({data[:60]!r})")
    return answer


def _broken(error: Exception, timeout: float) -> _Again:
    reason = getattr(error, "reason", error)  # what urllib wraps
    if isinstance(reason, TimeoutError):
        return _Again("timeout", f"no answer within {timeout:g} s")
    if isinstance(error, urllib.error.URLError):
        return _Again("unreachable", str(reason))
    return _Again("server_error", f"the connection broke off ({type(error).__name__})")


def _said(error: urllib.error.HTTPError) -> str:
    """The message in the body of a refusal, else its beginning."""
    try:
        text = error.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return str(error.reason)
    try:
        answer = json.loads(text)
        inner = answer.get("error", answer)
        return str(inner.get("message", inner) if isinstance(inner, dict) else inner)
    except (ValueError, AttributeError):
        return text[:200]


def _after(error: urllib.error.HTTPError) -> float:
    """The seconds of a Retry-After header, which holds a number or a date; 0 without one that can be read."""
    text = error.headers.get("Retry-After", "")
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - datetime.datetime.now().timestamp()
        except ValueError:
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0
