"""Records as tools write them: each gives the conversation that somebody wanted answered."""

from __future__ import annotations

import json

import pytest

from bakeoff.data.clean import steps
from bakeoff.data.read import readers
from bakeoff.data.schema import conversations
from bakeoff.data.schema.turns import asked
from bakeoff.data.stage import preview
from bakeoff.settings import Fields, Prompts

ASKED = "What is a bond?"
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASKED}]
BOTH = [("system", "Be brief."), ("user", ASKED)]
ALONE = [("user", ASKED)]


def text(value: object) -> str:
    return json.dumps(value)


OPENAI_TOOLS = [
    {"role": "user", "content": "What is the time?"},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "12:04"},
    {"role": "assistant", "content": "Four past twelve."},
    {"role": "user", "content": [{"type": "text", "text": ASKED}]},
]
ANTHROPIC = {
    "model": "m",
    "max_tokens": 9,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": "Read the file."},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "I call it.", "signature": "x"},
                {"type": "text", "text": "Reading."},
                {"type": "tool_use", "id": "t", "name": "read", "input": {"path": "a"}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "text of it"}]},
        {"role": "assistant", "content": "It is about loans."},
        {"role": "user", "content": [{"type": "text", "text": ASKED}]},
    ],
}
RESPONSES = {
    "model": "m",
    "instructions": "Be brief.",
    "input": [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": ASKED}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "x"},
    ],
}
MLFLOW = {
    "info": {
        "trace_id": "tr-1",
        "request_preview": "{...",
        "trace_metadata": {"mlflow.traceInputs": "cut"},
        "state": "OK",
    },
    "data": {
        "spans": [
            {
                "name": "Completions",
                "parent_span_id": "a1",
                "attributes": {"mlflow.spanInputs": text({"messages": [{"role": "user", "content": "inner"}]})},
            },
            {
                "name": "agent",
                "parent_span_id": None,
                "attributes": {
                    "mlflow.spanType": '"AGENT"',
                    "mlflow.spanInputs": text({"messages": CHAT}),
                    "mlflow.spanOutputs": '"A loan."',
                },
            },
        ]
    },
}
MLFLOW_2 = {
    "info": {"request_id": "1"},
    "data": {"request": text({"question": ASKED}), "response": '"A loan."', "spans": []},
}
LANGFUSE = {
    "id": "t1",
    "name": "chat",
    "input": {"args": [ASKED], "kwargs": {}},
    "output": "A loan.",
    "observations": [{"type": "GENERATION", "input": [{"role": "user", "content": "inner"}]}],
    "scores": [{"name": "user-feedback", "value": 1}],
}
LANGFUSE_GENERATION = {"id": "o1", "traceId": "t1", "type": "GENERATION", "input": text(CHAT), "output": "A loan."}
GENAI = {
    "name": "chat m",
    "attributes": {
        "gen_ai.operation.name": "chat",
        "gen_ai.system_instructions": text([{"type": "text", "content": "Be brief."}]),
        "gen_ai.input.messages": text([{"role": "user", "parts": [{"type": "text", "content": ASKED}]}]),
        "gen_ai.output.messages": text(
            [{"role": "assistant", "parts": [{"type": "text", "content": "A loan."}], "finish_reason": "stop"}]
        ),
    },
}
NUMBERED = {
    "name": "openai.chat",
    "attributes": {
        "gen_ai.prompt.0.role": "system",
        "gen_ai.prompt.0.content": "Be brief.",
        "gen_ai.prompt.1.role": "user",
        "gen_ai.prompt.1.content": ASKED,
        "gen_ai.completion.0.content": "A loan.",
    },
}
OPENINFERENCE = {
    "name": "ChatCompletion",
    "attributes": {
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": ASKED,
        "output.value": "A loan.",
    },
}
EVENTS = {
    "name": "chat m",
    "attributes": {"gen_ai.system": "openai"},
    "events": [
        {"name": "gen_ai.system.message", "attributes": {"content": "Be brief."}},
        {"name": "gen_ai.user.message", "attributes": {"content": ASKED}},
        {"name": "gen_ai.choice", "attributes": {"message": "A loan."}},
    ],
}
DATABRICKS = {
    "databricks_request_id": "r",
    "timestamp_ms": 1,
    "status_code": 200,
    "request": text({"messages": CHAT, "max_tokens": 5}),
    "response": text({"choices": [{"message": {"role": "assistant", "content": "A loan."}}]}),
}
FRAME = {"databricks_request_id": "r", "request": text({"dataframe_split": {"columns": ["prompt"], "data": [[ASKED]]}})}
CASES = {
    "chat": ({"model": "m", "messages": CHAT, "temperature": 0}, BOTH),
    "tools": (
        {"messages": OPENAI_TOOLS},
        [("user", "What is the time?"), ("assistant", "Four past twelve."), ("user", ASKED)],
    ),
    "logged as text": ({"request_body": text({"messages": CHAT}), "response_body": text({"choices": []})}, BOTH),
    "batch": ({"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": CHAT}}, BOTH),
    "responses": (RESPONSES, BOTH),
    "responses, text": ({"model": "m", "input": ASKED, "instructions": "Be brief."}, BOTH),
    "anthropic": (
        ANTHROPIC,
        [
            ("system", "Be brief."),
            ("user", "Read the file."),
            ("assistant", "Reading.\n\nIt is about loans."),
            ("user", ASKED),
        ],
    ),
    "sharegpt": (
        {"conversations": [{"from": "system", "value": "Be brief."}, {"from": "human", "value": ASKED}]},
        BOTH,
    ),
    "alpaca": ({"instruction": ASKED, "input": "", "output": "A loan."}, ALONE),
    "mlflow": (MLFLOW, BOTH),
    "mlflow 2": (MLFLOW_2, ALONE),
    "langfuse": (LANGFUSE, ALONE),
    "langfuse generation": (LANGFUSE_GENERATION, BOTH),
    "genai": (GENAI, BOTH),
    "numbered": (NUMBERED, BOTH),
    "openinference": (OPENINFERENCE, ALONE),
    "events": (EVENTS, BOTH),
    "databricks": (DATABRICKS, BOTH),
    "databricks frame": (FRAME, ALONE),
}


