"""vLLM as a peer of `sampling.py`: reads a job from standard input, prints {"seconds"} of the second run."""

import json
import sys
import time

from vllm import LLM, SamplingParams


def main() -> None:
    job = json.load(sys.stdin)
    sampling = job["sampling"]
    llm = LLM(job["model"], dtype="bfloat16", max_model_len=2048, enable_prefix_caching=True)
    parameters = SamplingParams(
        n=sampling["group_size"], max_tokens=sampling["max_tokens"], ignore_eos=True, temperature=1.0
    )
    prompts = [{"prompt_token_ids": ids} for ids in job["prompts"]]
    for _ in range(2):
        llm.reset_prefix_cache()
        start = time.perf_counter()
        llm.generate(prompts, parameters, use_tqdm=False)
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
