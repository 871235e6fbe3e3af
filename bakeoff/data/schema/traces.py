"""What tracers and servers write: spans of OpenTelemetry, MLflow and Langfuse, the tables of Databricks, vLLM's log."""

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from bakeoff.data.schema.nested import parsed, unreadable

INPUTS = (
    "gen_ai.input.messages", "gen_ai.prompt", "mlflow.spanInputs", "langfuse.observation.input", "langfuse.trace.input",
    "traceloop.entity.input", "input.value",
)  # fmt: skip
"""Attributes of a span that hold the whole request, as JSON or as text."""
OUTPUTS = (
    "gen_ai.output.messages", "gen_ai.completion", "gen_ai.completion.0.content",
    "llm.output_messages.0.message.content", "mlflow.spanOutputs", "langfuse.observation.output",
    "langfuse.trace.output", "traceloop.entity.output", "output.value",
)  # fmt: skip
"""Attributes of a span that hold the answer."""
_NUMBERED = re.compile(r"(?:gen_ai\.prompt|llm\.input_messages)\.(\d+)\.(?:message\.)?(role|content)")
_EVENT = re.compile(r"gen_ai\.(system|user|assistant)\.message")
_VLLM = re.compile(
    r"(?:Received request [^\s:]+|Request [^\s:]+ details): prompt: ('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"), ", re.S
)
_ATTRIBUTES = ("attributes", "span_attributes", "SpanAttributes", "Attributes")
_BATCHES = ("resourceSpans", "resource_spans", "resourceLogs", "resource_logs")
_SCOPES = ("scopeSpans", "scope_spans", "instrumentationLibrarySpans", "scopeLogs", "scope_logs")
_KINDS = ("gen_ai.operation.name", "openinference.span.kind", "traceloop.span.kind", "langfuse.observation.type")
_OTHER = {
    "tool", "execute_tool", "retriever", "retrieval", "embedding", "embeddings", "reranker", "evaluator", "guardrail",
    "event", "create_agent",
}  # fmt: skip
_TURN = re.compile(
    r"<\|im_start\|>(?P<chatml>\w+)\n|<\|start_header_id\|>(?P<llama>\w+)<\|end_header_id\|>\n\n"
    r"|<start_of_turn>(?P<gemma>\w+)\n|<\|(?P<phi>user|assistant|system)\|>\n?"
)
_END = re.compile(r"(?:<\|im_end\|>|<\|eot_id\|>|<end_of_turn>|<\|end\|>|<\|end_of_text\|>)\s*$")


def exported_spans(value: Any) -> list[Any]:
    """The spans or log records of an OTLP export, which puts many into one row; none for any other record."""
    batches = filter(_is_dict, _listed(value, _BATCHES) if _is_dict(value) else [])
    scopes = (scope for batch in batches for scope in filter(_is_dict, _listed(batch, _SCOPES)))
    return [span for scope in scopes for span in _listed(scope, ("spans", "logRecords", "log_records"))]


def _listed(record: Mapping[str, Any], keys: tuple[str, ...]) -> list[Any]:
    """The list under the first of some keys that holds one."""
    return next((record[key] for key in keys if isinstance(record.get(key), list)), [])


def other_call(record: Any) -> bool:
    """Whether a span or observation is of something that answers nobody: a tool, a retriever, an embedding."""
    if not isinstance(record, dict):
        return False
    if ("traceId" in record or "trace_id" in record) and str(record.get("type")).lower() in _OTHER:
        return True
    attributes = _attributes(record)
    return any(str(loaded(attributes.get(key))).lower() in _OTHER for key in _KINDS)


def request(record: Mapping[str, Any]) -> Any | None:
    """What a span or trace was asked, to be searched for a conversation; None when the record is neither."""
    data = record.get("data")
    if isinstance(data, dict) and "info" in record:
        return _mlflow(data)
    if "dataframe_split" in record and isinstance(record["dataframe_split"], dict):
        return _frame(record["dataframe_split"])
    if (seen := _listed(record, ("observations",))) and not record.get("input"):  # a trace of Langfuse
        inputs = (loaded(o.get("input")) for o in filter(_is_dict, seen) if not other_call(o))
        return next(({"prompt": found} for found in inputs if found), None)
    attributes = _attributes(record)
    return _asked(attributes, record.get("events")) if attributes else None


def _mlflow(data: Mapping[str, Any]) -> Any | None:
    """The request of an MLflow trace: its own, else the inputs of its first span without a parent."""
    found = loaded(data.get("request"))
    if found is None:
        spans = sorted(filter(_is_dict, _listed(data, ("spans",))), key=_parent)
        found = next((asked for span in spans if (asked := request(span) or loaded(span.get("inputs")))), None)
    return {"prompt": found} if isinstance(found, str) else found


