"""Which scorer rewards the completions: what `score.scorer` names."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from bakeoff import sandbox, tasks
from bakeoff.errors import UserError
from bakeoff.records import Completion, Prompt
from bakeoff.run import Run, read_json, write_json
from bakeoff.sampling import choose as engines
from bakeoff.sampling.http_client import KEY
from bakeoff.sandbox import OF_USERS
from bakeoff.scorer import COMBINED, TRAINED, Scorer, kind, names
from bakeoff.scoring.blend import Blend
from bakeoff.scoring.by_task import ByTask
from bakeoff.scoring.majority import Majority, pattern
from bakeoff.scoring.rubric import rubric
from bakeoff.scoring.skip_incomplete import WholeOnly
from bakeoff.scoring.user_function import FunctionScorer
from bakeoff.scoring.verifiers import VERIFIERS
from bakeoff.scoring.verifiers.answers import answers_of
from bakeoff.settings import Recipe, Scoring

Peers = Mapping[str, Sequence[Completion]]
"""By prompt id, the completions that a scorer which compares compares with; empty where it is the group itself."""


def _reward_model(name: str, run: Run, recipe: Recipe, peers: Peers) -> Scorer:
    from bakeoff.preferences import ensemble  # imported when used, for torch

    return ensemble.load([Path(name)] if name else run.members(recipe.reward.ensemble), recipe, peers)


def _likelihood(name: str, run: Run, recipe: Recipe, peers: Peers) -> Scorer:
    from bakeoff.scoring import likelihood  # imported when used, for torch

    return likelihood.load(recipe)


def _combined(name: str, run: Run, recipe: Recipe, peers: Peers) -> Scorer:
    from bakeoff.preferences import load as people  # imported when used, for torch
    from bakeoff.scoring import combined, likelihood

    parts = likelihood.load(recipe), Majority(recipe.score.extract)
    reward = _reward_model("", run, recipe, {}) if trains(recipe) else None
    if not (file := run.details("chooser")).exists():
        picks = people.split(people.known(run, recipe.reward), recipe.reward.heldout)[1] if reward else []
        write_json(file, combined.fitted(combined.Combined(*parts, reward), picks))
    weights = {name: weight["value"] for name, weight in read_json(file)["weights"].items()}
    return combined.Combined(*parts, reward, weights, peers)


def _logit_judge(name: str, run: Run, recipe: Recipe, peers: Peers) -> Scorer:
    from bakeoff.scoring import logit_judge  # imported when used, for torch

    return logit_judge.load(name or recipe.model, recipe, rubric(recipe.score.rubric))


def _judge(name: str, run: Run, recipe: Recipe, peers: Peers) -> Scorer:
    from bakeoff.models.load import load_policy
    from bakeoff.sampling.endpoint import EndpointEngine
    from bakeoff.sampling.local import LocalEngine
    from bakeoff.scoring import judge

    question = rubric(recipe.score.rubric)
    if engines.is_url(name):
        engine = EndpointEngine(*engines.url_and_model(name), judge.Unknown(), setting="score.scorer")
        return judge.Judge(engine, question, tokens=ENDPOINT_TOKENS)
    model, tokenizer = load_policy(name or recipe.model, recipe, to_train=False)
    return judge.Judge(judge.Counting(LocalEngine(model, tokenizer), tokenizer), question)


def _verifier(name: str, run: Run, recipe: Recipe, peers: Peers) -> Scorer:
    return FunctionScorer.verifier(name, answers_of(recipe.score.answers))


def _function(name: str, run: Run, recipe: Recipe, peers: Peers) -> Scorer:
    file, _, function = name.rpartition(":")
    return FunctionScorer(Path(file), function, answers_of(recipe.score.answers), OF_USERS)


SCORERS: dict[str, Callable[[str, Run, Recipe, Peers], Scorer]] = {
    TRAINED: _reward_model,
    COMBINED: _combined,
    "likelihood": _likelihood,
    "majority": lambda name, run, recipe, peers: Majority(recipe.score.extract, peers),
    "logit_judge": _logit_judge,
    "judge": _judge,
    "verifier": _verifier,
    "FILE.py": _function,
}
"""Kind to what makes the scorer, from what stands behind the colon in its name."""
MODELS = (TRAINED, "likelihood", "logit_judge", "judge")
"""The kinds that cost a model's time for each completion."""
WORDS = {
    TRAINED: "reward model",
    COMBINED: "combined choice",
    "likelihood": "model's own likelihood",
    "logit_judge": "judging model",
    "FILE.py": "function",
}
"""How the report calls a scorer, where not by its kind."""
ENDPOINT_TOKENS = 2048
"""Longest reply of a judge behind an endpoint, which may think first; one that does not ends long before."""


