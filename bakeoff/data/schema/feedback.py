"""What users said of old answers, wherever a log keeps it: thumbs, ratings, edits, regenerated answers, choices."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bakeoff.data.schema import traces
from bakeoff.data.schema.conversations import field
from bakeoff.data.schema.nested import parsed
from bakeoff.data.schema.scores import FLAGS, NAMED, RATINGS, better, given, graded, judgements, worth
from bakeoff.data.schema.turns import Said, asked, text_of, turns_of
from bakeoff.models import thoughts
from bakeoff.records import Message
from bakeoff.settings import Fields

Found = list[tuple[str, Mapping[str, Any]]]
"""Texts, each with what its log says of it alone."""

ANSWER_KEYS = (
    "response", "response_body", "output", "outputs", "completion", "completions", "choices", "candidates",
    "responses", "alternatives", "generations", "answer", "answers", "assistant", "reply", "generated_text", "result",
)  # fmt: skip
SEVERAL = ("choices", "candidates", "completions", "generations", "alternatives", "responses", "answers")
ONE = (
    "message", "content", "parts", "text", "output_text", "generated_text", "output", "messages", "response",
    "completion", "answer", "value", "body",
)  # fmt: skip
"""Where a record that is an answer keeps its text, the likeliest first."""
SIDES = (("_a", "_b"), ("_1", "_2"), ("_0", "_1"))
"""How two answers that were shown side by side are told apart (`response_a`, `response_b`)."""
_DEPTH = 8


def answers(fields: Mapping[str, Any]) -> Found:
    """The answers under a record's keys: several where several were shown, none where none is found."""
    traced = traces.response(fields)
    if traced is not None:
        return alternatives(traced)
    for name in ("response", "answer", "output", "completion", "conversation"):
        for one, other in SIDES:
            first, second = fields.get(name + one), fields.get(name + other)
            if first and second and _before(first) == _before(second):
                return [*alternatives(first)[:1], *alternatives(second)[:1]]
    return next((found for key in ANSWER_KEYS if fields.get(key) and (found := alternatives(fields[key]))), [])


def alternatives(value: Any, depth: int = _DEPTH) -> Found:
    """The answers in a value: a text, a message, a response body, or a list of any of these."""
    if isinstance(value, str):
        inner = parsed(value)
        if inner is None:
            return [(value, {})] if value.strip() else []
        return alternatives(inner, depth - 1) if depth else []
    if isinstance(value, list):
        turns = turns_of(value)
        if isinstance(turns, list):
            return [(turns[-1].content, {})] if turns[-1].role == "assistant" else []
        return [(text, _item(v)) for v in value if (text := _first(v, depth))]
    if not isinstance(value, dict) or not depth:
        return []
    several = next((value[key] for key in SEVERAL if isinstance(value.get(key), list)), None)
    if several is not None:
        return [(text, _item(v)) for v in several if (text := _first(v, depth - 1))]
    text = _first(value, depth)
    return [(text, value)] if text else []


def _first(value: Any, depth: int) -> str:
    """The text of one answer, "" where there is none."""
    if not isinstance(value, dict):
        found = alternatives(value, depth - 1) if depth else []
        return found[0][0] if found else ""
    for key in ONE:
        inner = value.get(key)
        if not inner:
            continue
        text = text_of(inner) if key in ("content", "parts") else None
        if text or (text := _first(inner, depth - 1) if depth else ""):
            return text
    return ""


def _before(side: Any) -> Any:
    """The turns that an answer follows, where it is the last of a whole dialogue."""
    return side[:-1] if isinstance(side, list) else None


