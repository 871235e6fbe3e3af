"""Verifiers of text: words, patterns, JSON. Imports no bakeoff."""

import json
import re
import string
import unicodedata

_CONTAINS_EXTRA_WORDS = 20
"""A completion that contains the answer may say this many words more; beyond, it is a dump of the prompt."""

_BLOCK = re.compile(r"```\w*\n(.*?)```", re.DOTALL)


def exact(completion: str, answer: str) -> bool:
    """Whether the completion is the answer, but for case, spaces, punctuation at word edges, and articles."""
    return words(completion) == words(answer)


def contains(completion: str, answer: str) -> bool:
    """Whether the answer's words stand in the completion in a row, with at most 20 other words around them."""
    said, wanted = words(completion), words(answer)
    if not wanted or len(said) > len(wanted) + _CONTAINS_EXTRA_WORDS:
        return False
    return any(said[i : i + len(wanted)] == wanted for i in range(len(said) - len(wanted) + 1))


def regex(completion: str, answer: str) -> bool:
    """Whether the regular expression `answer` is found in the completion (`^` and `$` are its ends).

    Raises ValueError when it is not a regular expression.
    """
    try:
        return re.search(answer.strip("\n"), completion.strip()) is not None
    except re.error as error:
        raise ValueError(f"not a regular expression ({error}): {answer!r:.80}") from None


def json_schema(completion: str, answer: str) -> bool:
    """Whether the completion is JSON (in a code block or not) that the JSON schema `answer` allows.

    Raises ValueError when the answer is no schema, ImportError without the package jsonschema.
    """
    try:
        import jsonschema
    except ImportError:
        raise ImportError("jsonschema is not installed; pip install 'bakeoff[json]'") from None
    try:
        schema = json.loads(answer)
        kind = jsonschema.validators.validator_for(schema)
        kind.check_schema(schema)
    except (ValueError, jsonschema.SchemaError) as error:
        raise ValueError(f"not a JSON schema ({str(error).splitlines()[0]})") from None
    try:
        return kind(schema).is_valid(json_in(completion))
    except (ValueError, RecursionError):
        return False


def json_in(text: str) -> object:
    """The JSON value that a text is, or that its only code block holds; raises ValueError when it is none."""
    blocks = _BLOCK.findall(text)
    return json.loads(blocks[0] if len(blocks) == 1 else text, parse_constant=_not_json)


def _not_json(word: str) -> object:
    raise ValueError(f"{word} is not JSON")


def words(text: str) -> list[str]:
    """The words of a text, in lower case, without accents, articles, or punctuation at their edges."""
    folded = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(c for c in folded if not unicodedata.combining(c))
    bare = (w.strip(string.punctuation + "‘’“”–—…") for w in plain.split())
    return [w for w in bare if w and w not in ("the", "a", "an")]
