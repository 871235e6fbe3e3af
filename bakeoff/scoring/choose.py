"""Which scorer rewards the completions: what `score.scorer` names."""

from collections.abc import Callable, Iterable
from pathlib import Path

from bakeoff import tasks
from bakeoff.errors import UserError
from bakeoff.models import chat
from bakeoff.models.load import check_base, check_reward_model, load_config, load_policy, load_tokenizer
from bakeoff.preferences import known_picks, split
from bakeoff.preferences.reward_model import RewardModel, load_scorer
from bakeoff.records import Prompt
from bakeoff.run import Run, read_json, write_json
from bakeoff.sampling.choose import is_url, plain_url, url_and_model
from bakeoff.sampling.endpoint import EndpointEngine
from bakeoff.sampling.http_client import KEY
from bakeoff.sampling.local import LocalEngine
from bakeoff.sandbox import OF_USERS, check_function
from bakeoff.scorer import COMBINED, TRAINED, Peers, Scorer, scorer_kinds
from bakeoff.scoring.combined import Combined, fitted
from bakeoff.scoring.composite import Blend, ByTask, CompleteOnly
from bakeoff.scoring.judge import Judge, NoTokenizer, read_rubric
from bakeoff.scoring.likelihood import Likelihood
from bakeoff.scoring.logit_judge import LogitJudge
from bakeoff.scoring.majority import Majority, extract_pattern
from bakeoff.scoring.user_function import FunctionScorer
from bakeoff.scoring.verifiers import VERIFIERS
from bakeoff.scoring.verifiers.answers import answers_of
from bakeoff.settings import Recipe, Scoring

ENDPOINT_TOKENS = 2048
"""Longest reply of a judge behind an endpoint, which may think first; one that does not ends long before."""


def _reward_model(name: str, run: Run, recipe: Recipe, peers: Peers) -> Scorer:
    return load_scorer([Path(name)] if name else run.members(recipe.reward.ensemble), recipe, peers)


def _likelihood(name: str, run: Run, recipe: Recipe, peers: Peers) -> Likelihood:
    """Under the recipe's model before training, at the temperature of its completions."""
    return Likelihood(*load_policy(recipe.model, recipe, to_train=False), recipe.sample.temperature or 1.0)


def _combined(name: str, run: Run, recipe: Recipe, peers: Peers) -> Scorer:
    parts = _likelihood("", run, recipe, {}), Majority(recipe.score.extract)
    reward = _reward_model("", run, recipe, {}) if trains_reward_model(recipe) else None
    if not (file := run.details("chooser")).exists():
        picks = split(known_picks(run, recipe.reward), recipe.reward.heldout)[1] if reward else []
        write_json(file, fitted(Combined(*parts, reward), picks))
    weights = {name: weight["value"] for name, weight in read_json(file)["weights"].items()}
    return Combined(*parts, reward, weights, peers)


def _logit_judge(name: str, run: Run, recipe: Recipe, peers: Peers) -> Scorer:
    model, tokenizer = load_policy(name or recipe.model, recipe, to_train=False)
    return LogitJudge(model, tokenizer, read_rubric(recipe.score.rubric))


def _judge(name: str, run: Run, recipe: Recipe, peers: Peers) -> Scorer:
    question = read_rubric(recipe.score.rubric)
    if is_url(name):
        engine = EndpointEngine(*url_and_model(name), NoTokenizer(), setting="score.scorer")
        return Judge(engine, question, tokens=ENDPOINT_TOKENS)
    model, tokenizer = load_policy(name or recipe.model, recipe, to_train=False)
    return Judge(LocalEngine(model, tokenizer), question, tokenizer=tokenizer)


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
    "verifier": lambda name, run, recipe, peers: FunctionScorer.verifier(name, answers_of(recipe.score.answers)),
    "FILE.py": _function,
}
"""Kind to what makes the scorer, from what stands behind the colon in its name."""
SCORER_NOUNS = {
    TRAINED: "reward model",
    COMBINED: "combined choice",
    "likelihood": "model's own likelihood",
    "logit_judge": "judging model",
    "FILE.py": "function",
}
"""How the report calls a scorer, where not by its kind."""


def make_scorer(
    run: Run, recipe: Recipe, prompts: Iterable[Prompt] = (), peers: Peers | None = None, *, to_bake: bool = False
) -> Scorer:
    """The scorer that the recipe names, a blend of several, or that of each prompt's task; this may take a while.

    Where the rewards are only to be baked from, a model that rewards each completion by itself is not asked about
    incomplete answers.
    """
    if not recipe.tasks:
        return _of_one_task(run, recipe, peers or {}, to_bake=to_bake)
    made: list[tuple[Scoring, Scorer]] = []
    by_task = {}
    for (name, alone), settings in zip(tasks.each(recipe).items(), tasks.scorings(recipe), strict=True):
        same = next((scorer for known, scorer in made if known == settings), None)
        by_task[name] = same or _of_one_task(run, alone, peers or {}, to_bake=to_bake)
        made.append((settings, by_task[name]))
    return ByTask(by_task, prompts)


