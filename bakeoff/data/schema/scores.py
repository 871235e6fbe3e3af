"""Thumbs, ratings and named scores that people gave an answer, as numbers; what machines gave is left out."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

RATINGS = {
    "feedback", "user_feedback", "thumbs", "thumb", "rating", "user_rating", "ratings", "stars", "vote", "user_score",
    "satisfaction", "csat", "helpful", "is_helpful", "was_helpful", "user_reaction", "reaction", "rating_field",
}  # fmt: skip
"""Fields that rate the answer; the last is the one that the user names."""
FLAGS = {
    "thumbs_up": 1.0, "thumbsup": 1.0, "liked": 1.0, "like": 1.0, "upvoted": 1.0, "upvote": 1.0,
    "thumbs_down": 0.0, "thumbsdown": 0.0, "disliked": 0.0, "dislike": 0.0, "downvoted": 0.0, "downvote": 0.0,
}  # fmt: skip
"""Fields that rate the answer when they are set, and say nothing when they are not."""
NAMED = ("scores", "assessments", "annotations", "feedback", "feedbacks")
"""Lists of judgements, each with its name, its value and who gave it."""
MACHINES = {"EVAL", "LLM_JUDGE", "LLM", "CODE", "AI_JUDGE", "MODEL", "AUTO"}
LARGEST = 1e6
"""A larger number is an id or a time, and no rating."""
_PREFERS = re.compile(
    "feedback|thumb|rating|star|helpful|quality|satisf|correct|like|useful|accept|csat|vote|prefer|user.?score", re.I
)
_AGAINST = re.compile("incorrect|dislike|unhelpful|down", re.I)
_GRADED = re.compile("rating|star|score|csat|satisf|quality", re.I)
_UP = {
    "up", "thumbsup", "thumbup", "👍", "+1", "positive", "like", "liked", "good", "yes", "true", "helpful", "correct"
}  # fmt: skip
_DOWN = {
    "down", "thumbsdown", "thumbdown", "👎", "negative", "dislike", "disliked", "bad", "no", "false", "unhelpful",
    "nothelpful", "incorrect", "wrong",
}  # fmt: skip


def worth(value: Any) -> float | None:
    """A rating as a number: thumbs up or a kind word is 1, thumbs down or an unkind one 0; None: nothing is said."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        word = re.sub(r"[\s_:\U0001f3fb-\U0001f3ff\ufe0f-]", "", value.lower())
        if word in _UP or word in _DOWN:
            return float(word in _UP)
        try:
            value = float(value)
        except ValueError:
            return None
    return float(value) if isinstance(value, int | float) and abs(value) <= LARGEST else None


def given(fields: Mapping[str, Any]) -> list[tuple[str, float]]:
    """(what it is called, the value, higher is better) of each rating of one answer."""
    found = [(key, v) for key in sorted(RATINGS & fields.keys()) if (v := worth(fields[key])) is not None]
    found += [("thumbs", v) for key, v in FLAGS.items() if (worth(fields.get(key)) or 0) > 0][:1]
    for item in judgements(fields):
        name, value = called(item), worth(_score(item))
        if _PREFERS.search(name) and value is not None:
            found.append((f"named {name}", -value if _AGAINST.search(name) else value))
    return found


def graded(name: str, value: float) -> bool:
    """Whether a value is a place on a longer scale than up or down."""
    return value not in (-1, 0, 1) or bool(_GRADED.search(name))


def judgements(fields: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The named judgements that people made."""
    for key in NAMED:
        value = fields.get(key)
        if isinstance(value, dict) and key == "scores":
            value = [{"name": name, "value": inner} for name, inner in value.items()]
        for item in value if isinstance(value, list) else []:
            if isinstance(item, dict) and not _machine(item) and item.get("valid") is not False:
                yield item


def called(judgement: Mapping[str, Any]) -> str:
    return str(judgement.get("name") or judgement.get("assessment_name") or judgement.get("key") or "")


def better(judgement: Mapping[str, Any]) -> Any | None:
    """The answer that a judgement wants in place of the one it is about."""
    wanted = judgement.get("expectation")
    if isinstance(wanted, dict):
        return wanted.get("value") if re.search("response|answer|output", called(judgement)) else None
    kind = judgement.get("dataType") or judgement.get("data_type")
    return judgement.get("stringValue") or judgement.get("value") if kind == "CORRECTION" else None


def _score(judgement: Mapping[str, Any]) -> Any:
    if judgement.get("expectation") is not None:
        return None
    for key in ("feedback", "result", "value", "score", "stringValue", "label"):
        inner = judgement.get(key)
        if isinstance(inner, dict):
            inner = _score(inner)
        if isinstance(inner, list) and len(inner) == 1:
            inner = inner[0]
        if inner is not None:
            return inner
    return None


def _machine(judgement: Mapping[str, Any]) -> bool:
    who = judgement.get("source") or judgement.get("annotator_kind") or ""
    return str(who.get("source_type") if isinstance(who, dict) else who).upper() in MACHINES
