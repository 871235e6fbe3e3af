"""True answers: JSONL with one for each prompt, or one file that is the answer to all."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from bakeoff.data import seal
from bakeoff.data.schema.prompt_columns import messages
from bakeoff.errors import UserError
from bakeoff.records import Answer, Completion, Message, Pick, Score, prompt_id
from bakeoff.scoring.user_function import FunctionScorer
from bakeoff.scoring.verifiers import VERIFIERS
from bakeoff.scoring.verifiers.sql import DATABASE


def read_answers(path: Path, setting: str) -> list[Answer]:
    """The prompts and true answers of a JSONL file with `prompt` or `messages`, `answer` and `verifier`.

    `database`, for the verifier sql, is the path of a SQLite file from the JSONL's folder.
    Raises UserError naming file and line when the file is missing or a row is not one.
    """
    return [_answer(row, source) for source, row in seal.json_rows(path, setting)]


def answers_of(setting: str) -> Callable[[Sequence[Message]], str | None]:
    """What `score.answers` says is the answer to a conversation, or None where it says nothing."""
    if not setting:
        return lambda turns: None
    if not setting.endswith(".jsonl"):
        text = seal.answers_text(Path(setting), "score.answers")
        return lambda turns: text
    known = {a.prompt_id: a.answer for a in read_answers(Path(setting), "score.answers")}
    return lambda turns: known.get(prompt_id(turns))


Verdicts = Mapping[str, Mapping[str, Score]]
"""What verifiers say of completions, by prompt and text: 1 or 0; or nothing, which counts as wrong, with the reason."""


def verdicts(answers: Mapping[str, Answer], completions: Iterable[Completion]) -> Verdicts:
    """The verdict on each text that answers a prompt with a true answer, by the `prompt_id` of the completions.

    Verifiers run as scorers do, in processes with limits: a pattern that hangs ends nothing but its own check.
    """
    texts: dict[str, dict[str, Completion]] = {key: {} for key in answers}
    for completion in completions:
        texts.get(completion.prompt_id, {}).setdefault(completion.text, completion)
    truth = {id(answer.messages): answer.answer for answer in answers.values()}
    found: dict[str, dict[str, Score]] = {}
    for name in dict.fromkeys(answer.verifier for answer in answers.values()):
        mine = [key for key, answer in answers.items() if answer.verifier == name and texts[key]]
        scorer = FunctionScorer.verifier(name, lambda messages: truth[id(messages)])
        scored = scorer.score([(answers[key].messages, list(texts[key].values())) for key in mine])
        found |= {key: dict(zip(texts[key], scores, strict=True)) for key, scores in zip(mine, scored, strict=True)}
    return found


def read_graded(path: Path) -> list[Pick]:
    """Groups of a JSONL file with `prompt` or `messages`, `completions`, and `gold` (a number for each of them) or
    `answer` and `verifier`, as ratings.

    Raises UserError naming file and line when the file is missing or a row is not one.
    """
    rows = dict(seal.json_rows(path, "--gold"))
    if not rows:
        raise UserError(f"{path}: holds no groups; give rows of prompt, completions, and gold or answer")
    groups = {source: (_texts(row, source), _gold(row, source)) for source, row in rows.items()}
    answers = {source: _answer(rows[source], source) for source, (_, gold) in groups.items() if not gold}
    unrated = [Completion("", key, i, t, [], None, "stop") for key in answers for i, t in enumerate(groups[key][0])]
    for source, scores in verdicts(answers, unrated).items():
        if failed := next((score.reason for score in scores.values() if score.reward is None), ""):
            raise UserError(f"{source}: the verifier {answers[source].verifier} fails ({failed}); mend the answer")
        groups[source][1].extend(float(scores[text].reward or 0) for text in groups[source][0])
    return [
        Pick(messages(rows[source], source), texts, gold.index(max(gold)), source, "ratings", gold)
        for source, (texts, gold) in groups.items()
    ]


def _texts(row: dict, source: str) -> list[str]:
    texts = row.get("completions")
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise UserError(f"{source}: completions must be a list of strings; found {texts!r:.80}")
    return texts


def _gold(row: dict, source: str) -> list[float]:
    """The numbers of a row; none where an answer is to decide."""
    gold, size = row.get("gold"), len(row["completions"])
    if gold is None:
        return []
    if not isinstance(gold, list) or len(gold) != size or not all(isinstance(w, int | float) for w in gold):
        raise UserError(f"{source}: gold must hold a number for each of the {size} completions; found {gold!r:.80}")
    return [float(w) for w in gold]


def _answer(row: dict, source: str) -> Answer:
    if not isinstance(row.get("answer"), str) or not row["answer"].strip():
        found = json.dumps(row, ensure_ascii=False)[:80]
        raise UserError(f"{source}: a row needs prompt or messages, and answer (text); found {found!r}")
    verifier = row.get("verifier", "exact")
    if not isinstance(verifier, str) or verifier not in VERIFIERS:
        raise UserError(f"{source}: unknown verifier {verifier!r}; known: {', '.join(VERIFIERS)}")
    turns, answer = messages(row, source), row["answer"]
    if "database" in row:
        answer = f"{DATABASE}{Path(source).parent / str(row['database'])}\n{answer}"
    try:
        VERIFIERS[verifier]("", answer)
    except (ValueError, ImportError) as error:
        raise UserError(f"{source}: {error}") from None
    return Answer(prompt_id(turns), turns, answer, verifier, source)