def scorer(
    run: Run, recipe: Recipe, prompts: Iterable[Prompt] = (), peers: Peers | None = None, *, to_bake: bool = False
) -> Scorer:
    """The scorer that the recipe names, a blend of several, or that of each prompt's task; made now, which may take a
    while.

    Where the rewards are only to be baked from, a model that rewards each completion by itself is not asked about
    those that are no whole answers.
    """
    if not recipe.tasks:
        return _alone(run, recipe, peers, to_bake=to_bake)
    made: dict[str, Scorer] = {}
    each = tasks.each(recipe)
    alike = dict(zip(each, tasks.scorings(recipe), strict=True))
    for name, one in each.items():
        same = next((other for other in made if alike[other] == alike[name]), None)
        made[name] = made[same] if same else _alone(run, one, peers, to_bake=to_bake)
    return ByTask(made, prompts)


def _alone(run: Run, recipe: Recipe, peers: Peers | None, *, to_bake: bool) -> Scorer:
    kinds = [kind(name) for name in names(recipe.score)]
    made = [SCORERS[which](rest, run, recipe, peers or {}) for which, rest in kinds]
    if len(made) > 1:
        weights = recipe.score.scorer
        return Blend(made, list(weights.values()) if isinstance(weights, dict) else (), peers)
    compares = hasattr(made[0], "peers")
    return WholeOnly(made[0], kinds[0][0]) if to_bake and kinds[0][0] in MODELS and not compares else made[0]


def words(recipe: Recipe) -> str:
    """The scorer as a sentence names it, after "the"."""
    found = {_words(settings) for settings in tasks.scorings(recipe)}
    return found.pop() if len(found) == 1 else "scorer of each task"


def _words(settings: Scoring) -> str:
    which = [kind(name)[0] for name in names(settings)]
    if which == ["verifier"] and not settings.answers.endswith(".jsonl"):
        return "check of form"  # with one text for all prompts, which is no true answer
    return WORDS.get(which[0], which[0]) if len(which) == 1 else "blend"


def trains(recipe: Recipe) -> bool:
    """Whether a reward model must be trained on picks first; the combined choice does without where there are none."""
    combines = any(COMBINED in names(settings) for settings in tasks.scorings(recipe))
    return relies(recipe) or (combines and bool(recipe.reward.picks))


def relies(recipe: Recipe) -> bool:
    """Whether rewards are the trained reward model's alone or in a blend, so that it must be better than chance."""
    return any(TRAINED in names(settings) for settings in tasks.scorings(recipe))


def one_by_one(recipe: Recipe) -> bool:
    """Whether one model rewards each completion by itself, whatever others it is given with it."""
    named = names(recipe.score)
    return not recipe.tasks and len(named) == 1 and kind(named[0])[0] in MODELS and recipe.reward.ensemble == 1


def load_all(recipe: Recipe) -> None:
    """Load, once, every model of this machine that rewards or starts to: what is wrong with one is told early."""
    from bakeoff.models import chat
    from bakeoff.models.load import (
        check_base,
        load_config,
        load_policy,
        load_tokenizer,
    )  # imported when used, for torch
    from bakeoff.preferences import reward_model

    if trains(recipe) and recipe.reward.base:
        reward_model.fresh(recipe.reward.base, recipe)
    elif trains(recipe):
        check_base(recipe.model, load_config(recipe.model))
        chat.check_template(load_tokenizer(recipe.model), answers=True)
    for settings in tasks.scorings(recipe):
        for which, rest in map(kind, names(settings)):
            if which == TRAINED and rest:
                reward_model.load(rest, recipe)
            if which in ("logit_judge", "judge") and not engines.is_url(rest):
                load_policy(rest or recipe.model, recipe, to_train=False)


def check(settings: Scoring) -> None:
    """Raise UserError for what would go wrong only when the scorer is made."""
    named = names(settings)
    if not named:
        raise UserError("score.scorer: names no scorer")
    if isinstance(settings.scorer, dict) and not all(settings.scorer.values()):
        raise UserError(f"score.scorer: found {settings.scorer}; give each a weight other than 0, or leave it out")
    pattern(settings.extract)
    answers_of(settings.answers)
    rubric(settings.rubric)
    for name in named:
        _check_one(name, settings)


def _check_one(name: str, settings: Scoring) -> None:
    which, rest = kind(name)
    if which == "logit_judge" and engines.is_url(rest):
        raise UserError("score.scorer: logit_judge reads a model in this process; 'judge:URL' asks an endpoint")
    if which == "judge" and engines.is_url(rest) and not engines.plain_url(engines.url_and_model(rest)[0]):
        raise UserError(f"score.scorer: expected a base URL such as http://host:8000/v1; a key belongs into {KEY}")
    if which == "verifier" and rest not in VERIFIERS:
        raise UserError(f"score.scorer: unknown verifier {rest!r}; known: {', '.join(VERIFIERS)}")
    if which == "verifier" and not settings.answers:
        raise UserError(f"score.scorer: {name} compares with answers; give their file as score.answers")
    if which == TRAINED and rest:
        from bakeoff.models.load import check_reward_model  # imported when used, for torch

        check_reward_model(rest)
    if which == "FILE.py":
        sandbox.check(rest)
