"""Records after the published descriptions of the tools that write them, each with what is to come of it.

OpenTelemetry: docs/gen-ai/gen-ai-input-messages.json and non-normative/examples-llm-calls.md of its semantic
conventions. Langfuse: the field reference of the blob storage export. vLLM: `RequestLogger.log_inputs`.
"""

from __future__ import annotations

import json

import pytest

from bakeoff.data.clean import steps
from bakeoff.data.read.readers import Row
from bakeoff.settings import Prompts

ASKED = "What is in the attached data?"
ALONE = [("user", ASKED)]
TOOLS = [
    {"role": "user", "parts": [{"type": "text", "content": "Weather in Paris?"}]},
    {
        "role": "assistant",
        "parts": [{"type": "tool_call", "id": "call_1", "name": "get_weather", "arguments": {"location": "Paris"}}],
    },
    {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_1", "response": "rainy, 57°F"}]},
]
MEDIA = [
    {"type": "uri", "modality": "image", "mime_type": "image/png", "uri": "https://example.com/a.png"},
    {"type": "file", "modality": "image", "file_id": "provider_fileid_123"},
    {"type": "blob", "modality": "audio", "mime_type": "audio/wav", "content": "aGVsbG8gd29ybGQ="},
]
OBSERVATION = {
    "id": "o1", "trace_id": "t1", "project_id": "p", "environment": "default", "type": "GENERATION",
    "parent_observation_id": "", "name": "chat", "level": "DEFAULT", "status_message": "", "version": "",
    "input": json.dumps([{"role": "user", "content": ASKED}]),
    "output": json.dumps({"role": "assistant", "content": "A."}),
    "provided_model_name": "m", "model_parameters": '{"temperature":0.7}', "usage_details": {"input": 9, "output": 1},
    "prompt_name": "", "tool_calls": [], "tool_definitions": {}, "user_id": "u", "session_id": "s",
}  # fmt: skip


def span(operation: str, turns: list) -> dict:
    attributes = {
        "gen_ai.provider.name": "openai",
        "gen_ai.operation.name": operation,
        "gen_ai.request.max_tokens": 200,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.input.messages": json.dumps(turns),
        "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": [], "finish_reason": "stop"}]),
    }
    return {"name": f"{operation} gpt-4", "trace_id": "4bf9", "span_id": "00f0", "attributes": attributes}


def user(*parts: dict) -> list:
    return [{"role": "user", "parts": list(parts)}]


TEXT = {"type": "text", "content": ASKED}
CASES = {
    "span": (span("chat", user(TEXT)), ALONE),
    "tools": (span("chat", TOOLS), [("user", "Weather in Paris?")]),
    "with media": (span("chat", user(TEXT, *MEDIA)), ALONE),
    "media only": (span("chat", user(*MEDIA)), "images only"),
    "a tool's span": (span("execute_tool", user(TEXT)), "no model call"),
    "enriched observation": (OBSERVATION, ALONE),
    "plain observation": (OBSERVATION | {"input": ASKED}, ALONE),
    "nothing asked": (OBSERVATION | {"input": ""}, "empty"),
    "a tool's observation": (OBSERVATION | {"type": "TOOL", "input": ASKED}, "no model call"),
    "a retriever's observation": (OBSERVATION | {"type": "RETRIEVER", "input": ASKED}, "no model call"),
    "chat with image": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ASKED}, {"type": "image_url"}]}]},
        ALONE,
    ),
    "images after a question": (
        {
            "messages": [
                {"role": "user", "content": "Wait."},
                {"role": "assistant", "content": "Yes?"},
                {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "data": "aGV="}}]},
            ]
        },
        "images only",
    ),
    "image, then a question": (
        {
            "contents": [
                {
                    "role": "user",
                    "parts": [{"inline_data": {"mime_type": "image/png", "data": "aGV="}}, {"text": ASKED}],
                }
            ]
        },
        ALONE,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_documented_records(name):
    record, expected = CASES[name]
    value = json.dumps(record).encode()
    (draft,) = steps.cleaned([Row("log.jsonl:1", value)], Prompts())
    assert expected == (draft.reason or [(m.role, m.content) for m in draft.messages])


def test_otlp_logs_are_one_prompt_a_record():
    event = {
        "eventName": "gen_ai.client.inference.operation.details",
        "attributes": [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
            {
                "key": "gen_ai.input.messages",
                "value": {
                    "arrayValue": {
                        "values": [
                            {
                                "kvlistValue": {
                                    "values": [
                                        {"key": "role", "value": {"stringValue": "user"}},
                                        {"key": "content", "value": {"stringValue": ASKED}},
                                    ]
                                }
                            }
                        ]
                    }
                },
            },
        ],
    }
    other = {"severityText": "INFO", "body": {"stringValue": "started"}, "attributes": []}
    line = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [event, other]}]}]}).encode()
    found = steps.drafts([Row("l:1", line)], Prompts())
    assert [(d.source, [m.content for m in d.messages], d.reason) for d in found] == [
        ("l:1:1", [ASKED], ""),
        ("l:1:2", [], "no prompt found"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        "INFO 07-01 10:00:00 [logger.py:39] Received request cmpl-1: prompt: {}, params: SamplingParams(n=1), "
        "prompt_token_ids: [1, 2], prompt_embeds shape: None, lora_request: None, prompt_adapter_request: None.",
        "DEBUG 11-01 10:00:00 [logger.py:52] Request cmpl-1 details: prompt: {}, prompt_token_ids: [1, 2], "
        "prompt_embeds shape: None.",
    ],
)
def test_both_forms_of_vllms_log(line):
    (draft,) = steps.drafts([Row("l:1", line.format(repr(f"{ASKED} It's \n")).encode())], Prompts())
    assert [m.content for m in draft.messages] == [f"{ASKED} It's \n"]
    (bare,) = steps.drafts(
        [Row("l:1", b"INFO [x] Received request c: params: SamplingParams(n=1), lora_request: None.")], Prompts()
    )
    assert bare.reason == "broken JSON"
