"""The endpoint engine against a real HTTP server that answers as the ones out there do, and misbehaves as they do."""

import email.utils
import http.server
import json
import re
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from conftest import byte_tokenizer

from bakeoff.errors import UserError
from bakeoff.records import Completion, Message, Prompt, content_id, read_table, write_table
from bakeoff.run import open_run, read_json
from bakeoff.sampling import Sampling, choose
from bakeoff.sampling.endpoint import GIVE_UP, EndpointEngine
from bakeoff.sampling.http_client import Patience
from bakeoff.sampling.local import LocalEngine
from bakeoff.sampling.stage import sample
from bakeoff.settings import Recipe, Sample

END = 259
QUICK = Patience(timeout=10, tries=3, pause=0.01, threads=8)
FOUR = Sampling(group_size=4, max_tokens=8)


def prompts(*texts):
    return [Prompt(f"p{i}", [Message("user", t)], f"asks.jsonl:{i}", 1, "train") for i, t in enumerate(texts or ["hi"])]


def choice(text, finish="stop", **more):
    return {"message": {"role": "assistant", "content": text}, "finish_reason": finish, **more}


def answer(body):
    return 200, {}, {"choices": [choice(f"{asked(body)} {i}") for i in range(body.get("n", 1))]}


def asked(body):
    return body["messages"][-1]["content"] if "messages" in body else body["prompt"]


