"""The scorer of the messages: a program that needs no label, only the message. It checks form, and that nothing is made
up; whether the right number was taken for the quantity it cannot know.
"""

from __future__ import annotations

import json
import re

KEYS = ("order", "product", "quantity")
"""What is asked for, in every case."""
_OBJECT = re.compile(r"\{[^{}]*\}")


def grounded(prompt: str, completion: str) -> float:
    """From 0 to 1: a part for each thing that holds of the first JSON object in the completion."""
    found = _OBJECT.search(completion)
    try:
        values = json.loads(found.group()) if found else None
    except ValueError:
        values = None
    if not isinstance(values, dict):
        return 0.0
    said = prompt.lower()
    order, product, quantity = (values.get(key) for key in KEYS)
    points = [
        True,
        set(values) == set(KEYS),
        isinstance(order, str) and bool(re.fullmatch(r"[A-Z]{2}-\d{4}", order)) and order.lower() in said,
        isinstance(product, str) and product.isascii() and 1 <= len(product.split()) <= 3 and product.lower() in said
        and not re.search(r"\d|order|message", product.lower()),
        str(quantity).isdigit() and bool(re.search(rf"(?<![\w$-]){quantity}(?!\w)", prompt))
        and bool(re.search(rf"\b{quantity} {re.escape(str(product).lower())}", said)),
        completion.strip() == found.group(),
    ]  # fmt: skip
    return sum(points) / len(points)
