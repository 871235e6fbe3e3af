"""A recipe's settings: what a user may change, with its default and its meaning."""

from dataclasses import dataclass, field

PERSONAL = ("key", "email", "iban", "card", "ip", "id", "phone")
"""What `prompts.redact` may name, in the order in which it is looked for."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """Where the prompts come from and how the logs are cleaned."""

    sources: list[str] = field(default_factory=list)
    """Files, folders and globs of logs; `duckdb:FILE?TABLE`, `duckdb:FILE?SELECT ...`, `hf:OWNER/NAME?SPLIT`."""
    prompt_field: str = ""
    """The column or key (`a.b` inside records) that holds the prompt, where the shape of a record is not recognised."""
    answer_field: str = ""
    """The field that holds the old answer, or the list of those that the user chose from, where not recognised."""
    rating_field: str = ""
    """The field that holds the user's rating of the old answer: thumbs, a word or a number, higher is better."""
    edit_field: str = ""
    """The field that holds what the user made of the old answer."""
    choice_field: str = ""
    """The field that holds which of several old answers the user chose, by its place from 0 or its text."""
    languages: list[str] = field(default_factory=list)
    """Keep prompts in these languages only (`["en"]`); empty keeps every language."""
    min_words: int = 3
    """A first turn of fewer words is set aside: there is nothing in it to answer."""
    max_tokens: int = 1024
    """A conversation of more tokens (the policy's) is set aside: leave room for the completion."""
    redact: list[str] = field(default_factory=lambda: list(PERSONAL))
    """Kinds of personal data and secrets that become placeholders such as [EMAIL_1]; empty leaves the text as it is."""
    avoid: list[str] = field(default_factory=list)
    """Evaluation sets: prompts that carry a question of these files, or of `evaluate.gold`, are set aside."""
    step: str = ""
    """`FILE.py:FUNCTION`, a step of your own: from `prompts`, a list of last turns (and `messages`, if it wants them),
    to a list of texts; None sets a prompt aside, (None, why) too. The texts are redacted and checked like any other."""
    skip: list[str] = field(default_factory=list)
    """Steps of cleaning to leave out: `template_tokens`, `noise`, `health_checks`, `near_duplicates`."""
    limit: int = 0
    """Keep so many prompts at most, as unlike each other as can be; 0 keeps all."""
    stratify: str = ""
    """A field of the logs: of `limit`, each value gets the same share. `language` is else told from the text."""
    heldout: float = 0.1
    """Share of the prompts that training never sees, in whole clusters of prompts that share a passage."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to ask, for a part of each group; its answers are scored and trained as answers to the plain prompt."""

    name: str = ""
    """What its completions are marked with; one that adds nothing to the prompt is the plain prompt."""
    share: int = 1
    """Its part of the group, against the other strategies'."""
    system: str = ""
    """A system message before the conversation."""
    instruction: str = ""
    """Words after the prompt (`Think step by step, then write the answer after "Answer:".`)."""
    examples: int = 0
    """So many picks of testers or users, with what they preferred, go before the prompt as turns of a conversation."""
    revise: str = ""
    """A request to improve a first try, which is drawn and shown; the second try counts."""
    answer_after: str = ""
    """Only what follows the last such mark is the answer; without the mark the completion counts as cut short."""
    answer_key: str = ""
    """Only the value under this key of the JSON object in the completion is the answer."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Test-time compute: how the candidates are drawn."""

    engine: str = "local"
    """`local`, `vllm` (both in this process), or the base URL of an OpenAI-compatible endpoint (`http://host:8000/v1`)
    that serves `model`, under its name or, say, as NAME (`http://host:8000/v1?model=NAME`); its key is read from the
    environment variable OPENAI_API_KEY and stored nowhere."""
    group_size: int = 16
    """N: completions per prompt."""
    prompts: int = 1000
    """At most this many training prompts are sampled, in the order of their ids (which is random)."""
    temperature: float = 1.0
    """Divides the logits; 1 is the model's own distribution, 0 is greedy."""
    top_p: float = 1.0
    """Keep the smallest set of tokens whose probabilities reach this sum."""
    top_k: int = 0
    """Keep this many most probable tokens; 0 keeps all."""
    min_p: float = 0.0
    """Keep tokens at least this fraction as probable as the most probable one."""
    max_tokens: int = 256
    """Longest completion, in tokens."""
    stop: list[str] = field(default_factory=list)
    """Strings that end a completion."""
    strategies: list[Strategy] = field(default_factory=list)
    """`[[sample.strategies]]`: other ways to ask, that share `group_size`; empty asks the plain prompt alone."""


@dataclass(frozen=True, slots=True)
class Reward:
    """The reward model, trained on what testers prefer."""

    picks: list[str] = field(default_factory=list)
    """JSONL, CSV or Parquet files of picks, pairs, ratings, rankings or votes, as docs/reward_model.md shows."""
    feedback: bool = True
    """Also learn from what users said of old answers, as the logs tell (`picks.parquet`)."""
    base: str = ""
    """Model the reward model starts from; empty: the policy's own weights."""
    learning_rate: float = 1e-4
    """The highest, after a warm-up over a tenth of the steps; a cosine brings it down to a tenth."""
    epochs: int = 1
    """Passes over the picks."""
    frozen: float = 0.5
    """Share of the layers, from the lowest, that stay as they are: faster, less memory, and no worse on few picks."""
    error_rate: float = 0.1
    """Share of picks assumed to be a slip of the tester (uniform over the group)."""
    centre: float = 0.01
    """Strength of the pull of each group's mean reward towards 0."""
    lora: int = 0
    """Rank of low-rank adapters on the layers that are trained (a tenfold learning rate suits them); 0: no adapters."""
    members: int = 1
    """Reward models in an ensemble: the first learns from all picks, each other one from prompts drawn at random."""
    spread_penalty: float = 0.5
    """An ensemble's reward is its members' mean less this times their variance (arXiv:2310.02743)."""
    heldout: float = 0.2
    """Share of the picks (by prompt) kept to measure the reward model."""


