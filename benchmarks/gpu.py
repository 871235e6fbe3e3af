"""One GPU: is what it computes right, and how fast is it? Needs no network: its models have random weights.

python -m benchmarks.gpu [--check] [--only PART ...] [--out FOLDER]     checks and measures, about 6 minutes
python -m benchmarks.gpu --demo [--out FOLDER]                          the quick demo, timed
python -m benchmarks.gpu --tiny                                         the same code on any machine, on toy shapes

Both sides of a ratio are measured in the same run. `train_mfu` is the share of the card's own product rate (bfloat16,
8192 x 8192 matrices) that the products which the training needs would take; attention and recomputation do not count.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from bakeoff.models import flash_attention, fused_layers, packed_forward, packed_logps, packed_ways, packing
from bakeoff.models.chat import render
from bakeoff.models.load import add_lora, freeze_layers
from bakeoff.models.memory import pass_tokens
from bakeoff.records import Message, Prompt
from bakeoff.sampling import Sampling
from bakeoff.sampling.local import LocalEngine
from bakeoff.settings import Bake, Recipe, Sample
from bakeoff.training.methods import METHODS, Group
from bakeoff.training.trainer import PolicyTraining
from benchmarks import flash_reference, results

ROOT = Path(__file__).resolve().parents[1]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
END = 0
SHAPES: dict[str, Callable[[], Any]] = {
    "135m": lambda: LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True, max_position_embeddings=8192,
    ),
    "0.6b": lambda: Qwen3Config(
        vocab_size=151936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128, tie_word_embeddings=True, max_position_embeddings=8192,
    ),
    "1b": lambda: LlamaConfig(
        vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
        num_key_value_heads=8, head_dim=64, tie_word_embeddings=True, max_position_embeddings=8192,
    ),
    "8b": lambda: LlamaConfig(
        vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, head_dim=128, max_position_embeddings=8192,
    ),
    "tiny": lambda: LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=8192,
    ),
}  # fmt: skip
"""The shapes of SmolLM2-135M, Qwen3-0.6B, Llama-3.2-1B and Llama-3.1-8B."""
TINY = False
PROFILES: list[Path] = []
"""Where profiles go."""
Rows = list[dict[str, Any]]


def main() -> None:
    global TINY
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="checks only")
    parser.add_argument("--demo", action="store_true", help="the quick demo only")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--tiny", action="store_true", help="toy shapes")
    parser.add_argument("--profile", action="store_true", help="also write each part's kernels by time")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results", help="folder of gpu.json")
    args = parser.parse_args()
    TINY = args.tiny or DEVICE.type != "cuda"
    if args.profile:
        PROFILES.append(args.out)
    rows: Rows = [] if args.demo else card()
    for name in ["demo"] if args.demo else ["checks"] if args.check else args.only:
        start = time.perf_counter()
        try:
            with fresh():
                rows += PARTS.get(name, demo)()
        except Exception:  # one part that fails leaves the others their measurements
            traceback.print_exc()
            rows.append({"name": f"gpu.{name}.failed", "value": 1.0})
        print(f"[{name}: {time.perf_counter() - start:.0f} s]", flush=True)
        save(rows, args.out)
    print("\n" + "\n".join(f"{row['name']:<44} {row['value']:>14,.4g}  {row.get('note', '')}" for row in rows))
    sys.exit(any("failed" in row["name"] for row in rows))


@contextlib.contextmanager
def fresh() -> Iterator[None]:
    """Memory given back before and after."""
    try:
        yield
    finally:
        gc.collect()
        if DEVICE.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def save(rows: Rows, out: Path) -> None:
    """Add rows to gpu.json: each name once."""
    command = "python -m benchmarks.gpu"
    named = [{k: v for k, v in row.items() if k != "note"} | {"machine": name_of_card()} for row in rows]
    results.record(
        "gpu", [row | {"command": f"{command} --demo" if "demo" in row["name"] else command} for row in named], out
    )


def name_of_card() -> str:
    return torch.cuda.get_device_name() if DEVICE.type == "cuda" else "a CPU, toy shapes"


def sync() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def seconds(work: Callable[[], object], repeats: int = 3, warm: int = 1) -> float:
    """The median seconds of some work."""
    taken = []
    for turn in range(warm + repeats):
        sync()
        start = time.perf_counter()
        work()
        sync()
        if turn >= warm:
            taken.append(time.perf_counter() - start)
    return float(np.median(taken))


def profile(name: str, work: Callable[[], object]) -> None:
    """Write the kernels of some work by their time on the device."""
    if not PROFILES:
        return
    activities = [
        torch.profiler.ProfilerActivity.CPU,
        *([torch.profiler.ProfilerActivity.CUDA] if DEVICE.type == "cuda" else []),
    ]
    with torch.profiler.profile(activities=activities) as found:
        work()
        sync()
    by = "self_cuda_time_total" if DEVICE.type == "cuda" else "self_cpu_time_total"
    text = found.key_averages().table(sort_by=by, row_limit=40, max_name_column_width=70)
    with (PROFILES[0] / "gpu_profiles.txt").open("a") as file:
        file.write(f"## {name}\n{text}\n")


_RATE: list[float] = []


def product_rate() -> float:
    """FLOP/s of a bfloat16 product of random square matrices."""
    if not _RATE:
        size = 8192 if DEVICE.type == "cuda" else 1024
        a, b = torch.randn(2, size, size, device=DEVICE, dtype=torch.bfloat16)
        _RATE.append(2 * size**3 / seconds(lambda: a @ b, repeats=10, warm=3))
    return _RATE[0]


def card() -> Rows:
    count = 2**30 if DEVICE.type == "cuda" else 2**24
    x = torch.empty(count, dtype=torch.bfloat16, device=DEVICE)
    y = torch.empty_like(x)
    bandwidth = 4 * count / seconds(lambda: y.copy_(x), repeats=10)
    rows = [
        {
            "name": "gpu.product_tflops",
            "value": product_rate() / 1e12,
            "note": f"{name_of_card()}, torch {torch.__version__}",
        },
        {"name": "gpu.bandwidth_tb_per_s", "value": bandwidth / 1e12},
    ]
    if DEVICE.type == "cuda":
        rows.append({"name": "gpu.memory_gb", "value": torch.cuda.mem_get_info()[1] / 2**30})
    return rows


def tokenizer() -> Any:
    """One token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    found = Tokenizer(BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    found.pre_tokenizer, found.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    found.add_special_tokens(["<|end|>"])
    return PreTrainedTokenizerFast(tokenizer_object=found, eos_token="<|end|>", pad_token="<|end|>")


def random_model(
    shape: str, *, auto: Any = AutoModelForCausalLM, dtype: torch.dtype = torch.bfloat16, **changes: Any
) -> Any:
    """A model of a shape with random weights, made on the device."""
    config = SHAPES["tiny" if TINY else shape]()
    config.update({"num_labels": 1, "pad_token_id": END, "eos_token_id": None, "bos_token_id": None} | changes)
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(dtype)
        with DEVICE:
            return auto.from_config(config).to(dtype).eval()
    finally:
        torch.set_default_dtype(before)


def asked(count: int, tokens: int) -> list[Prompt]:
    """Prompts of about so many tokens, one a letter."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghij klmnop"))
    texts = ["".join(rng.choice(letters, tokens - int(rng.integers(0, tokens // 4)))) for _ in range(count)]
    return [Prompt(f"p{i}", [Message("user", text)], "gpu", 1, "train") for i, text in enumerate(texts)]


def groups_of(
    count: int, prompt: int, completion: int, size: int = 16, vocabulary: int = 400
) -> list[packing.SharedPrefix]:
    """Packed documents: prompts with `size` completions of random tokens."""
    rng = np.random.default_rng(1)
    draw = lambda n: rng.integers(1, vocabulary, n).tolist()  # noqa: E731
    lengths = lambda: int(rng.integers(completion // 2, completion + 1))  # noqa: E731
    return [packing.SharedPrefix(i, draw(prompt), [draw(lengths()) for _ in range(size)]) for i in range(count)]


def checks() -> Rows:
    """What must agree, as relative differences; `failed` counts those out of tolerance."""
    rows: Rows = []

    def within(name: str, value: float, most: float) -> None:
        bad = not value <= most
        rows.append(
            {"name": f"gpu.check.{name}", "value": value, "note": f"at most {most:g}{' FAILED' if bad else ''}"}
        )
        if bad:
            rows.append({"name": f"gpu.check.{name}.failed", "value": 1.0})
        print(rows[-1], flush=True)

    within("attention_kernel_bf16", _kernel_against_plain(), 0.02)
    for name, dtype, most in (("packed_bf16", torch.bfloat16, 0.03), ("packed_float32", torch.float32, 1e-3)):
        within(name, _packed_against_rows(random_model("135m", dtype=dtype, num_hidden_layers=4)), most)
    window = MistralConfig(**{k: v for k, v in SHAPES["tiny"]().to_dict().items() if k in TOY}, sliding_window=24)
    torch.manual_seed(0)
    sliding = AutoModelForCausalLM.from_config(window).to(DEVICE).eval()
    within("packed_sliding_window_float32", _packed_against_rows(sliding), 1e-3)
    within("gradients_bf16", _gradients_against_rows(random_model("135m", num_hidden_layers=4)), 0.06)
    within("greedy_float32_unlike", _greedy_unlike(random_model("135m", dtype=torch.float32, num_hidden_layers=6)), 0.0)
    engine = LocalEngine(random_model("135m"), tokenizer())
    rows.append({"name": "gpu.check.cuda_graphs", "value": float(engine.static), "note": "1: decoding is captured"})
    within("logps_bf16", _logps_off(engine), 0.02)
    within("draws_unlike_in_half_the_rows", _draws_unlike(engine), 0.25)
    return rows


TOY = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
)


def _kernel_against_plain() -> float:
    """The largest difference of the attention kernel, forward and backward, from the same in float32."""
    torch.manual_seed(0)
    q, k, v, grad = (torch.randn(n, heads, 64, device=DEVICE) for n, heads in ((150, 9), (200, 3), (200, 3), (150, 9)))
    bounds = [torch.tensor(b, dtype=torch.int32, device=DEVICE) for b in ([0, 30, 30, 150], [0, 60, 80, 200])]
    queries, keys = (flash_attention.Rows(slice(0, int(b[-1])), b, 120) for b in bounds)
    used = torch.tensor([20, 0, 77], dtype=torch.int32, device=DEVICE)
    every, far = torch.cat([q, q[:50]]), torch.cat([grad, grad[:50]])
    worst = 0.0
    for block, filled, given in (
        (flash_attention.Block(queries, keys, causal=False), used, (q, k, v)),
        (flash_attention.Block(keys, keys, causal=True), None, (every, k, v)),
    ):
        halves = [x.bfloat16() for x in given]
        found, exact = (
            flash_attention.attend(halves, block, 0.125, filled),
            flash_reference.attend([x.float() for x in halves], block, 0.125, filled),
        )
        pairs = list(zip(found, exact, strict=True))
        if filled is None:
            ours = flash_attention.attend_backward(far.bfloat16(), halves, found, block, scale=0.125)
            pairs += zip(
                ours,
                flash_reference.attend_backward(far, [x.float() for x in halves], exact, block, scale=0.125),
                strict=True,
            )
        for number, (one, other) in enumerate(pairs):
            off = float((one.float() - other).norm() / other.norm())
            print(f"  kernel, causal {block.causal}, tensor {number}: {off:.2e}")
            worst = max(worst, off) if off == off else float("nan")
    return worst


@torch.no_grad()
def _packed_against_rows(model: Any) -> float:
    """How far the states of packed completions are from those of rows of their own."""
    some = groups_of(3, 120, 60, 8)
    packed = packing.pack(some, model)
    states = packed_forward.hidden(model, packed)
    print(f"  packed pass of {model.config.model_type} {model.dtype}: {packed_forward._checked(model)[0].__name__}")
    if flash_attention.flash_possible(model):
        packed_ways.in_rows_of_any_length(model, packed, 0)  # where it fails, say how
    far, near = 0.0, 0.0
    for _, group, number, at in packed.starts():
        ids = torch.tensor([group.prompt + group.completions[number]], device=DEVICE)
        plain = packed_ways.plain_states(model, ids)[0, len(group.prompt) :].float()
        far += float((states[at : at + len(plain)].float() - plain).square().sum())
        near += float(plain.square().sum())
    return (far / near) ** 0.5


def _gradients_against_rows(model: Any) -> float:
    """How far the packed gradients of the log-likelihood are from those of rows, over all weights of the layers."""
    some = groups_of(2, 60, 40, 4)
    weights = [p for n, p in model.named_parameters() if ".layers." in n]
    model.get_input_embeddings().weight.requires_grad = False
    found = []
    for packed in (True, False):
        model.zero_grad()
        if packed:
            logps, _ = packed_logps.token_logps(model, packing.pack(some, model))
            logps.sum().backward()
        else:
            for group in some:
                for completion in group.completions:
                    ids = torch.tensor([group.prompt + completion], device=DEVICE)
                    logps = model(ids).logits[0, len(group.prompt) - 1 : -1].float().log_softmax(-1)
                    logps.gather(1, ids[0, len(group.prompt) :, None]).sum().backward()
        found.append(torch.cat([p.grad.float().flatten() for p in weights]))
    return float((found[0] - found[1]).norm() / found[1].norm())


def _greedy_unlike(model: Any) -> float:
    """The share of greedy tokens in float32 that are not those of `generate`."""
    prompts, sampling = asked(6, 80), Sampling(group_size=2, temperature=0, max_tokens=24)
    engine = LocalEngine(model, tokenizer())
    engine.ends, unlike, total = [], 0, 0
    for group in engine.complete(prompts, sampling):
        prompt = next(p for p in prompts if p.id == group[0].prompt_id)
        ids = torch.tensor([render(engine.tokenizer, prompt.messages)], device=DEVICE)
        mask = torch.ones_like(ids)
        out = model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=24)[0, ids.shape[1] :].tolist()
        unlike += sum(a != b for c in group for a, b in zip(c.tokens, out, strict=True))
        total += 2 * len(out)
    return unlike / total


@torch.no_grad()
def _logps_off(engine: LocalEngine) -> float:
    """The mean difference, per token, of the engine's log-probabilities and those of a plain pass over its tokens."""
    prompts, off, count = asked(8, 100), 0.0, 0
    for group in engine.complete(prompts, Sampling(group_size=8, max_tokens=40)):
        prompt = next(p for p in prompts if p.id == group[0].prompt_id)
        for c in group:
            head = render(engine.tokenizer, prompt.messages)
            ids = torch.tensor([head + c.tokens], device=DEVICE)
            with plain(engine.model):
                logits = engine.model(ids, use_cache=False).logits[0, len(head) - 1 : -1].float()
            logp = logits.log_softmax(-1).gather(1, ids[0, len(head) :, None]).sum()
            off, count = off + abs(float(logp) - c.logp), count + len(c.tokens)
    return off / count


@contextlib.contextmanager
def plain(model: Any) -> Iterator[None]:
    before = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _draws_unlike(engine: LocalEngine) -> float:
    """The share of completions that differ where half as many are drawn together: rounding decides on a border."""
    prompts, sampling = asked(16, 60), Sampling(group_size=8, max_tokens=16)
    together = {c.id for group in engine.complete(prompts, sampling) for c in group}
    apart = {c.id for half in (prompts[:8], prompts[8:]) for group in engine.complete(half, sampling) for c in group}
    return len(together - apart) / len(together)


def sampling_135m() -> Rows:
    return _sampling("135m", asked(256, 120), 128) + _sampling("135m", asked(64, 1000), 128, "_documents", peer=False)


def sampling_8b() -> Rows:
    return _sampling("8b", asked(32, 512), 128)


def _sampling(shape: str, prompts: Sequence[Prompt], new: int, kind: str = "", *, peer: bool = True) -> Rows:
    """Tokens a second, every completion to its full length, and beside `generate` on as many rows as are fastest."""
    if TINY:
        prompts, new = prompts[:4], 8
    model = random_model(shape)
    sampling, tokens = Sampling(group_size=16, max_tokens=new), len(prompts) * 16 * new
    engine = LocalEngine(model, tokenizer())
    engine.ends = []

    def ours() -> None:
        done = list(engine.complete(prompts, sampling))
        assert sum(len(c.tokens) for group in done for c in group) == tokens

    rate = tokens / seconds(ours, repeats=2)
    short = dataclasses.replace(sampling, max_tokens=min(new, 12))
    profile(f"sampling {shape}{kind}, 12 tokens", lambda: list(engine.complete(prompts[:64], short)))
    rows = [
        {
            "name": f"gpu.sample_{shape}{kind}_tokens_per_s",
            "value": rate,
            "note": f"{len(prompts)} prompts x 16 x {new}",
        }
    ]
    if peer:
        theirs = max(
            _generate(model, prompts[: rows_ // 16], new) for rows_ in ((256, 1024) if shape == "135m" else (128, 256))
        )
        rows += [
            {"name": f"gpu.sample_{shape}{kind}_generate_tokens_per_s", "value": theirs},
            {"name": f"gpu.sample_{shape}{kind}_vs_generate", "value": rate / theirs},
        ]
    return rows


@torch.inference_mode()
def _generate(model: Any, prompts: Sequence[Prompt], new: int) -> float:
    """Tokens a second of `transformers` generate, 16 rows a prompt, padded on the left; 0 where memory runs out."""
    found = tokenizer()
    ids = [torch.tensor(render(found, p.messages)) for p in prompts]
    padded = pad_sequence(ids, batch_first=True, padding_value=END, padding_side="left").to(DEVICE)
    longest = padded.shape[1]
    mask = torch.stack([torch.arange(longest) >= longest - len(x) for x in ids]).long().to(DEVICE)
    settings = {"do_sample": True, "top_k": 0, "num_return_sequences": 16, "max_new_tokens": new, "min_new_tokens": new}
    try:
        taken = seconds(lambda: model.generate(padded, attention_mask=mask, **settings), repeats=1, warm=1)
    except torch.OutOfMemoryError:
        return 0.0
    return len(prompts) * 16 * new / taken


def training_1b() -> Rows:
    return _training("1b", "1b_full", lora=0)


def training_8b() -> Rows:
    return _training("8b", "8b_lora", lora=16)


def training_8b_all() -> Rows:
    return _training("8b", "8b_lora_all_layers", lora=16, frozen=0.0)


def _training(shape: str, name: str, *, lora: int, frozen: float = 0.5) -> Rows:
    """Steps of policy gradient on 16 completions a prompt: tokens a second, share of the product rate, memory."""
    prefixes = groups_of(4, 512, 128, 4 if TINY else 16)
    if TINY:
        prefixes = prefixes[:1]
    model = random_model(shape)
    freeze_layers(model, frozen)
    if lora:
        add_lora(model, lora)
    ones = [np.ones(len(t.completions)) for t in prefixes]
    groups = [
        Group(f"p{t.key}", t.completions, np.linspace(0, 1, len(t.completions)), one.astype(int), one.astype(bool))
        for t, one in zip(prefixes, ones, strict=True)
    ]
    recipe = Recipe(sample=Sample(group_size=16), bake=Bake(method="grpo", batch_size=4, epochs=6, learning_rate=1e-6))
    METHODS["grpo"] = dataclasses.replace(METHODS["grpo"], most=16)  # every completion of the group
    training = PolicyTraining(model, groups, [t.prompt for t in prefixes], recipe)
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    steps = training.steps()
    taken = seconds(lambda: next(steps), repeats=3, warm=2)
    profile(f"training {name}", lambda: next(steps))
    flops = sum(_needed(model, group, lora=lora) for group in training.prefixes)
    tokens = sum(map(len, training.prefixes))
    rows = [
        {
            "name": f"gpu.train_{name}_tokens_per_s",
            "value": tokens / taken,
            "note": f"{tokens} tokens a step, passes of {training.memory.tokens}, frozen {frozen:g}",
        },
        {
            "name": f"gpu.train_mfu_{name}",
            "value": flops / taken / product_rate(),
            "note": f"{flops / taken / 1e12:.0f} TFLOP/s needed",
        },
    ]
    if DEVICE.type == "cuda":
        rows.append({"name": f"gpu.peak_memory_{name}_gb", "value": torch.cuda.max_memory_allocated() / 2**30})
    return rows


def _needed(model: Any, group: packing.SharedPrefix, *, lora: int) -> float:
    """FLOPs of the products that a group's step needs: forward, back to the lowest trained layer, trained weights."""
    one = fused_layers.decoder_layers(model)
    base = [p.numel() for layer in one for n, p in layer.named_parameters() if p.dim() == 2 and ".lora_" not in n]
    trained = [any(p.requires_grad for p in layer.parameters()) for layer in one]
    body, head = sum(base), model.lm_head.weight.numel()
    share = sum(trained) / len(trained)
    completion, prompt = sum(map(len, group.completions)), len(group.prompt)
    backward = 2 * share * body * (1 if lora else 2) + 2 * head
    return completion * (2 * (body + head) + backward) + prompt * 2 * body


def scoring() -> Rows:
    """A reward model over documents of about 1,000 tokens with 16 completions: packed, and in padded rows."""
    model = random_model("135m", auto=AutoModelForSequenceClassification)
    documents = groups_of(4 if TINY else 48, 60 if TINY else 1000, 64)
    rows = [[*t.prompt, *b] for t in documents for b in t.completions]
    found: list[list[float]] = [[], []]

    @torch.inference_mode()
    def packed() -> None:
        by_place = {}
        for batch in packing.batches(documents, pass_tokens(model, 4096)):
            values = packed_logps.rewards(model, together := packing.pack(batch, model)).tolist()
            by_place |= {(t.key, t.first + n): v for v, (_, t, n, _) in zip(values, together.starts(), strict=True)}
        found[0] = [by_place[t.key, n] for t in documents for n in range(len(t.completions))]

    @torch.inference_mode()
    def padded(size: int) -> None:
        rewards = [0.0] * len(rows)
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        for start in range(0, len(order), size):
            some = order[start : start + size]
            ids = pad_sequence([torch.tensor(rows[i]) for i in some], batch_first=True, padding_value=END)
            mask = pad_sequence([torch.ones(len(rows[i]), dtype=torch.long) for i in some], batch_first=True)
            for i, value in zip(
                some, model(ids.to(DEVICE), attention_mask=mask.to(DEVICE)).logits[:, 0].tolist(), strict=True
            ):
                rewards[i] = value
        found[1] = rewards

    ours = seconds(packed)
    profile("scoring", packed)
    theirs = min(seconds(lambda n=n: padded(n), repeats=1) for n in ((4,) if TINY else (16, 32, 64, 128)))
    one, other = (np.array(x) for x in found)
    off = float(np.sqrt(((one - other) ** 2).mean()) / other.std())
    return [
        {"name": "gpu.score_doc_completions_per_s", "value": len(rows) / ours},
        {"name": "gpu.score_doc_vs_padded", "value": theirs / ours, "note": "padded rows 16, 32, 64 or 128 at once"},
        {
            "name": "gpu.score_doc_difference",
            "value": off,
            "note": "packed and padded in bfloat16, over the rewards' spread",
        },
    ]


def demo() -> Rows:
    """The quick demo in a process of its own, as a user starts it."""
    start = time.perf_counter()
    out = Path(os.environ.get("TMPDIR", "/tmp")) / "bakeoff-gpu-demo"
    command = [sys.executable, "-m", "bakeoff", "run", str(ROOT / "recipes" / "quick.toml"), "--out", str(out)]
    subprocess.run(command, check=True)
    taken = time.perf_counter() - start
    summary = json.loads((out / "summary.json").read_text())
    print(json.dumps(summary, indent=1)[:3000])
    rows = [{"name": "gpu.demo_seconds", "value": taken}]
    gap = summary.get("gap_closed") or {}
    if isinstance(gap, dict) and "value" in gap:
        rows.append(
            {"name": "gpu.demo_gap_closed", **{key: gap[key] for key in ("value", "low", "high") if key in gap}}
        )
    return rows


PARTS: dict[str, Callable[[], Rows]] = {
    "checks": checks,
    "sampling_135m": sampling_135m,
    "scoring": scoring,
    "training_1b": training_1b,
    "training_8b": training_8b,
    "sampling_8b": sampling_8b,
    "training_8b_all": training_8b_all,
}

if __name__ == "__main__":
    main()
