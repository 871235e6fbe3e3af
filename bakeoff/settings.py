"""A recipe's settings: what a user may change, with its default, its bounds and its meaning."""

from dataclasses import field
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

PERSONAL = ("key", "email", "iban", "card", "ip", "id", "phone")
"""What `prompts.redact` may name, in the order in which it is looked for."""
CHECKED = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


@dataclass(frozen=True, slots=True, config=CHECKED)
class Fields:
    """`[prompts.fields]`: fields of the logs (`a.b` inside records), where they are not recognised by themselves."""

    prompt: str = ""
    """The field that holds the prompt, or a template over several: `{title}\\n{body}`."""
    answer: str = ""
    """The field that holds the old answer, or the list of those that the user chose from."""
    rating: str = ""
    """The field that holds the user's rating of the old answer: thumbs, a word or a number, higher is better."""
    edit: str = ""
    """The field that holds the user's edited version of the old answer."""
    choice: str = ""
    """The field that holds which of several old answers the user chose, by its place from 0 or its text."""
    stratify: str = ""
    """Each value of this field gets the same share of `prompts.limit`. Without such a field in the logs, `language` is
    detected from the text."""


@dataclass(frozen=True, slots=True, config=CHECKED)
class Prompts:
    """Where the prompts come from and how the logs are cleaned."""

    sources: list[str] = field(default_factory=list)
    """Files, folders and globs of logs; `duckdb:FILE?TABLE`, `duckdb:FILE?SELECT ...`, `hf:OWNER/NAME?SPLIT`."""
    fields: Fields = field(default_factory=Fields)
    languages: list[str] = field(default_factory=list)
    """Keep prompts in these languages only (`["en"]`); empty keeps every language."""
    max_tokens: Annotated[int, Field(ge=1)] = 1024
    """A conversation of more tokens (the policy's) is set aside: leave room for the completion."""
    redact: list[str] = field(default_factory=lambda: list(PERSONAL))
    """Kinds of personal data and secrets that become placeholders such as [EMAIL_1]; empty leaves the text as it is."""
    decontaminate: list[str] = field(default_factory=list)
    """Evaluation sets: prompts that carry a question of these files, or of `evaluate.holdout`, are set aside."""
    step: str = ""
    """`FILE.py:FUNCTION`, a step of your own: from `prompts`, a list of last turns (and `messages`, if it wants them),
    to a list of texts; None sets a prompt aside, (None, why) too. The texts are redacted and checked like any other."""
    skip: list[str] = field(default_factory=list)
    """Steps to leave out: `template_tokens`, `short`, `noise`, `health_checks`, `near_duplicates`, `feedback`."""
    limit: Annotated[int, Field(ge=0)] = 0
    """Keep so many prompts at most, as unlike each other as can be; 0 keeps all."""
    heldout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the prompts that training never sees, in whole clusters of prompts that share a passage."""


@dataclass(frozen=True, slots=True, config=CHECKED)
class Variant:
    """A prompt variant, for a part of each group; its answers are scored and trained as answers to the plain prompt."""

    name: str = ""
    """What its completions are marked with; a variant that adds nothing to the prompt is the plain prompt."""
    share: Annotated[int, Field(ge=1)] = 1
    """Its part of the group, relative to the shares of the other variants."""
    system: str = ""
    """A system message before the conversation."""
    instruction: str = ""
    """Words after the prompt (`Think step by step, then write the answer after "Answer:".`)."""
    examples: Annotated[int, Field(ge=0)] = 0
    """So many picks of testers or users, with what they preferred, go before the prompt as turns of a conversation."""
    answer_after: str = ""
    """Only what follows the last such mark is the answer; without the mark the completion counts as cut short."""


@dataclass(frozen=True, slots=True, config=CHECKED)
class Sample:
    """Test-time compute: how the candidates are sampled."""

    engine: str = "local"
    """`local`, `vllm` (both in this process), or the base URL of an OpenAI-compatible endpoint (`http://host:8000/v1`)
    that serves `model`, under its name or, say, as NAME (`http://host:8000/v1?model=NAME`); its key is read from the
    environment variable OPENAI_API_KEY and stored nowhere."""
    group_size: Annotated[int, Field(ge=2)] = 16
    """N: completions per prompt."""
    prompts: Annotated[int, Field(ge=1)] = 1000
    """At most this many training prompts are sampled, in the order of their ids (which is random)."""
    temperature: Annotated[float, Field(ge=0)] = 1.0
    """Divides the logits; 1 is the model's own distribution, 0 is greedy."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Keep the smallest set of tokens whose probabilities reach this sum."""
    max_tokens: Annotated[int, Field(ge=1)] = 256
    """Longest completion, in tokens."""
    stop: list[str] = field(default_factory=list)
    """Strings that end a completion."""
    variants: list[Variant] = field(default_factory=list)
    """`[[sample.variants]]`: prompt variants that share `group_size`; empty samples from the plain prompt alone."""


