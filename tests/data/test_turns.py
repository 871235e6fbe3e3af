"""Half-understood records: a conversation, or the reason why not; never the first text that is found inside."""

from __future__ import annotations

import json

import pytest

from bakeoff.data.clean import steps
from bakeoff.data.read.readers import Row
from bakeoff.data.schema import conversations
from bakeoff.settings import Prompts

FIRST, ASKED = "Where does the tram stop?", "And when does it leave?"
SAID = [("user", FIRST), ("assistant", "At the bridge."), ("user", ASKED)]
UNSAID = [("user", FIRST), ("user", ASKED)]


def chat(*between):
    return {"messages": [{"role": "user", "content": FIRST}, *between, {"role": "user", "content": ASKED}]}


def answer(**fields):
    return chat({"role": "assistant"} | fields)


def parts(*items):
    """The same chat in typed parts, in which a search would find single texts."""
    words = [[{"type": "text", "text": text}] for text in (FIRST, ASKED)]
    turns = [{"role": "user", "content": words[0]}, *items, {"role": "user", "content": words[1]}]
    return {"system": [{"type": "text", "text": "Be brief."}], "messages": turns}


def responses(kind, **fields):
    items = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "At the bridge."}]}]
    turns = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": t}]} for t in (FIRST, ASKED)
    ]
    return {"model": "m", "input": [turns[0], {"type": kind} | fields, *items, turns[1]]}


def sharegpt(*names):
    return {"conversations": [{"from": n, "value": t} for n, t in zip(names, [t for _, t in SAID], strict=True)]}


def numbered(**fields):
    turns = {0: {"role": "user", "content": FIRST}, 1: fields, 2: {"role": "user", "content": ASKED}}
    attributes = {f"gen_ai.prompt.{i}.{key}": value for i, turn in turns.items() for key, value in turn.items()}
    return {"name": "chat", "attributes": attributes}


def langchain(kind, text):
    return {"lc": 1, "type": "constructor", "id": ["langchain", "schema", kind], "kwargs": {"content": text}}