@dataclass(frozen=True, slots=True)
class Scoring:
    """Who rewards the completions; docs/scorers.md says what each one does."""

    scorer: str | list[str] = "reward_model"
    """`reward_model` (trained on `reward.picks`), `reward_model:FOLDER` (a finished one), `majority`, `yes` (a model's
    answer to a question about it), `judge` (a model's 1 to 10), `verifier:NAME`, or
    `FILE.py:FUNCTION`, a function of your own; a list is a blend."""
    weights: list[float] = field(default_factory=list)
    """The weight of each scorer of a blend, in their order; empty weighs all alike."""
    answers: str = ""
    """What verifiers and functions compare with: JSONL of `prompt` and `answer`, or a text file, the answer to all."""
    extract: str = ""
    """Regular expression whose last match (its first group, if it has one) is the answer that `majority` counts."""
    rubric: str = ""
    """File with the question that a model judges by; empty asks whether the answer is correct and to the point."""
    judge_model: str = ""
    """Instruct model that judges; empty: the policy before training, or the only one that the endpoint serves."""
    judge_url: str = ""
    """Base URL of the OpenAI-compatible endpoint that serves the judge (not `yes`), key as for `sample.engine`."""
    judge_tokens: int = 32
    """Longest reply of a judge, in tokens; more for one that thinks first."""
    timeout: float = 10.0
    """Seconds a verifier or function may take for one completion."""
    memory_mb: int = 2048
    """Address space of the process that a verifier or function runs in."""


@dataclass(frozen=True, slots=True)
class Bake:
    """The training that moves best-of-N into the first answer."""

    method: str = "best_of_n_sft"
    """`best_of_n_sft`: fine-tune on each group's best (RAFT, arXiv:2304.06767); `dpo` (2305.18290): the best against a
    bad one; `qrpo` (2507.08068): log-ratios of good and bad ones follow their quantiles; `grpo` (2402.03300): policy
    gradient on the policy's own completions, for many small rounds."""
    n: int = 0
    """The dial: best of how many draws to move towards; 0 is `sample.group_size`."""
    completions: int = 8
    """At most this many different completions of a group are trained on, where the method takes several."""
    learning_rate: float = 1e-4
    """The highest, as in `reward.learning_rate`."""
    epochs: int = 1
    """Passes over the training prompts."""
    batch_size: int = 16
    """Prompts per optimizer step."""
    surest: float = 1.0
    """Share of the groups that are baked, of each task: those in which the most draws answer what the best one does."""
    frozen: float = 0.5
    """Share of the layers, from the lowest, that stay as they are."""
    lora: int = -1
    """As `reward.lora`; -1: rank 16 for a policy of more than 1.5 billion weights, else none."""
    rounds: int = 1
    """At most so many times: sample from the current policy, score, bake, validate; the best round is kept."""
    patience: int = 1
    """Rounds end after so many that did not raise the reward on held-out prompts."""
    kl_budget: float = 0.0
    """Nats per sequence from the reference; training ends when they are spent. 0 sets no limit."""
    control: bool = True
    """Also bake on rewards dealt out at random: the report then tells how much of the gain is the scorer's."""


@dataclass(frozen=True, slots=True)
class Evaluate:
    """First answers on held-out prompts, before and after."""

    gold: str = ""
    """JSONL of held-out prompts with true answers (`prompt`, `answer`, `verifier`); only the evaluation opens it."""
    samples: int = 8
    """Sampled first answers of the tuned model per prompt; the reference draws `sample.group_size`."""
    prompts: int = 300
    """At most this many prompts are evaluated: those with true answers, or, without any, those held out of the log."""
    referee: bool = True
    """Without true answers, train a second reward model on the picks that the first never saw, to judge the result."""


@dataclass(frozen=True, slots=True)
class Task:
    """One of several jobs that a run teaches together; see docs/tasks.md."""

    name: str = ""
    """What its prompts are marked with, and how the report calls it."""
    weight: float = 1.0
    """Its part of `sample.prompts`, against the other tasks'."""
    prompts: Prompts = field(default_factory=Prompts)
    """`[tasks.prompts]`: its sources, and whatever else differs from the recipe's `[prompts]`."""
    score: Scoring = field(default_factory=Scoring)
    """`[tasks.score]`: its scorer, and whatever else differs from the recipe's `[score]`."""
    gold: str = ""
    """As `evaluate.gold`, which is then empty."""


@dataclass(frozen=True, slots=True)
class Recipe:
    model: str = "smollm2-135m"
    """Hub id, local folder, or the alias `smollm2-135m` (a 4-bit copy, dequantised)."""
    seed: int = 0
    """Every stage derives its own generators from it."""
    device: str = "auto"
    """`auto` (CUDA, MPS, else CPU) or a torch device."""
    dtype: str = "auto"
    """`auto` (bfloat16 where it is fast), `bfloat16` or `float32`."""
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


DROPPED = {
    "reward.heads": "reward.members makes an ensemble",
    "reward.length_control": "picks in which the other length wins teach it",
    "reward.patience": "reward.epochs says how long to train",
    "score.rivals": "score.scorer = 'judge' rewards each completion by itself",
    "bake.ask": "train on the new picks with `bakeoff reward train`, then name the folder in score.scorer",
}
"""Settings of earlier versions, and what to do without them."""