@pytest.mark.parametrize("name", CASES)
def test_records_as_tools_write_them(name):
    record, turns = CASES[name]
    for value in (record, text(record)):
        found = asked(conversations.all_turns(value))
        assert [(m.role, m.content) for m in found] == turns


def test_turns_beside_other_values_without_roles_give_a_reason(tmp_path):
    (draft,) = drafts(tmp_path, "log.jsonl", json.dumps({"conversations": [{"content": "What is a bond?"}, 3]}))
    assert draft.reason == "turn without a role"


def drafts(tmp_path, name, content, **settings):
    (tmp_path / name).write_text(content)
    return steps.drafts(list(readers.rows(tmp_path / name)), Prompts(**settings))


def test_an_otlp_export_is_one_prompt_a_span(tmp_path):
    def attribute(key, value):
        return {"key": key, "value": {"stringValue": value}}

    spans = [
        {"name": "chat", "attributes": [attribute("gen_ai.input.messages", text(CHAT))]},
        {
            "name": "chat",
            "attributes": [attribute("gen_ai.prompt.0.role", "user"), attribute("gen_ai.prompt.0.content", ASKED)],
        },
        {"name": "GET /", "attributes": [attribute("http.method", "GET")]},
    ]
    line = text({"resourceSpans": [{"resource": {}, "scopeSpans": [{"scope": {}, "spans": spans}]}]})
    found = drafts(tmp_path, "otlp.jsonl", line + "\n")
    assert [[(m.role, m.content) for m in d.messages] for d in found] == [BOTH, ALONE, []]
    assert [d.reason for d in found] == ["", "", "no prompt found"]
    assert [d.source.rpartition("otlp.jsonl")[2] for d in found] == [":1:1", ":1:2", ":1:3"]


def test_vllm_logs_are_taken_apart_again(tmp_path):
    chat = f"<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n"
    llama = (
        f"<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{ASKED}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    lines = [
        f"INFO 03-12 10:00:00 [logger.py:39] Received request chatcmpl-1: prompt: {prompt!r}, params:"
        " SamplingParams(n=1, temperature=1.0), prompt_token_ids: None, lora_request: None."
        for prompt in (chat, llama, 'It\'s "plain" text?')
    ]
    other = 'INFO:     127.0.0.1:1 - "POST /v1/chat/completions HTTP/1.1" 200 OK'
    found = drafts(tmp_path, "server.log", "\n".join([*lines, other]) + "\n")
    turns = [[(m.role, m.content) for m in d.messages] for d in found]
    assert turns == [BOTH, ALONE, [("user", 'It\'s "plain" text?')], []]
    assert found[3].reason == "broken JSON"


def test_a_template_joins_columns(tmp_path):
    rows = 'title,body,n\nBonds,"What is one?",1\n,,2\nLoans,,3\n'
    found = drafts(tmp_path, "log.csv", rows, fields=Fields(prompt="{title}\n{body}"))
    assert [d.messages[0].content if d.messages else d.reason for d in found] == [
        "Bonds\nWhat is one?",
        "no field '{title}\\n{body}'",
        "Loans\n",
    ]


def test_what_is_recognised_is_shown_and_nothing_personal_in_it(tmp_path):
    (tmp_path / "a.jsonl").write_text(text({"messages": [{"role": "user", "content": "Mail ann@example.com now"}]}))
    (tmp_path / "b.jsonl").write_text(text(DATABRICKS) + "\n" + text({"id": 1}) + "\n{\n")
    first, second = preview([tmp_path], Prompts())
    assert first == f'{tmp_path}/a.jsonl: chat messages (1), "Mail [EMAIL_1] now"'
    assert "Databricks inference table (1), no prompt found (1), broken JSON (1)" in second
