"""Which engine draws the completions: what `sample.engine` names."""

import urllib.parse

from bakeoff.errors import UserError
from bakeoff.models.load import load_policy, load_tokenizer
from bakeoff.sampling.endpoint import EndpointEngine
from bakeoff.sampling.engine import Engine
from bakeoff.sampling.http_client import KEY
from bakeoff.sampling.local import LocalEngine
from bakeoff.settings import Recipe

NAMED = "?model="
"""Behind an endpoint's URL: under which name it serves the recipe's model, where that is no name of the recipe's."""


def local(model: str, recipe: Recipe) -> Engine:
    return LocalEngine(*load_policy(model, recipe))


def endpoint(model: str, recipe: Recipe) -> Engine:
    """The endpoint for the recipe's model, which it serves; every other model (a tuned one) is sampled in this process.

    The two then differ by more than the training if the endpoint computes in another precision.
    """
    if model != recipe.model:
        return local(model, recipe)
    url, served = url_and_model(recipe.sample.engine)
    return EndpointEngine(url, served or model, load_tokenizer(model))


def vllm(model: str, recipe: Recipe) -> Engine:
    from bakeoff.sampling.vllm import VllmEngine  # imported when used: it takes seconds

    return VllmEngine(model, recipe)


ENGINES = {"local": local, "vllm": vllm, "an endpoint's URL": endpoint}


def engine(model: str, recipe: Recipe) -> Engine:
    """The engine that `sample.engine` names, for `model`; made now, which may take a while."""
    return ENGINES[engine_kind(recipe.sample.engine)](model, recipe)


def engine_kind(setting: str) -> str:
    """The name in `ENGINES` of a `sample.engine` setting; raises UserError when it is none."""
    if is_url(setting):
        if not plain_url(url_and_model(setting)[0]):
            raise UserError(f"sample.engine: expected a base URL such as http://host:8000/v1; a key belongs into {KEY}")
        return "an endpoint's URL"
    if setting not in ENGINES:
        raise UserError(f"sample.engine: unknown engine {setting!r}; known: {', '.join(ENGINES)}")
    return setting


def is_url(setting: str) -> bool:
    return setting.startswith(("http://", "https://"))


def url_and_model(setting: str) -> tuple[str, str]:
    """The base URL of an endpoint, and under which name it serves the model; empty where none is given."""
    url, _, served = setting.partition(NAMED)
    return url, urllib.parse.unquote(served)


def plain_url(text: str) -> bool:
    """Whether a URL has a host, and nothing that a key could hide in."""
    try:
        url = urllib.parse.urlsplit(text)
        return bool(url.hostname) and not (url.username or url.query or url.fragment) and (url.port or 1) > 0
    except ValueError:
        return False