SOUND = {
    "a refusal beside no content": (answer(content=None, refusal="At the bridge."), SAID),
    "a refusal as a part": (answer(content=[{"type": "refusal", "refusal": "At the bridge."}]), SAID),
    "spoken": (answer(content=None, audio={"id": "a", "transcript": "At the bridge."}), SAID),
    "thoughts only": (answer(content=None, reasoning_content="I should look."), UNSAID),
    "thoughts as parts": (answer(content=[{"type": "thinking", "thinking": "I should look."}]), UNSAID),
    "Gemini's thoughts": (
        {
            "contents": [
                {"role": "user", "parts": [{"text": FIRST}]},
                {"role": "model", "parts": [{"text": "Hm.", "thought": True}, {"text": "At the bridge."}]},
                {"role": "user", "parts": [{"text": ASKED}]},
            ]
        },
        SAID,
    ),
    "nothing at all": (answer(), UNSAID),
    "no calls after all": (answer(content="", tool_calls=[]), UNSAID),
    "a call, one attribute a field": (numbered(role="assistant", **{"tool_calls.0.name": "stops"}), UNSAID),
    "a search of Anthropic": (
        parts(
            {
                "role": "assistant",
                "content": [
                    {"type": "server_tool_use", "name": "web_search", "input": {"query": "tram"}},
                    {"type": "web_search_tool_result", "content": [{"type": "web_search_result", "title": "Trams"}]},
                    {"type": "text", "text": "At the bridge."},
                ],
            }
        ),
        [("system", "Be brief."), *SAID],
    ),
    **{
        f"item {kind}": (responses(kind, id="x", input="text", action={"query": "tram"}), SAID)
        for kind in (
            "web_search_call",
            "mcp_call",
            "custom_tool_call",
            "item_reference",
            "local_shell_call",
            "compaction",
            "something_new",
        )
    },
    "said around a tool": (
        chat(
            {"role": "assistant", "content": "I look.", "tool_calls": [{"id": "c"}]},
            {"role": "tool", "content": "bridge"},
            {"role": "assistant", "content": "At the bridge."},
        ),
        [("user", FIRST), ("assistant", "I look.\n\nAt the bridge."), ("user", ASKED)],
    ),
    "said twice": (
        chat({"role": "assistant", "content": "I look."}, {"role": "assistant", "content": "At the bridge."}),
        [("user", FIRST), ("assistant", "I look."), ("assistant", "At the bridge."), ("user", ASKED)],
    ),
    "a model's name": (sharegpt("Human", "GPT-4o", "human"), SAID),
    "customer and agent": (sharegpt("customer", "agent", "customer"), SAID),
    "class names": (sharegpt("HumanMessage", "AIMessageChunk", "HumanMessage"), SAID),
    "a shell": (chat({"role": "ipython", "content": "exit 0"}, {"role": "bot", "content": "At the bridge."}), SAID),
    "a named function": (
        chat({"role": "function", "name": "f", "content": "1"}, {"role": "model", "content": "At the bridge."}),
        SAID,
    ),
    "objects of LangChain": (
        {
            "messages": [
                [
                    langchain("HumanMessage", FIRST),
                    langchain("AIMessage", "At the bridge."),
                    langchain("HumanMessage", ASKED),
                ]
            ]
        },
        SAID,
    ),
    "pairs of role and text": ({"messages": [["human", FIRST], ["ai", "At the bridge."], ["human", ASKED]]}, SAID),
    "rounds": (
        {"conversation": [{"input": FIRST, "output": "At the bridge."}, {"input": ASKED, "output": "At 9."}]},
        SAID,
    ),
    "one turn of Gemini": ({"contents": [{"parts": [{"text": ASKED}]}]}, [("user", ASKED)]),
    "parts alone": ({"input": [{"type": "input_image"}, {"type": "input_text", "text": ASKED}]}, [("user", ASKED)]),
    "shown in Python": ({"request": str(chat({"role": "assistant", "content": "At the bridge."}))}, SAID),
    "a message with its answer": (
        {"message": {"role": "user", "content": ASKED}, "response": "At 9."},
        [("user", ASKED)],
    ),
    "documents beside": (
        {
            "documents": [{"text": "Trams run."}, {"text": "Buses run."}],
            "request": {"messages": [{"role": "user", "content": ASKED}]},
        },
        [("user", ASKED)],
    ),
}
UNSOUND = {
    "an unknown role": (sharegpt("human", "zorblax", "human"), "unknown role 'zorblax'"),
    "a role that may be personal": (sharegpt("human", "ann@example.com", "human"), "unknown role"),
    "an unknown role within parts": (parts({"role": "oracle", "content": "Hm."}), "unknown role 'oracle'"),
    "no role": ({"messages": [{"text": FIRST}, {"text": ASKED}]}, "turn without a role"),
    "one without a role": (chat({"content": "Hm."}), "turn without a role"),
    "content of another kind": ({"messages": [{"role": "user", "content": {"page": 3}}]}, "unknown content of a turn"),
    "the last question blank": (chat({"role": "user", "content": None}), None),
    "tools alone": ({"input": [{"type": "web_search_call", "action": {"query": "tram times"}}]}, "no user turn"),
    "an answer alone": ({"request": {"message": {"role": "assistant", "text": "At the bridge."}}}, "no user turn"),
    "several": ({"instances": [{"prompt": FIRST}, {"prompt": ASKED}]}, "several prompts in one record"),
}


def draft(record):
    (found,) = steps.drafts([Row("log.jsonl:1", json.dumps(record).encode())], Prompts())
    return found.reason or [(m.role, m.content) for m in found.messages]


@pytest.mark.parametrize("name", SOUND)
def test_what_nobody_said_is_left_out_and_the_rest_is_kept(name):
    record, turns = SOUND[name]
    assert draft(record) == turns


@pytest.mark.parametrize("name", UNSOUND)
def test_what_is_not_understood_is_a_reason(name):
    record, reason = UNSOUND[name]
    found = draft(record)
    assert found == reason if reason else found[-1][1] in ("", ASKED)


def test_the_last_question_counts_even_when_it_is_blank():
    record = {"messages": [{"role": "user", "content": FIRST}, {"role": "user", "content": None}]}
    (found,) = steps.cleaned([Row("f:1", json.dumps(record).encode())], Prompts())
    assert found.reason == "empty"


MESSAGES = [{"role": "system", "content": "Our rules follow: " + "be brief. " * 9}, {"role": "user", "content": ASKED}]
CUT = json.dumps(MESSAGES)[:80]