@pytest.fixture
def serve():
    """Start a server: `script(body, number)` gives (status, headers, answer); `server.seen` holds what was asked."""
    servers = []

    def start(script=lambda body, number: answer(body), models=("tiny",)):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                if models is None:
                    return self.send(404, {}, {})
                named = [name if isinstance(name, tuple) else (name, None) for name in models]
                self.send(200, {}, {"data": [{"id": name, "root": root} for name, root in named]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server.lock:
                    number = server.seen_of[asked(body)]
                    server.seen_of[asked(body)] += 1
                    server.seen.append((self.path, self.headers.get("Authorization"), body, time.monotonic()))
                self.send(*script(body, number))

            def send(self, status, headers, made):
                data = made if isinstance(made, bytes) else json.dumps(made).encode()
                self.send_response(status)
                for name, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.seen, server.seen_of, server.lock = [], Counter(), threading.Lock()
        server.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def engine(server, tokenizer=None, patience=QUICK):
    return EndpointEngine(server.url, "tiny", tokenizer or byte_tokenizer(), patience)


def run(made, wanted, sampling=FOUR):
    """(texts by prompt, reasons of failures by prompt)."""
    failed = []
    groups = list(made.complete(wanted, sampling, failed.append))
    for group in groups:
        assert [c.index for c in group] == list(range(sampling.group_size))
    return {g[0].prompt_id: g for g in groups}, {f.prompt_id: f for f in failed}


def test_whole_groups_as_records_with_the_policys_tokens(serve, tmp_path):
    server = serve()
    groups, failed = run(engine(server), prompts("one", "two", "three"))
    assert set(groups) == {"p0", "p1", "p2"} and not failed
    first = groups["p1"][2]
    assert first.text == "two 2" and first.finish == "stop" and first.logp is None
    assert first.tokens == [*byte_tokenizer()("two 2").input_ids, END]
    assert first.id == content_id("completion", "p1", 2, first.tokens)
    write_table(tmp_path / "t.parquet", Completion, groups["p1"])
    assert read_table(tmp_path / "t.parquet", Completion) == groups["p1"]


def test_what_is_asked(serve, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    server = serve()
    run(engine(server), prompts("one", "two"))
    run(engine(server), prompts("one"), Sampling(group_size=1, temperature=0.5, top_p=0.9, stop=("x",), seed=1))
    (path, key, body, _), (_, _, other, _), (_, _, changed, _) = sorted(
        server.seen, key=lambda s: (len(s[2]), asked(s[2]))
    )
    assert path == "/v1/chat/completions" and key == "Bearer secret"
    assert {k: body[k] for k in ("model", "n", "max_tokens", "temperature", "logprobs")} == {
        "model": "tiny", "n": 4, "max_tokens": 8, "temperature": 1.0, "logprobs": True,
    }  # fmt: skip
    assert "top_p" not in body and "stop" not in body and len({b["seed"] for b in (body, other, changed)}) == 3
    assert changed["top_p"] == 0.9 and changed["stop"] == ["x"] and "logprobs" not in changed
    run(engine(server), prompts("one", "two"))
    assert {b["seed"] for _, _, b, _ in server.seen[3:]} == {body["seed"], other["seed"]}


def test_too_many_requests_waits_as_long_as_it_is_told_to(serve):
    def script(body, number):
        told = {"slow": "0.4", "date": email.utils.formatdate(time.time() + 1.5, usegmt=True)}[asked(body)]
        return (429, {"Retry-After": told}, {"error": "busy"}) if number == 0 else answer(body)

    server = serve(script)
    groups, failed = run(engine(server), prompts("slow", "date"))
    assert len(groups) == 2 and not failed
    for name, least in (("slow", 0.4), ("date", 0.4)):
        first, second = (at for _, _, body, at in server.seen if asked(body) == name)
        assert second - first >= least


def test_pauses_grow_and_errors_that_pass_are_forgotten(serve):
    server = serve(lambda body, number: (500, {}, b"oops") if number < 3 else answer(body))
    groups, failed = run(engine(server, patience=Patience(timeout=10, tries=4, pause=0.1)), prompts())
    assert len(groups) == 1 and not failed
    at = [s[3] for s in server.seen]
    assert at[1] - at[0] >= 0.05 and at[2] - at[1] >= 0.1 and at[3] - at[2] >= 0.2


@pytest.mark.parametrize(
    "reply, reason, words",
    [
        ((429, {}, {}), "overloaded", "status 429, 3 times"),
        ((500, {}, {}), "server_error", "status 500, 3 times"),
        ((200, {}, b'{"choices": ['), "malformed", "not a JSON object"),
        ((200, {}, b"[]"), "malformed", "not a JSON object"),
        ((200, {"Content-Length": "9999"}, b"{}"), "server_error", "the connection broke off"),
        ((400, {}, {"error": {"message": "maximum context length is 4"}}), "too_long", "maximum context length is 4"),
        ((422, {}, {"detail": "no"}), "refused", "status 422"),
        ((200, {}, {"choices": []}), "too_few", "0 of 4"),
        ((200, {}, {"choices": [choice(None, "tool_calls"), choice("x", "content_filter")]}), "too_few", "0 of 4"),
        ((200, {}, {"choices": [choice("", "length")]}), "too_few", "0 of 4"),
    ],
)
def test_a_prompt_given_up_is_recorded_and_the_others_are_completed(serve, reply, reason, words):
    server = serve(lambda body, number: reply if asked(body) == "bad" else answer(body))
    groups, failed = run(engine(server), prompts("good", "bad", "fine"))
    assert set(groups) == {"p0", "p2"} and set(failed) == {"p1"}
    assert failed["p1"].reason == reason and words in failed["p1"].detail and "asks.jsonl:1" in failed["p1"].detail


def test_a_silent_server_is_given_up_after_the_timeout(serve):
    def script(body, number):
        if asked(body) == "bad":
            time.sleep(20)
        return answer(body)

    start = time.monotonic()
    groups, failed = run(
        engine(serve(script), patience=Patience(timeout=0.2, tries=2, pause=0.01)), prompts("good", "bad")
    )
    assert set(groups) == {"p0"} and failed["p1"].reason == "timeout" and time.monotonic() - start < 10


@pytest.mark.parametrize("most", [1, 3])
def test_fewer_choices_than_asked_are_topped_up(serve, most):
    def script(body, number):
        status, headers, made = answer(body)
        return status, headers, {"choices": [choice(f"{number} {i}") for i in range(min(most, body["n"]))]}

    server = serve(script)
    groups, failed = run(engine(server), prompts("one"))
    assert not failed and len({c.text for c in groups["p0"]}) == 4
    assert [b["n"] for _, _, b, _ in server.seen] == list(range(4, 0, -most))
    assert len({b["seed"] for _, _, b, _ in server.seen}) == len(server.seen)


def test_a_group_that_stays_too_small_does_not_pass_for_a_full_one(serve):
    server = serve(lambda body, number: answer(body | {"n": 3}) if number == 0 else (200, {}, {"choices": []}))
    groups, failed = run(engine(server), prompts("one"))
    assert not groups and "3 of 4 completions came" in failed["p0"].detail


def test_more_choices_than_asked_are_cut(serve):
    server = serve(lambda body, number: answer(body | {"n": 9}))
    groups, _ = run(engine(server), prompts("one"))
    assert len(groups["p0"]) == 4 and len(server.seen) == 1


def test_what_a_server_does_not_take_is_left_out(serve):
    def script(body, number):
        for name in ("seed", "logprobs"):
            if name in body:
                return 400, {}, {"error": {"message": f"Unrecognized request argument supplied: {name}"}}
        if body.get("n", 1) > 1:
            return 400, {}, {"error": {"message": "n must be 1"}}
        return answer(body)

    server = serve(script)
    with pytest.warns(UserWarning) as warned:
        groups, failed = run(engine(server), prompts("one"))
    assert [str(w.message).split("'")[1] for w in warned] == ["seed", "logprobs", "n"]
    assert len(groups["p0"]) == 4 and not failed and len(server.seen) == 7


@pytest.mark.parametrize("key, words", [("wrong", "the key in OPENAI_API_KEY is refused"), (None, "it wants a key")])
def test_a_key_that_is_refused_stops_at_once_in_one_line(serve, monkeypatch, key, words):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    if key:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    server = serve(lambda body, number: (401, {}, {"error": {"message": f"bad key {key}"}}))
    with pytest.raises(UserError, match=words) as raised:
        run(engine(server), prompts())
    assert len(server.seen) == 1 and "\n" not in str(raised.value) and "wrong" not in str(raised.value)


def test_the_key_follows_no_redirection(serve, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    other = serve()
    server = serve(lambda body, number: (302, {"Location": f"{other.url}/chat/completions"}, b""))
    with pytest.raises(UserError, match="sends on to .* give the right base URL"):
        run(engine(server), prompts())
    assert not other.seen


def test_a_server_in_trouble_stops_the_job(serve):
    server = serve(lambda body, number: (503, {}, b""))
    with pytest.raises(UserError, match=f"{GIVE_UP} prompts in a row .*the same command goes on"):
        run(engine(server), prompts(*map(str, range(40))))


def test_nobody_there_and_the_wrong_path_are_one_line(serve):
    with pytest.raises(UserError, match="cannot be reached"):
        EndpointEngine("http://127.0.0.1:9/v1", "tiny", byte_tokenizer(), QUICK)
    server = serve(lambda body, number: (404, {}, {"error": "no such page"}))
    with pytest.raises(UserError, match="no such page; does the base URL end"):
        run(engine(server), prompts())


def test_the_served_name(serve):
    assert engine(serve(models=["a", "tiny"])).model == "tiny"
    assert engine(serve(models=["/models/Tiny/", "other"])).model == "/models/Tiny/"
    assert engine(serve(models=["other", ("fast", "/models/tiny")])).model == "fast"  # what vLLM calls the root
    assert EndpointEngine(serve(models=["any"]).url, "", byte_tokenizer(), QUICK).model == "any"
    assert engine(serve(models=[])).model == "tiny"
    assert EndpointEngine(serve(models=["a", "b"]).url, "x/b", byte_tokenizer(), QUICK).model == "b"
    for names in (["a", "b"], ["tiny-chat"]):
        with pytest.raises(
            UserError, match=f"does not serve 'tiny' but {', '.join(names)}; set model .*/v1.model=NAME"
        ):
            engine(serve(models=names))


@pytest.mark.parametrize("named", ["tiny", "org/Tiny", "tiny-2026-01-31", None])
def test_where_models_are_not_listed_the_answers_tell_which_one_is_served(serve, named):
    more = {"model": named} if named else {}
    made = engine(serve(lambda body, number: (*answer(body)[:2], answer(body)[2] | more), models=None))
    assert len(run(made, prompts())[0]["p0"]) == 4


def test_an_answer_of_another_model_is_refused(serve):
    script = lambda body, number: (*answer(body)[:2], answer(body)[2] | {"model": "huge"})  # noqa: E731
    with pytest.raises(UserError, match="does not serve 'tiny' but huge"):
        run(engine(serve(script, models=None)), prompts())
    assert run(engine(serve(script)), prompts())[0]  # a server that lists its models may call its answers otherwise


def test_the_url_may_say_under_which_name_the_model_is_served(serve, tiny_llama):
    server = serve(models=["served/small:1b", "other"])
    recipe = Recipe(model=str(tiny_llama), sample=Sample(engine=f"{server.url}?model=served%2Fsmall:1b"))
    assert choose.engine(recipe.model, recipe).model == "served/small:1b"
    assert choose.engine_kind(f"{server.url}?model=served/small:1b") == "an endpoint's URL"
    wrong = Recipe(model=str(tiny_llama), sample=Sample(engine=f"{server.url}?model=small"))
    with pytest.raises(UserError, match="does not serve 'small' but served/small:1b, other"):
        choose.engine(wrong.model, wrong)


THOUGHT = {"message": {"role": "assistant", "content": None, "reasoning_content": "Hm."}, "finish_reason": "length"}


def test_a_server_that_gives_thoughts_only_stops_the_job_in_one_line(serve):
    server = serve(lambda body, number: (200, {}, {"choices": [THOUGHT] * body["n"]}))
    words = (
        f"{GIVE_UP} prompts in a row without an answer .0 of 4 completions came, then none, "
        "but 12 thoughts cut short, without an answer: raise sample.max_tokens"
    )
    with pytest.raises(UserError, match=words):
        run(engine(server), prompts(*map(str, range(40))))


def test_choices_that_are_no_completions_are_asked_for_again_and_counted(serve):
    calls = choice(None, "tool_calls")

    def script(body, number):
        texts = [choice(f"{number} {i}") for i in range(body["n"])]
        return 200, {}, {"choices": [[THOUGHT, calls, choice(""), choice("", "length")], texts][min(number, 1)]}

    made = engine(serve(script))
    groups, failed = run(made, prompts("one"))
    assert not failed and [c.text for c in groups["p0"]] == ["", "1 0", "1 1", "1 2"]
    assert made.turned_away == {
        "thoughts cut short, without an answer": 1,
        "choices that ended with 'tool_calls'": 1,
        "empty completions, cut short": 1,
    }


@pytest.mark.parametrize(
    ("made", "words"),
    [(choice(" "), "all 4 completions are empty"), (THOUGHT, "not one of 2 prompts could be completed; the first: .*")],
)
def test_completions_of_which_none_has_a_text_stop_the_sampling_which_goes_on_when_they_have(
    serve, tiny_llama, tmp_path, made, words
):
    mended = []

    def script(body, number):
        return (200, {}, {"choices": [made] * body["n"]}) if not mended else answer(body)

    server = serve(script)
    recipe = Recipe(model=str(tiny_llama), sample=Sample(engine=f"{server.url}?model=tiny", group_size=2))
    folder = open_run(tmp_path / "run", recipe)
    write_table(folder.table("prompts"), Prompt, prompts("one", "two"))
    with pytest.raises(UserError, match=f"{words}.*the same command goes on"):
        sample(folder, recipe)
    mended.append(True)
    sample(folder, recipe)
    assert read_json(folder.details("sample")) == {"prompts": 2, "failed": {}}
    assert {line["kinds"]["thoughts cut short, without an answer"] for line in folder.logged()} == (
        {12} if made is THOUGHT else set()
    )


def test_ends_and_lengths(serve):
    made = [
        choice("abc", "length"),
        choice(""),
        choice("abc", stop_reason="never"),
        choice("\ud800"),
    ]
    groups, _ = run(engine(serve(lambda body, number: (200, {}, {"choices": made}))), prompts())
    cut, at_once, by_string, broken = groups["p0"]
    assert (cut.finish, len(cut.tokens)) == ("length", 3) and END not in cut.tokens
    assert (at_once.text, at_once.tokens, at_once.finish) == ("", [END], "stop")
    assert (by_string.finish, len(by_string.tokens)) == ("stop", 3)
    assert broken.text == "?"


def test_an_end_is_the_token_with_which_the_chat_template_ends_a_turn(serve):
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"eos_token": "<|endoftext|>"})
    (found,) = run(engine(serve(), tokenizer), prompts(), Sampling(group_size=1))[0]["p0"]
    assert found.tokens[-1] == END != tokenizer.eos_token_id
    tokenizer.chat_template = None
    (found,) = run(engine(serve(), tokenizer), prompts(), Sampling(group_size=1))[0]["p0"]
    assert found.tokens[-1] == tokenizer.eos_token_id


def test_a_warning_is_one_line(serve, tiny_llama, tmp_path):
    def script(body, number):
        return (400, {}, {"error": {"message": "unknown\nfield: seed"}}) if "seed" in body else answer(body)

    rows = [json.dumps({"prompt": f"{text} for tea?"}) for text in ("Which cake is good", "Where can I sit outside")]
    (tmp_path / "log.jsonl").write_text("\n".join(rows))
    path = tmp_path / "recipe.toml"
    engine = f"{serve(script).url}?model=tiny"
    path.write_text(
        f'model = "{tiny_llama}"\nprompts.sources = ["log.jsonl"]\nprompts.heldout = 0.5\n'
        f'sample.group_size = 2\nsample.engine = "{engine}"\nscore.scorer = "majority"\n'
    )
    for stage in ("prompts", "sample"):
        command = [sys.executable, "-m", "bakeoff", stage, path, "--out", tmp_path / "run"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    (told,) = [line for line in done.stderr.splitlines() if "warn" in line]
    assert re.fullmatch(r"warning: http.* does not take 'seed' \(.*unknown field: seed.*\); going on without", told), (
        told
    )


def test_logps_are_told_only_where_they_are_known(serve):
    def script(body, number):
        told = {"content": [{"token": t, "logprob": -0.5} for t in ("a", "b", "<|end|>")]}
        return 200, {}, {"choices": [choice("ab", logprobs=told), choice("abc", logprobs=told), choice("ab")]}

    three = Sampling(group_size=3)
    groups, _ = run(engine(serve(script)), prompts(), three)
    assert [c.logp for c in groups["p0"]] == [-1.5, None, None]
    greedy = Sampling(group_size=3, temperature=0)
    assert [c.logp for c in run(engine(serve(script)), prompts(), greedy)[0]["p0"]] == [0.0] * 3


def test_one_completion_each_and_no_prompts_at_all(serve):
    server = serve()
    groups, _ = run(engine(server), prompts("one"), Sampling(group_size=1))
    assert len(groups["p0"]) == 1
    assert run(engine(server), []) == ({}, {})


def test_an_empty_prompt_is_recorded_without_asking(serve):
    server = serve()
    groups, failed = run(engine(server), prompts("one", " \n"))
    assert set(groups) == {"p0"} and failed["p1"].reason == "empty" and len(server.seen) == 1


def test_without_a_chat_template_turns_go_as_text(serve):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = None

    def script(body, number):
        return 200, {}, {"choices": [{"text": "ok", "finish_reason": "stop"}] * body["n"]}

    server = serve(script)
    groups, _ = run(engine(server, tokenizer), prompts("hello"))
    assert [c.text for c in groups["p0"]] == ["ok"] * 4
    assert server.seen[0][0] == "/v1/completions" and server.seen[0][2]["prompt"] == "hello\n\n"


def test_leaving_early_asks_no_further(serve):
    server = serve()
    groups = engine(server, patience=Patience(threads=1)).complete(prompts(*map(str, range(50))), FOUR)
    next(groups)
    groups.close()
    time.sleep(0.1)
    assert len(server.seen) < 50


def test_the_stage_goes_on_where_a_refused_key_stopped_it_and_stores_no_key(serve, tiny_llama, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret")
    spent, wanted = threading.Event(), [*map(str, range(70)), ""]

    def script(body, number):
        refused = asked(body) == "69" and not spent.is_set()
        return (401, {}, {}) if refused else answer(body)

    server = serve(script)
    recipe = Recipe(model=str(tiny_llama), sample=Sample(engine=f"{server.url}?model=tiny", group_size=2))
    folder = open_run(tmp_path / "run", recipe)
    write_table(folder.table("prompts"), Prompt, prompts(*wanted))
    with pytest.raises(UserError, match="is refused"):
        sample(folder, recipe)
    spent.set()
    before = len(server.seen)
    sample(folder, recipe)
    assert len(server.seen) - before < 64  # the first part is not asked for again
    rows = read_table(folder.table("completions"), Completion)
    assert Counter(Counter(r.prompt_id for r in rows).values()) == {2: 70}
    assert read_json(folder.details("sample")) == {"prompts": 71, "failed": {"empty": 1}}
    assert not any(b"very-secret" in path.read_bytes() for path in folder.folder.rglob("*") if path.is_file())


def test_the_setting_chooses(serve, tiny_llama, tmp_path):
    server = serve()
    recipe = Recipe(model=str(tiny_llama), sample=Sample(engine=f"{server.url}?model=tiny"))
    assert isinstance(choose.engine(recipe.model, recipe), EndpointEngine)
    assert isinstance(choose.engine(str(tiny_llama) + "/", recipe), LocalEngine)  # any other model than the reference
    assert isinstance(choose.engine(recipe.model, Recipe(model=str(tiny_llama))), LocalEngine)
    for wrong in ("https://", "http://me:pass@host/v1", "https://host/v1?key=1", "http://host:port/v1"):
        with pytest.raises(
            UserError, match="^sample.engine: expected a base URL .* a key belongs into OPENAI_API_KEY$"
        ):
            choose.engine_kind(wrong)
