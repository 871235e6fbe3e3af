"""One whole step of reinforcement learning, sample, score and update on all completions, beside TRL's GRPOTrainer.

8 filings prompts of about 105 tokens, at most 40 new tokens, 16 completions each. Both sides train every layer with the
gradient of all 128 completions, rewarded by the same sequence classifier; TRL trains the embeddings too.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bakeoff.math import losses
from bakeoff.models import packed_logps, packing
from bakeoff.models.chat import render
from bakeoff.models.load import freeze_layers, load_policy, model_folder, save_model
from bakeoff.models.optimizer import MasterAdamW
from bakeoff.preferences import reward_model
from bakeoff.records import Completion, Prompt
from bakeoff.sampling import Sampling
from bakeoff.sampling.local import LocalEngine
from benchmarks import peers, results, work

SAMPLING = Sampling(group_size=16, max_tokens=40)
PROMPTS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trl", type=Path, help="Python interpreter of an environment with trl; without: ours alone")
    parser.add_argument("--record", action="store_true", help="write docs/results/bench.json")
    args = parser.parse_args()
    prompts = work.filings_prompts(PROMPTS)
    with tempfile.TemporaryDirectory() as folder:
        scorer = reward_model.RewardModel.fresh(work.MODEL)
        save_model(scorer.model, scorer.tokenizer, Path(folder) / "reward_model")
        theirs = trl(args.trl, prompts, Path(folder) / "reward_model") if args.trl else math.nan
        whole, frozen = Step(scorer, frozen=0.0, through_prompt=True), Step(scorer, frozen=0.5, through_prompt=False)
        ours, light = work.seconds(lambda: whole.take(prompts), lambda: frozen.take(prompts))
    print(f"all layers: {ours:.1f} s, as it bakes: {light:.1f} s; of all layers:", whole.parts)
    rows = [("step_vs_trl_grpo", theirs / ours), ("step_as_baked_vs_trl_grpo", theirs / light)]
    if args.trl:
        results.finish("bench", [{"name": n, "value": v, "n": 3} for n, v in rows], recorded=args.record)


class Step:
    """A policy and its optimizer; `parts` holds the seconds of the last step's parts."""

    def __init__(self, scorer: reward_model.RewardModel, *, frozen: float, through_prompt: bool) -> None:
        self.model, self.tokenizer = load_policy(work.MODEL)
        self.scorer, self.through_prompt = scorer, through_prompt
        freeze_layers(self.model, frozen)
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
            packing.SharedPrefix(i, render(self.tokenizer, messages), [c.tokens for c in group])
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
    """Seconds of the fastest of three of TRL's steps."""
    job = {
        "model": str(model_folder(work.MODEL)),
        "scorer": str(scorer),
        "prompts": [[{"role": m.role, "content": m.content} for m in p.messages] for p in prompts],
        "group_size": SAMPLING.group_size,
        "max_tokens": SAMPLING.max_tokens,
        "trainer": "grpo",
        "learning_rate": 1e-6,
        "prompts_per_step": PROMPTS,
        "rows": 32,
        "steps": 3,
        "dtype": "bfloat16",
    }
    return peers.ask(python, "trl_step", job)


if __name__ == "__main__":
    main()