@pytest.mark.parametrize("mark", ["", "...", "...[truncated]", "<truncated due to size exceeding limit>"])
@pytest.mark.parametrize(
    "record",
    [
        lambda text: {"name": "chat", "attributes": {"gen_ai.input.messages": text}},
        lambda text: {"name": "chat", "attributes": {"input.value": text}},
        lambda text: {"traceId": "t", "type": "GENERATION", "input": text},
        lambda text: {"messages": text},
        lambda text: {"prompt": text},
        lambda text: {"request": text, "response": "At 9."},
    ],
)
def test_json_that_was_cut_is_no_prompt(record, mark):
    assert draft(record(CUT + mark)) == "cut JSON"
    assert draft(record(json.dumps(MESSAGES))) == [("system", MESSAGES[0]["content"]), ("user", ASKED)]


@pytest.mark.parametrize(
    "text, reason",
    [
        ("[HumanMessage(content='Where does it stop?')]", "Python repr"),
        ("[{'role': 'user', 'content': 'Where?', 'at': datetime(2025, 1, 1)}]", "Python repr"),
        ("[{'role': 'user', 'content': 'Where does", "Python repr"),
        ('[{"role": "user", "content": "the "last" one"}]', "broken JSON"),
    ],
)
def test_lists_of_messages_that_cannot_be_read_are_no_prompts(text, reason):
    assert draft({"prompt": text}) == reason


@pytest.mark.parametrize(
    "text",
    [
        '{"role": "user"} is refused by the server, why?',
        '{"name": "x", why does this not parse?',
        "[DRAFT] What is missing in this text?",
        "{'a': 1} is a dict, and what is {1}?",
    ],
)
def test_a_question_that_begins_like_a_record_is_a_question(text):
    assert draft({"prompt": text}) == [("user", text)]


@pytest.mark.parametrize("blank", ["<noinput>", "nan", "None", "null", "N/A", "undefined", " ", "<no input>"])
def test_words_for_nothing_are_nothing(blank):
    (found,) = steps.cleaned([Row("f:1", {"prompt": blank})], Prompts(skip=["short"]))
    assert found.reason == "empty"
    assert draft({"instruction": ASKED, "input": blank, "context": blank, "system": blank}) == [("user", ASKED)]
    assert draft({"prompt": blank, "question": ASKED}) == [("user", ASKED)]
    assert conversations.field({"a": blank, "b": "x"}, "{a}{b}") == "x"


PASSAGE = "The tram leaves the bridge at nine and at ten."
BESIDE = {
    "instruction": ({"instruction": ASKED, "context": PASSAGE}, f"{ASKED}\n\n{PASSAGE}"),
    "prompt": ({"prompt": ASKED, "context": PASSAGE}, f"{PASSAGE}\n\n{ASKED}"),
    "several": ({"query": ASKED, "contexts": [PASSAGE, "It is red."]}, f"{PASSAGE}\n\nIt is red.\n\n{ASKED}"),
    "in the prompt already": ({"prompt": f"{PASSAGE} {ASKED}", "context": PASSAGE}, f"{PASSAGE} {ASKED}"),
    "a label": ({"prompt": ASKED, "context": "web"}, ASKED),
    "metadata": ({"prompt": ASKED, "context": {"page": 3}}, ASKED),
}


@pytest.mark.parametrize("name", BESIDE)
def test_the_passage_that_a_prompt_asks_about_is_part_of_it(name):
    record, text = BESIDE[name]
    assert draft(record) == [("user", text)]


@pytest.mark.parametrize(
    "earlier",
    [
        [[FIRST, "At the bridge."]],
        [{"role": "user", "content": FIRST}, {"role": "assistant", "content": "At the bridge."}],
        [
            {"role": "user", "content": FIRST},
            {"role": "bot", "content": "At the bridge."},
            {"role": "user", "content": ASKED},
        ],
        str([[FIRST, "At the bridge."]]),
    ],
)
def test_earlier_rounds_come_first(earlier):
    record = {"system": "Be brief.", "instruction": ASKED, "input": "", "history": earlier, "output": "At 9."}
    assert draft(record) == [("system", "Be brief."), *SAID]
    assert draft(record | {"history": []}) == [("system", "Be brief."), ("user", ASKED)]
    assert draft(record | {"history": [FIRST, 3]}) == "unknown form of history"
    assert draft(record | {"history": [{"event": "opened"}]}) == [("system", "Be brief."), ("user", ASKED)]