def _of_one_task(run: Run, recipe: Recipe, peers: Peers, *, to_bake: bool) -> Scorer:
    kinds = scorer_kinds(recipe.score)
    made = [SCORERS[kind](rest, run, recipe, peers) for kind, rest in kinds]
    if len(made) > 1:
        weights = recipe.score.scorer
        return Blend(made, list(weights.values()) if isinstance(weights, dict) else (), peers)
    return CompleteOnly(made[0], kinds[0][0]) if to_bake and one_by_one(recipe) else made[0]


def one_by_one(recipe: Recipe) -> bool:
    """Whether one model rewards each completion by itself, whatever others it is given with it."""
    (kind, rest), *others = scorer_kinds(recipe.score)
    if others or recipe.tasks:
        return False
    is_one_reward_model = kind == TRAINED and (bool(rest) or recipe.reward.ensemble == 1)
    return is_one_reward_model or kind in ("likelihood", "logit_judge", "judge")


def scorer_noun(recipe: Recipe) -> str:
    """The scorer as a sentence names it, after "the"."""
    found = {_noun(settings) for settings in tasks.scorings(recipe)}
    return found.pop() if len(found) == 1 else "scorer of each task"


def _noun(settings: Scoring) -> str:
    (kind, _), *others = scorer_kinds(settings)
    if others:
        return "blend"
    if kind == "verifier" and not settings.answers.endswith(".jsonl"):
        return "check of form"  # with one text for all prompts, which is no true answer
    return SCORER_NOUNS.get(kind, kind)


def trains_reward_model(recipe: Recipe) -> bool:
    """Whether a reward model must be trained on picks first; the combined choice does without where there are none."""
    combines = any((COMBINED, "") in scorer_kinds(settings) for settings in tasks.scorings(recipe))
    return relies_on_reward_model(recipe) or (combines and bool(recipe.reward.picks))


def relies_on_reward_model(recipe: Recipe) -> bool:
    """Whether rewards are the trained reward model's alone or in a blend, so that it must be better than chance."""
    return any((TRAINED, "") in scorer_kinds(settings) for settings in tasks.scorings(recipe))


def load_scorers(recipe: Recipe) -> None:
    """Load, once, every model of this machine that rewards or starts to: what is wrong with one is said early."""
    if trains_reward_model(recipe) and recipe.reward.base:
        RewardModel.fresh(recipe.reward.base, recipe)
    elif trains_reward_model(recipe):
        check_base(recipe.model, load_config(recipe.model))
        chat.check_template(load_tokenizer(recipe.model), answers=True)
    for kind, rest in (one for settings in tasks.scorings(recipe) for one in scorer_kinds(settings)):
        if kind == TRAINED and rest:
            RewardModel.load(rest, recipe)
        if kind in ("logit_judge", "judge") and not is_url(rest):
            load_policy(rest or recipe.model, recipe, to_train=False)


def check_scorers(settings: Scoring) -> None:
    """Raise UserError for what would go wrong only when the scorer is made."""
    kinds = scorer_kinds(settings)
    if not kinds:
        raise UserError("score.scorer: names no scorer")
    if isinstance(settings.scorer, dict) and not all(settings.scorer.values()):
        raise UserError(f"score.scorer: found {settings.scorer}; give each a weight other than 0, or leave it out")
    extract_pattern(settings.extract)
    answers_of(settings.answers)
    read_rubric(settings.rubric)
    for kind, rest in kinds:
        _check_one(kind, rest, settings)


def _check_one(kind: str, rest: str, settings: Scoring) -> None:
    if kind == "logit_judge" and is_url(rest):
        raise UserError("score.scorer: logit_judge reads a model in this process; 'judge:URL' asks an endpoint")
    if kind == "judge" and is_url(rest) and not plain_url(url_and_model(rest)[0]):
        raise UserError(f"score.scorer: expected a base URL such as http://host:8000/v1; a key belongs into {KEY}")
    if kind == "verifier" and rest not in VERIFIERS:
        raise UserError(f"score.scorer: unknown verifier {rest!r}; known: {', '.join(VERIFIERS)}")
    if kind == "verifier" and not settings.answers:
        raise UserError(f"score.scorer: verifier:{rest} compares with answers; give their file as score.answers")
    if kind == TRAINED and rest:
        check_reward_model(rest)
    if kind == "FILE.py":
        check_function(rest)
