"""The engine that samples with vLLM in this process; an adapter is laid over weights that are loaded once."""

import json
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from bakeoff.errors import Missing
from bakeoff.models import chat
from bakeoff.models.load import load_tokenizer, model_folder, torch_device, torch_dtype
from bakeoff.records import Completion, Failure, Prompt
from bakeoff.sampling.engine import Failed, Sampling, completion, refuse, seed_of
from bakeoff.sampling.length_filter import readable
from bakeoff.sampling.stop import Stops, Writer
from bakeoff.settings import Recipe

RANKS = (64, 128, 256, 512)
"""Largest adapter ranks that vLLM can make room for."""
_alive: weakref.WeakValueDictionary[tuple[str, str, int], Any] = weakref.WeakValueDictionary()
"""The vLLM models that an engine still holds, by (folder, precision, largest adapter rank; 0 without adapters)."""


class VllmEngine:
    """Samples from a model, or from a PEFT adapter's folder over its base, on the device that vLLM was built for.

    Engines over the same base share its weights while one of them lives. The same prompts in the same call give the
    same completions; a draw depends on the prompt's id, its index and the seed, up to floating point.
    """

    def __init__(self, model: str, recipe: Recipe) -> None:
        base, self.adapter, rank = _parts(str(model_folder(model)))
        precision = str(torch_dtype(recipe.dtype, torch_device(recipe.device))).removeprefix("torch.")
        self.llm = _load(base, precision, rank)
        self.tokenizer = load_tokenizer(base)
        self.window = self.llm.llm_engine.model_config.max_model_len

    def complete(
        self, prompts: Sequence[Prompt], sampling: Sampling, failed: Failed = refuse
    ) -> Iterator[list[Completion]]:
        """One whole group per prompt, in their order, when all are done; what does not fit goes to `failed`."""
        read = readable(self.tokenizer, prompts, sampling, self.window, failed)
        if not read:
            return
        inputs = [{"prompt_token_ids": ids} for _, ids in read]
        end = chat.turn_end(self.tokenizer)
        settings = [_parameters(prompt, sampling, end) for prompt, _ in read]
        writer = Writer(self.tokenizer, [], Stops(self.tokenizer, sampling.stop))
        outputs = self.llm.generate(inputs, settings, use_tqdm=False, lora_request=self._request())
        for (prompt, _), output in zip(read, outputs, strict=True):
            ends = {drawn.finish_reason for drawn in output.outputs}
            if len(output.outputs) == sampling.group_size and ends <= {"stop", "length"}:
                group = sorted(output.outputs, key=lambda drawn: drawn.index)
                yield [_completion(prompt, drawn, sampling, writer) for drawn in group]
            else:
                detail = f"{prompt.source}: vLLM broke off {len(output.outputs)} completions ({ends})"
                failed(Failure(prompt.id, "server_error", detail))

    def _request(self) -> Any:
        if self.adapter is None:
            return None
        from vllm.lora.request import LoRARequest

        return LoRARequest(self.adapter, seed_of(self.adapter) or 1, self.adapter)


def _parts(folder: str) -> tuple[str, str | None, int]:
    """(base model, adapter folder if `folder` is one, room for its rank)."""
    settings = Path(folder) / "adapter_config.json"
    if not settings.exists():
        return folder, None, 0
    adapter = json.loads(settings.read_text(encoding="utf-8"))
    rank = next((r for r in RANKS if r >= adapter["r"]), RANKS[-1])
    return str(model_folder(adapter["base_model_name_or_path"])), folder, rank


def _load(base: str, precision: str, rank: int) -> Any:
    """The vLLM model of a base with room for adapters of a rank; one that is alive and has it is taken."""
    try:
        from vllm import LLM
    except ImportError:
        raise Missing("sample.engine: vllm is not installed; pip install 'bakeoff[vllm]'") from None
    for (name, other, room), llm in list(_alive.items()):
        if (name, other) == (base, precision) and room >= rank:
            return llm
    settings = _memory() | ({"enable_lora": True, "max_lora_rank": rank} if rank else {})
    llm = LLM(model=base, dtype=precision, logprobs_mode="processed_logprobs", enable_prefix_caching=True, **settings)
    _alive[base, precision, rank] = llm
    return llm


def _memory() -> dict[str, Any]:
    """Most of what is free: vLLM would ask for 92 % of all memory, and stop where others (a training) hold some."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # what a training before held in this process
        free, total = torch.cuda.mem_get_info()
        return {"gpu_memory_utilization": round(0.92 * free / total, 2)}
    import psutil  # vLLM needs it too

    memory = psutil.virtual_memory()
    return {"gpu_memory_utilization": round(0.7 * memory.available / memory.total, 2)}  # of the CPU's, despite its name


def _parameters(prompt: Prompt, sampling: Sampling, end: int | None = None) -> Any:
    from vllm import SamplingParams

    return SamplingParams(
        n=sampling.group_size,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        stop=list(sampling.stop),
        stop_token_ids=[] if end is None else [end],
        seed=seed_of(sampling.seed, prompt.id),
        logprobs=0,  # those of the sampled tokens only
    )


def _completion(prompt: Prompt, drawn: Any, sampling: Sampling, writer: Writer) -> Completion:
    """The record; where a tokenizer marks thoughts by special tokens, vLLM's own text lacks these."""
    tokens = list(drawn.token_ids)
    text = writer.cut(tokens)[0] if writer.hidden else drawn.text
    logp = 0.0 if sampling.temperature == 0 else drawn.cumulative_logprob
    return completion(prompt.id, drawn.index, text, tokens, logp=logp, finish=drawn.finish_reason)