@dataclass(frozen=True, slots=True, config=CHECKED)
class Training:
    """What both trainings have, that of the reward model and that of the policy."""

    learning_rate: Annotated[float, Field(gt=0)] = 1e-4
    """The highest, after a warm-up over a tenth of the steps; a cosine brings it down to a tenth. Adapters (`lora`)
    often train better at ten times the rate."""
    epochs: Annotated[int, Field(ge=1)] = 1
    """Passes over the picks (`reward`) or the training prompts (`bake`)."""


@dataclass(frozen=True, slots=True, config=CHECKED)
class Reward(Training):
    """The reward model, trained on what people prefer."""

    picks: list[str] = field(default_factory=list)
    """JSONL, CSV or Parquet files of picks, pairs, ratings, rankings or votes, as docs/picks.md shows. What
    users said of old answers in the logs is learnt from too, unless `prompts.skip` names `feedback`."""
    base: str = ""
    """Model the reward model starts from; empty: the policy's own weights."""
    ensemble: Annotated[int, Field(ge=1)] = 1
    """Reward models in an ensemble: the first learns from all picks, each other one from a bootstrap of the prompts."""
    heldout: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the picks (by prompt) kept to measure the reward model."""


@dataclass(frozen=True, slots=True, config=CHECKED)
class Scoring:
    """Who rewards the completions; docs/scorers.md says what each one does."""

    scorer: str | list[str] | dict[str, float] = "reward_model"
    """`reward_model` (trained on `reward.picks`), `reward_model:FOLDER` (a finished one), `likelihood` (the policy's,
    without labels), `combined` (likelihood, agreement and, with picks, the reward model), `majority`, `judge` (a
    model's 1 to 10), `logit_judge` (a model's probability of "yes"), both also with `:MODEL`, `judge:URL?model=NAME`,
    `verifier:NAME`, or `FILE.py:FUNCTION`, a function of your own; a list is a blend, a table a weighted blend."""
    answers: str = ""
    """What verifiers and functions compare with: JSONL of `prompt` and `answer`, or a text file, the answer to all."""
    extract: str = ""
    """Regular expression whose last match (its first group, if it has one) is the answer that `majority` counts."""
    rubric: str = ""
    """File with the question that a judge answers; empty asks whether the answer is correct and to the point."""


def _best_of(n: int) -> int:
    if n == 1:
        raise ValueError("2 or more, or 0 for sample.group_size")
    return n


@dataclass(frozen=True, slots=True, config=CHECKED)
class Bake(Training):
    """The training that moves best-of-N into the first answer."""

    method: str = "best_of_n_sft"
    """`best_of_n_sft`: fine-tune on each group's best (RAFT, arXiv:2304.06767); `dpo` (2305.18290): the best against a
    bad one; `qrpo` (2507.08068): log-ratios of good and bad ones follow their quantiles; `grpo` (2402.03300): policy
    gradient on the policy's own completions, for many small rounds."""
    n: Annotated[int, Field(ge=0), AfterValidator(_best_of)] = 0
    """Best of how many draws to move towards; 0 is `sample.group_size`."""
    batch_size: Annotated[int, Field(ge=1)] = 16
    """Prompts per optimizer step."""
    agreement_quantile: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the groups that are trained on, of each task: those in which the largest share of the completions gives
    the same answer as the best one. 0.25 keeps the quarter with the highest agreement, 1 keeps all."""
    rounds: Annotated[int, Field(ge=1)] = 1
    """At most so many times: sample from the current policy, score, bake, validate; the best round is kept."""
    kl_budget: Annotated[float, Field(ge=0)] = 0.0
    """Nats per sequence from the reference at which training ends; 0 sets no limit."""
    control: bool = True
    """Also bake on random rewards: the report then says how much of the gain comes from the scorer."""


@dataclass(frozen=True, slots=True, config=CHECKED)
class Evaluate:
    """First answers on held-out prompts, before and after."""

    holdout: str = ""
    """JSONL of held-out prompts with true answers (`prompt`, `answer`, `verifier`); only the evaluation opens it."""
    samples: Annotated[int, Field(ge=1)] = 8
    """Sampled first answers of the tuned model per prompt; the reference draws `sample.group_size`."""
    prompts: Annotated[int, Field(ge=1)] = 300
    """At most this many prompts are evaluated: those with true answers, or, without any, those held out of the log."""


@dataclass(frozen=True, slots=True, config=CHECKED)
class Task:
    """One of several jobs that a run teaches together; see docs/tasks.md."""

    name: str = ""
    """What its prompts are marked with, and how the report calls it."""
    weight: Annotated[float, Field(gt=0)] = 1.0
    """Its part of `sample.prompts`, relative to the weights of the other tasks."""
    prompts: Prompts = field(default_factory=Prompts)
    """`[tasks.prompts]`: its sources, and whatever else differs from the recipe's `[prompts]`."""
    score: Scoring = field(default_factory=Scoring)
    """`[tasks.score]`: its scorer, and whatever else differs from the recipe's `[score]`."""
    holdout: str = ""
    """As `evaluate.holdout`, which is then empty."""


