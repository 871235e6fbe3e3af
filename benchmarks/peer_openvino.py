"""OpenVINO GenAI as a peer of `sampling.py`: reads a job from standard input, prints {"seconds"} of the second run.

Runs in an environment of its own: pip install openvino-genai 'optimum-intel[openvino]' (the model is converted once,
in bfloat16-equal precision, into a folder beside the packaged one).
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import openvino
import openvino_genai as genai


def main() -> None:
    job = json.load(sys.stdin)
    pipeline = genai.ContinuousBatchingPipeline(converted(job["model"]), genai.SchedulerConfig(), "CPU")
    config = genai.GenerationConfig()
    config.max_new_tokens = config.min_new_tokens = job["sampling"]["max_tokens"]
    config.ignore_eos = True
    config.do_sample, config.temperature, config.top_k = True, 1.0, 2**31 - 1
    config.num_return_sequences = job["sampling"]["group_size"]
    prompts = [openvino.Tensor(np.array([ids], dtype=np.int64)) for ids in job["prompts"]]
    for _ in range(2):
        start = time.perf_counter()
        results = pipeline.generate(prompts, [config] * len(prompts))
        seconds = time.perf_counter() - start
    made = sum(len(ids) for r in results for ids in r.m_generation_ids)
    expected = len(prompts) * job["sampling"]["group_size"] * job["sampling"]["max_tokens"]
    print(json.dumps({"seconds": seconds, "tokens": made, "expected": expected}))


def converted(model: str) -> str:
    """The model in OpenVINO's format, made on first use."""
    folder = Path(model).with_name(Path(model).name + "-openvino")
    if not folder.exists():
        export = ["export", "openvino", "--model", model, "--task", "text-generation-with-past", "--weight-format"]
        subprocess.run([Path(sys.executable).with_name("optimum-cli"), *export, "fp16", folder], check=True)
    return str(folder)


if __name__ == "__main__":
    main()
