"""Customer messages with what they say, asked for as JSON: one case is a conversation and what is true."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterator

from grounded import KEYS

FIRST = ("Ada", "Ben", "Cleo", "Dan", "Edda", "Finn", "Gia", "Hal", "Ines", "Jon", "Kim", "Lou", "Mia", "Ned", "Ona")
LAST = ("Abel", "Brook", "Crane", "Doyle", "Ellis", "Frost", "Grant", "Hale", "Irwin", "Joyce", "Kent", "Lane", "Moss")
PRODUCTS = {
    "log": (
        "desk lamps", "water bottles", "tea towels", "garden chairs", "phone cases", "picture frames", "wool socks",
        "soup bowls", "candles", "door mats", "coffee mugs", "bath mats", "wall clocks", "throw pillows",
        "travel adapters", "cutting boards",
    ),
    "gold": (
        "steak knives", "bar stools", "oven gloves", "photo albums", "yoga mats", "salad plates", "flower pots",
        "storage boxes",
    ),
}  # fmt: skip
"""By split: no product of the gold file is in the log."""
ISSUES = (
    "{They} arrived broken", "the box was empty", "{they} came in the wrong colour", "two of {them} are scratched",
    "nothing has come yet", "{they} do not fit", "the parcel is {days} days late", "one was missing",
)  # fmt: skip
LAYOUTS = (
    "Hello, I am {name}. I ordered {n} {product} on {day} (order {order}), and {issue}. Please help.",
    "Order {order}: {n} {product}. It is {weeks} weeks now and {issue}. {name}, {house} Hill Street",
    "Hi team! {Issue}. My order number is {order}, I bought {n} {product} for {price}. Thanks, {name}",
    "I am {name} and live at {house} Mill Lane. On {day} I paid {price} for {n} {product}; {issue}. It was {order}.",
    "Dear sir or madam, regarding {order}: {issue}. I had asked for {n} {product}. Regards, {name}",
    "{Issue}!! I have waited {weeks} weeks for my {n} {product}. See order {order}. {name}",
)
SYSTEM = "Answer with JSON: order, product, quantity."
EXAMPLES = (
    ("I bought 5 tin cups (order QX-2231) and they leak. Bob", "QX-2231", "tin cups", 5),
    ("Where are my 3 bath towels? The order is UB-7104. Regards, Amy Poe", "UB-7104", "bath towels", 3),
    ("Order JY-5580 came today. One of the 12 glass jars is broken. Joe, 15 High Street", "JY-5580", "glass jars", 12),
)
"""What every request shows before its message, as turns: a message, and its order, product and quantity."""


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    messages: tuple[tuple[str, str], ...]
    """(role, text) of each turn; the last is the customer's message."""
    answer: str
    """A JSON schema that only the true values fulfil."""
    verifier: str = "json_schema"


def cases(rng: random.Random, split: str) -> Iterator[Case]:
    """Cases without end."""
    while True:
        yield case(rng, split)


def case(rng: random.Random, split: str) -> Case:
    """A message about an order, in one of the layouts, after the examples."""
    said = {
        "order": f"{rng.choice('ABCDEFGHKLMNPRSTVWX')}{rng.choice('ABCDEFGHKLMNPRSTVWX')}-{rng.randint(1000, 9999)}",
        "product": rng.choice(PRODUCTS[split]),
        "quantity": rng.randint(2, 12),
    }
    issue = rng.choice(ISSUES).format(they="they", They="they", them="them", days=rng.randint(3, 9))
    message = rng.choice(LAYOUTS).format(
        name=f"{rng.choice(FIRST)} {rng.choice(LAST)}",
        n=said["quantity"],
        product=said["product"],
        order=said["order"],
        issue=issue,
        Issue=issue[0].upper() + issue[1:],
        day=f"{rng.randint(1, 28)} {rng.choice(['March', 'April', 'May'])}",
        weeks=rng.randint(2, 9),
        house=rng.randint(2, 99),
        price=f"${rng.randint(13, 199)}",
    )
    return Case((*_shown(), ("user", message)), schema(said))


def _shown() -> Iterator[tuple[str, str]]:
    yield "system", SYSTEM
    for message, *values in EXAMPLES:
        yield "user", message
        yield "assistant", json.dumps(dict(zip(KEYS, values, strict=True)))


def schema(said: dict[str, object]) -> str:
    """The schema of the true answer; a number may be written as text, and a name with other capitals."""
    values = {
        "order": {"const": said["order"]},
        "product": {"enum": [said["product"], str(said["product"]).capitalize(), str(said["product"]).title()]},
        "quantity": {"enum": [said["quantity"], str(said["quantity"])]},
    }
    return json.dumps({"type": "object", "properties": values, "required": list(KEYS), "additionalProperties": False})