def response(record: Mapping[str, Any]) -> Any | None:
    """What a span or trace answered; None when the record is neither, or does not say."""
    data = record.get("data")
    if not (isinstance(data, dict) and "info" in record):
        attributes = _attributes(record)
        return next((loaded(attributes[key]) for key in OUTPUTS if attributes.get(key)), None)
    if (found := loaded(data.get("response"))) is not None:
        return found
    roots = (s for s in filter(_is_dict, _listed(data, ("spans",))) if not _parent(s))
    return next((r for s in roots if (r := response(s) or loaded(s.get("outputs")))), None)


def _parent(span: Mapping[str, Any]) -> bool:
    return bool(span.get("parent_id") or span.get("parent_span_id"))


def _frame(frame: Mapping[str, Any]) -> Any | None:
    """The rows of a pandas frame in its `split` form."""
    columns, rows = frame.get("columns"), frame.get("data")
    if not isinstance(columns, list) or not isinstance(rows, list):
        return None
    return [dict(zip(map(str, columns), row, strict=False)) for row in rows if isinstance(row, list)]


def _attributes(span: Mapping[str, Any]) -> dict[str, Any]:
    """A span's attributes as one flat record, from OTLP's list of keys and values or from a plain object."""
    found = loaded(next((span[key] for key in _ATTRIBUTES if span.get(key)), None))
    if isinstance(found, list):
        pairs = [(a["key"], a.get("value")) if _is_dict(a) and "key" in a else a for a in found]
        return {str(p[0]): _value(p[1]) for p in pairs if isinstance(p, list | tuple) and len(p) == 2}
    if isinstance(found, dict):
        return found
    return dict(span) if any(str(key) in INPUTS or _NUMBERED.fullmatch(str(key)) for key in span) else {}


def _value(value: Any) -> Any:
    """OTLP's {stringValue: x}, {arrayValue: {values: [...]}} and {kvlistValue: {values: [...]}}, as x."""
    if not _is_dict(value) or len(value) != 1:
        return value
    ((kind, inner),) = value.items()
    values = inner.get("values", []) if _is_dict(inner) else []
    if kind in ("arrayValue", "array_value"):
        return [_value(v) for v in values]
    if kind in ("kvlistValue", "kvlist_value"):
        return {str(v["key"]): _value(v.get("value")) for v in values if _is_dict(v) and "key" in v}
    return inner


def _asked(attributes: Mapping[str, Any], events: Any) -> Any | None:
    turns = _numbered(attributes) or _event_turns(events)
    whole = (loaded(attributes[key]) for key in INPUTS if attributes.get(key))
    found: Any = turns if turns else next(whole, None)
    if isinstance(found, str):
        found = {"messages": found} if unreadable(found, known=True) else [{"role": "user", "content": found}]
    system = loaded(attributes.get("gen_ai.system_instructions"))
    return {"system": system, "messages": found} if system and isinstance(found, list) else found


def _numbered(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Turns that a span spells out one attribute a field: `gen_ai.prompt.0.role`, `gen_ai.prompt.0.content`."""
    turns: dict[int, dict[str, Any]] = {}
    for key, value in attributes.items():
        if match := _NUMBERED.fullmatch(str(key)):
            turns.setdefault(int(match[1]), {})[match[2]] = loaded(value)
    return [turns[i] for i in sorted(turns)]


def _event_turns(events: Any) -> list[dict[str, Any]]:
    """Turns that a span tells as events: `gen_ai.user.message` with the content among its attributes."""
    turns = []
    for event in filter(_is_dict, events if isinstance(events, list) else []):
        name, fields = str(event.get("name")), _attributes(event)
        if match := _EVENT.fullmatch(name):
            turns.append({"role": match[1], "content": fields.get("content", fields.get("gen_ai.event.content"))})
        elif name == "gen_ai.content.prompt" or "gen_ai.input.messages" in fields:
            found = loaded(fields.get("gen_ai.input.messages", fields.get("gen_ai.prompt")))
            turns += found if isinstance(found, list) else []
    return turns


def vllm(line: str) -> Any | None:
    """The request in a line of vLLM's log, its chat template taken apart into turns; None for any other line."""
    match = _VLLM.search(line)
    if not match:
        return None
    try:
        text = ast.literal_eval(match[1])
    except (ValueError, SyntaxError):
        return None
    heads = list(_TURN.finditer(text))
    if not heads:
        return {"prompt": text}
    ends = [h.start() for h in heads[1:]] + [len(text)]
    turns = [(h.group(str(h.lastgroup)), _END.sub("", text[h.end() : end])) for h, end in zip(heads, ends, strict=True)]
    return {"messages": [{"role": role, "content": said.strip()} for role, said in turns if said.strip()]}


def loaded(value: Any) -> Any:
    """The value that a JSON string spells; anything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ('"', "{", "["):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            inner = parsed(value)
            return value if inner is None else inner
    return value


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)