@dataclass(frozen=True, slots=True, config=CHECKED)
class Recipe:
    """A complete run."""

    model: str = "smollm2-135m"
    """Hub id, local folder, or the alias `smollm2-135m` (a 4-bit copy, dequantised)."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Every stage derives its own generators from it."""
    device: str = "auto"
    """`auto` (CUDA, MPS, else CPU) or a torch device."""
    dtype: str = "auto"
    """`auto` (bfloat16 where it is fast), `bfloat16` or `float32`."""
    lora: Annotated[int, Field(ge=-1)] = -1
    """Rank of low-rank adapters on the layers that are trained, in both trainings; 0: none; -1: rank 16 for a model of
    more than 1.5 billion weights, else none."""
    notes: list[str] = field(default_factory=list)
    """Sentences for whoever reads the result: what is simulated, whose data it is."""
    prompts: Prompts = field(default_factory=Prompts)
    sample: Sample = field(default_factory=Sample)
    reward: Reward = field(default_factory=Reward)
    score: Scoring = field(default_factory=Scoring)
    bake: Bake = field(default_factory=Bake)
    evaluate: Evaluate = field(default_factory=Evaluate)
    tasks: list[Task] = field(default_factory=list)
    """`[[tasks]]`: several jobs in one run, each with its own prompts and scorer; empty: one, which has no name."""


FORMER = {
    "prompts.prompt_field": "is now prompts.fields.prompt",
    "prompts.answer_field": "is now prompts.fields.answer",
    "prompts.rating_field": "is now prompts.fields.rating",
    "prompts.edit_field": "is now prompts.fields.edit",
    "prompts.choice_field": "is now prompts.fields.choice",
    "prompts.stratify": "is now prompts.fields.stratify",
    "prompts.avoid": "is now prompts.decontaminate",
    "prompts.min_words": "was dropped; prompts.skip = ['short'] keeps short prompts",
    "sample.strategies": "is now sample.variants",
    "sample.top_k": "was dropped; use sample.top_p",
    "sample.min_p": "was dropped; use sample.top_p",
    "sample.variants.revise": "was dropped; bake.rounds improves on earlier answers",
    "sample.variants.answer_key": "was dropped; use answer_after",
    "reward.feedback": "was dropped; prompts.skip = ['feedback'] leaves out what users said",
    "reward.members": "is now reward.ensemble",
    "reward.spread_penalty": "was dropped; it is 0.5",
    "reward.frozen": "was dropped; the lower half of the layers stays as it is",
    "reward.error_rate": "was dropped; it is 0.1",
    "reward.centre": "was dropped; it is 0.01",
    "reward.lora": "is now lora, at the top of the recipe",
    "reward.heads": "was dropped; reward.ensemble trains several models",
    "reward.length_control": "was dropped; picks in which the other length wins teach it",
    "reward.patience": "was dropped; reward.epochs says how long to train",
    "score.weights": "was dropped; score.scorer takes a table: scorer = {reward_model = 2, majority = 1}",
    "score.judge_model": "was dropped; name the model in score.scorer: 'judge:MODEL', 'logit_judge:MODEL'",
    "score.judge_url": "was dropped; name the endpoint in score.scorer: 'judge:http://host:8000/v1?model=NAME'",
    "score.judge_tokens": "was dropped; a reply has 32 tokens in this process, 2,048 behind an endpoint",
    "score.timeout": "was dropped; a verifier may take 10 s, a function of your own 60 s",
    "score.memory_mb": "was dropped; it is 2048",
    "score.rivals": "was dropped; score.scorer = 'judge' rewards each completion by itself",
    "bake.completions": "was dropped; each method trains on a number of its own (docs/bake.md)",
    "bake.surest": "is now bake.agreement_quantile",
    "bake.frozen": "was dropped; the lower half of the layers stays as it is",
    "bake.lora": "is now lora, at the top of the recipe",
    "bake.patience": "was dropped; rounds end after one without a gain, those of grpo after five",
    "bake.ask": "was dropped; train on the new picks with `bakeoff reward train`, then name the folder in score.scorer",
    "evaluate.gold": "is now evaluate.holdout",
    "evaluate.referee": "was dropped; a second reward model always judges where there are no true answers",
    "tasks.gold": "is now tasks.holdout",
}
"""Settings of earlier versions, and what to do without them."""
