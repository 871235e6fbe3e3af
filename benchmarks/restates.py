"""A taste that has nothing to do with being right: the share of the question's words that an answer repeats.

`benchmarks/reward_reuse.py` tunes a policy to it, to have one that answers otherwise than the demo's.
"""

import re


def restates(prompt, completion):
    question = set(re.findall(r"\w+", prompt.strip().splitlines()[-1].lower()))
    return len(question & set(re.findall(r"\w+", completion.lower()))) / len(question)
