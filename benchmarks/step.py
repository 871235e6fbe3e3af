"""One whole step of reinforcement learning, sample, score and update on all completions, beside TRL's GRPOTrainer.

python benchmarks/step.py --trl PYTHON [--record]     # an interpreter of an environment with trl

8 filings prompts of about 105 tokens, at most 40 new tokens, 16 completions each. Both sides train every layer with the
gradient of all 128 completions, rewarded by the same sequence classifier; TRL trains the embeddings too.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import results
import torch
import work

from bakeoff.math import losses
from bakeoff.models import load as models
from bakeoff.models import packed_logps, packing
from bakeoff.models.optimizer import MasterAdamW
from bakeoff.preferences import reward_model
from bakeoff.records import Completion, Prompt
from bakeoff.sampling import Sampling
from bakeoff.sampling.local import LocalEngine

SAMPLING = Sampling(group_size=16, max_tokens=40)
PROMPTS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trl", type=Path, required=True, help="Python interpreter of an environment with trl")
    parser.add_argument("--record", action="store_true", help="write docs/results/bench.json")
    args = parser.parse_args()
    prompts = work.filings_prompts(PROMPTS)
    count = PROMPTS * SAMPLING.group_size
    with tempfile.TemporaryDirectory() as folder:
        scorer = reward_model.fresh(work.MODEL)
        models.save(scorer.model, scorer.tokenizer, Path(folder) / "reward_model")
        theirs = trl(args.trl, prompts, Path(folder) / "reward_model")
        whole, frozen = Step(scorer, frozen=0.0, through_prompt=True), Step(scorer, frozen=0.5, through_prompt=False)
        ours, light = work.seconds(lambda: whole.take(prompts), lambda: frozen.take(prompts))
    work.table(
        f"One step, {PROMPTS} prompts x {SAMPLING.group_size} completions x at most {SAMPLING.max_tokens} tokens",
        ["side", "s", "completions/s", "of TRL"],
        [
            ["TRL GRPOTrainer", theirs, count / theirs, "1.00x"],
            ["bakeoff, all layers", ours, count / ours, f"{theirs / ours:.2f}x"],
            ["bakeoff, as it bakes", light, count / light, f"{theirs / light:.2f}x"],
        ],
    )
    print("of which:", {name: round(s, 1) for name, s in whole.parts.items()})
    if args.record:
        rows = [("step_vs_trl_grpo", theirs / ours), ("step_as_baked_vs_trl_grpo", theirs / light)]
        results.record("bench", [{"name": name, "value": value, "n": 3} for name, value in rows])


class Step:
    """A policy and its optimizer; `parts` holds the seconds of the last step's parts."""

    def __init__(self, scorer: reward_model.RewardModel, *, frozen: float, through_prompt: bool) -> None:
        self.model, self.tokenizer = models.load_policy(work.MODEL)
        self.scorer, self.through_prompt = scorer, through_prompt
        models.freeze(self.model, frozen)
        self.optimizer = MasterAdamW(self.model.parameters(), learning_rate=1e-6, steps=100)
        self.parts: dict[str, float] = {}

    def take(self, prompts: Sequence[Prompt]) -> None:
        start = time.perf_counter()
        found = {g[0].prompt_id: g for g in LocalEngine(self.model, self.tokenizer).complete(prompts, SAMPLING)}
        groups = [(p.messages, found[p.id]) for p in prompts]
        sampled = time.perf_counter()
        scores = [[s.reward or 0.0 for s in group] for group in self.scorer.score(groups)]
        scored = time.perf_counter()
        self.update(groups, losses.standardised(torch.tensor(scores)))
        self.parts = {"sample": sampled - start, "score": scored - sampled, "update": time.perf_counter() - scored}

    def update(self, groups: Sequence[tuple[Any, list[Completion]]], advantage_GM: torch.Tensor) -> None:
        """GRPO on policy: the gradient of -A logp, each completion once."""
        packed = [
            packing.SharedPrefix(i, models.render(self.tokenizer, messages), [c.tokens for c in group])
            for i, (messages, group) in enumerate(groups)
        ]
        for batch in packing.batches(packed, packed_logps.TRAIN_TOKENS):
            pack = packing.pack(batch, self.model)
            logps, owner = packed_logps.token_logps(self.model, pack, through_prompt=self.through_prompt)
            where = [(tree.key, tree.first + number) for _, tree, number, _ in pack.starts()]
            advantage = torch.stack([advantage_GM[i, j] for i, j in where])[owner]
            (-(advantage * logps).sum() / advantage_GM.numel()).backward()
        self.optimizer.step()


def trl(python: Path, prompts: Sequence[Prompt], scorer: Path) -> float:
    """Seconds of one of TRL's steps, measured by itself between two steps."""
    job = {
        "model": str(models.folder(work.MODEL)),
        "scorer": str(scorer),
        "prompts": [[{"role": m.role, "content": m.content} for m in p.messages] for p in prompts],
        "group_size": SAMPLING.group_size,
        "max_tokens": SAMPLING.max_tokens,
    }
    script = Path(__file__).with_name("peer_trl.py")
    out = subprocess.run([python, script], input=json.dumps(job), stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(out.stdout.splitlines()[-1])["seconds"]


if __name__ == "__main__":
    main()