def _item(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


NAMEABLE = ("answer_field", "rating_field", "edit_field", "choice_field")
"""What the user names goes before what is recognised."""
EDITS = (
    "edit_field", "edited", "edited_response", "edited_answer", "edited_output", "edited_completion", "edited_text",
    "correction", "corrected", "corrected_response", "corrected_answer", "corrected_output", "suggested_output",
    "user_edit",
)  # fmt: skip
ORIGINALS = ("original", "original_content", "original_response", "original_answer", "original_text")
_AGAIN = ("regenerated", "is_regenerated", "regeneration", "is_regeneration")
"""Marks an answer that was made again, or holds the one that took its place."""
EARLIER = ("regenerated_from", "previous_response", "previous_responses", "previous_answers", "discarded_responses")
"""Answers that somebody had made again."""
CHOICES = (
    "choice_field", "chosen_index", "selected_index", "choice_index", "preferred_index", "picked_index", "chosen",
    "selected", "preferred", "picked", "pick", "winner",
)  # fmt: skip
PICKED = ("chosen", "selected", "preferred", "picked", "accepted", "is_chosen", "is_selected")
"""Marks one of several answers."""
_PAIRS = (("chosen", "rejected"), ("preferred_output", "non_preferred_output"))
REJECTED = ("rejected_response", "rejected_responses")
ENVELOPES = {"metadata", "feedback", "user_feedback", "annotation", "info", "event", "record", "payload", "extra"}
GENERIC = {"value", "score", "rating", "label", "sentiment", "type", "thumbs"}
"""What the rating inside a record called `feedback` may be called."""
TELLING = {
    *RATINGS, *FLAGS, *NAMED, *NAMEABLE, *EDITS, *ORIGINALS, *_AGAIN, *EARLIER, *CHOICES, *REJECTED,
    "preferred_output", "accepted",
}  # fmt: skip
_MARKED = re.compile('"(?:' + "|".join(PICKED) + '|rating|feedback)"')
_LETTERS = {"a": 0, "b": 1, "left": 0, "right": 1, "first": 0, "second": 1}
_SIDE = re.compile(r"^(model|response|answer|assistant|output|option|completion|conversation)[_ -]?")


@dataclasses.dataclass(frozen=True, slots=True)
class Feedback:
    """What one user said of one or more answers to the first `turns` turns of a conversation."""

    kind: str
    """`thumbs` and `rating`, of which those of a prompt and `scale` compare; `edit`, `regenerated`, `choice`, alone."""
    scale: str
    turns: int
    answers: list[str]
    values: list[float]
    """One per answer, higher is preferred."""


def feedback(value: Any, turns: Sequence[Message], named: Fields) -> list[Feedback]:
    """What is said of the answers among the turns of a record, and beside them, without thoughts."""
    found: list[Feedback] = []
    for i, turn in enumerate(turns):
        if isinstance(turn, Said) and len(turn.item) > 2 and (before := len(asked(standing(turns[:i])))):
            shown: Found = [(turn.content, turn.item)]
            if superseded(turns, i - 1):
                shown.insert(0, (turns[i - 1].content, {}))
            found += _said(_fields(turn.item), shown, before)
    value = parsed(value) if isinstance(value, str) else value
    fields = _fields(value) if isinstance(value, dict) else {}
    for name, path in zip(NAMEABLE, (named.answer, named.rating, named.edit, named.choice), strict=True):
        if path and (at_path := field(value, path)) is not None:
            fields[name] = at_path
    if _tells(fields) and (end := len(asked(standing(turns)))):
        found += _said(fields, _shown(fields, turns), end)
    return [dataclasses.replace(f, answers=[thoughts.answer(text) or "" for text in f.answers]) for f in found]


def standing(turns: Sequence[Message]) -> list[Message]:
    """The turns without the tries that were made again."""
    return [turn for i, turn in enumerate(turns) if not superseded(turns, i)]


def superseded(turns: Sequence[Message], i: int) -> bool:
    """Whether the next turn is another try at this one, as the log says."""
    if not 0 <= i < len(turns) - 1 or not turns[i].role == turns[i + 1].role == "assistant":
        return False
    later = turns[i + 1]
    return isinstance(later, Said) and any(later.item.get(key) is True for key in _AGAIN)


def _fields(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record's keys and those of the envelopes in it, in small letters; the outer ones count."""
    flat: dict[str, Any] = {}
    level: list[tuple[str, Mapping[str, Any]]] = [("", record)]
    for _ in range(3):
        above, level = level, []
        for name, values in above:
            for key, value in values.items():
                key = str(key).lower()
                if key in ENVELOPES and isinstance(value, str) and value[:1] == "{":
                    value = parsed(value)
                if key in ENVELOPES and isinstance(value, dict):
                    level.append((key, value))
                if name in RATINGS and key in GENERIC and worth(value) is not None:
                    flat.setdefault(name, value)
                elif value is not None and not (key in RATINGS and isinstance(value, dict)):
                    flat.setdefault(key, value)
    return flat


def _tells(fields: Mapping[str, Any]) -> bool:
    """Whether a record may say anything of its answers; most say nothing, and need no closer look."""
    return bool(TELLING & fields.keys()) or any(
        _MARKED.search(value) if isinstance(value, str) else isinstance(value, list | dict)
        for key in ANSWER_KEYS
        if (value := fields.get(key))
    )


def _shown(fields: Mapping[str, Any], turns: Sequence[Message]) -> Found:
    """The answers that the user saw: several beside the conversation, or the one that ends it."""
    if "answer_field" in fields:
        return alternatives(fields["answer_field"])
    found = answers(fields)
    return [(turns[-1].content, {})] if turns[-1].role == "assistant" and len(found) < 2 else found


def _said(fields: Mapping[str, Any], shown: Found, turns: int) -> Iterator[Feedback]:
    texts = [text for text, _ in shown]
    pair = next((p for p in _PAIRS if all(_texts(fields.get(side)) for side in p)), None)
    if pair:
        yield Feedback("choice", "", turns, [_texts(fields[side])[-1] for side in pair], [1.0, 0.0])
        return
    if (pick := _pick(fields, shown)) is not None:
        yield Feedback("choice", "", turns, texts, [float(i == pick) for i in range(len(texts))])
    rejected = [text for key in REJECTED for text in _texts(fields.get(key))]
    if rejected and len(texts) == 1:
        yield Feedback("choice", "", turns, [*texts, *rejected], [1.0, *[0.0] * len(rejected)])
    again = any(_set(fields.get(key)) for key in _AGAIN)
    yield from _regenerated(fields, texts[:-1] if again else [], texts, turns)
    one = texts[pick] if pick is not None else texts[-1] if len(texts) == 1 or (texts and again) else ""
    yield from _edited(fields, one, turns)
    yield from _rated(fields, shown, one, turns)


def _pick(fields: Mapping[str, Any], shown: Found) -> int | None:
    """The place of the answer that was chosen among several."""
    if len(shown) < 2:
        return None
    marked = [i for i, (_, item) in enumerate(shown) if any(item.get(key) is True for key in PICKED)]
    if len(marked) == 1:
        return marked[0]
    return next((p for key in CHOICES if (p := _place(fields.get(key), [t for t, _ in shown])) is not None), None)


def _place(value: Any, texts: Sequence[str]) -> int | None:
    """The place among `texts` that a number, a letter (`model_a`) or the text itself means."""
    if isinstance(value, str):
        number = int(value) if re.fullmatch(r"\d{1,3}", value) else texts.index(value) if value in texts else None
        value = _LETTERS.get(_SIDE.sub("", value.strip().lower()), number)
    return value if type(value) is int and 0 <= value < len(texts) else None


def _regenerated(
    fields: Mapping[str, Any], before: Sequence[str], texts: Sequence[str], turns: int
) -> Iterator[Feedback]:
    """The answer that a user kept, preferred to the earlier tries that the log says it took the place of."""
    later = [text for key in _AGAIN for text in _texts(fields.get(key))]
    earlier = [text for key in EARLIER for text in _texts(fields.get(key))] or before
    tries = [*texts[-1:], later[-1]] if later else [*earlier, *texts[-1:]]
    if len(tries) > 1:
        yield Feedback("regenerated", "", turns, tries, [*[0.0] * (len(tries) - 1), 1.0])


def _edited(fields: Mapping[str, Any], shown: str, turns: int) -> Iterator[Feedback]:
    """The text that a user made of an answer, preferred to it; `original` beside an edited answer is the older one."""
    originals = [text for key in ORIGINALS for text in _texts(fields.get(key))]
    edits = [text for key in EDITS for text in _texts(fields.get(key))]
    edits += [text for judgement in judgements(fields) for text in _texts(better(judgement))]
    if not edits and _set(fields.get("edited")) and originals:
        edits = [shown]
    before = originals[0] if originals else shown
    if edits and edits[0] and before:
        yield Feedback("edit", "", turns, [before, edits[0]], [0.0, 1.0])


def _rated(fields: Mapping[str, Any], shown: Found, rated: str, turns: int) -> Iterator[Feedback]:
    """Ratings of the answer, by field or name of the score; or of each of several answers."""
    each = [(text, key, v) for text, item in shown for key, v in given(_fields(item))] if len(shown) > 1 else []
    for key in sorted(RATINGS & fields.keys()):
        values = fields[key]
        if isinstance(values, list) and len(values) == len(shown) > 1:
            worths = zip(shown, map(worth, values), strict=True)
            each += [(text, key, v) for (text, _), v in worths if v is not None]
    each += [(rated, key, v) for key, v in given(fields)] if rated else []
    for text, key, v in each:
        yield Feedback("rating" if graded(key, v) else "thumbs", key, turns, [text], [v])


def _texts(value: Any) -> list[str]:
    """The texts of a field, none where it holds a mark or a number."""
    if not isinstance(value, str | list | dict) or (isinstance(value, str) and value.lower() in ("true", "false")):
        return []
    return [text for text, _ in alternatives(value)]


def _set(value: Any) -> bool:
    """Whether a mark is set, in JSON or in a cell of a table."""
    return value is True or (isinstance(value, str) and value.lower() == "true")
