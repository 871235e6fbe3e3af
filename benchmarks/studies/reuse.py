"""A taste that has nothing to do with being right."""

import re


def restates(prompt, completion):
    """The share of the question's words that an answer repeats."""
    question = set(re.findall(r"\w+", prompt.strip().splitlines()[-1].lower()))
    return len(question & set(re.findall(r"\w+", completion.lower()))) / len(question)
