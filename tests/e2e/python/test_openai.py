"""The official OpenAI client against the server, with a model behind it."""

import re
import threading
from pathlib import Path

import openai
import pytest

from model import Model
from support import Cutter, until

WORDS = [f'word {index}, é "quoted"\n' for index in range(40)]
TEXT = "".join(WORDS)
ASK = {"model": "gpt", "input": "hello"}
LIVE = ASK | {"stream": True, "background": True}
CHAT = {"model": "gpt", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def model(tmp_path):
    model = Model(tmp_path)
    yield model
    model.close()


@pytest.fixture
def client(model):
    return client_of(model.server)


def client_of(server, api_key="unused"):
    return openai.OpenAI(base_url=f"{server.url}/openai/v1", api_key=api_key)


class Later(threading.Thread):
    """A call that is not over yet."""

    def __init__(self, call, *args, **kwargs):
        super().__init__(daemon=True)
        self.work = lambda: call(*args, **kwargs)
        self.found = self.error = None
        self.start()

    def run(self):
        try:
            self.found = self.work()
        except Exception as error:
            self.error = error

    def get(self):
        self.join(60)
        assert not self.is_alive(), "it does not end"
        if self.error:
            raise self.error
        return self.found


def said(events):
    deltas = [e.delta for e in events if e.type == "response.output_text.delta"]
    return "".join(deltas)


def numbers(events):
    return [event.sequence_number for event in events]


def chat_text(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


def test_a_response_is_the_models_text_at_once_and_as_a_stream(model, client):
    whole = Later(client.responses.create, **ASK, temperature=0.5)
    first = model.answer()
    first.say(*WORDS)
    first.finish()
    response = whole.get()
    assert (response.status, response.output_text) == ("completed", TEXT)
    assert (response.usage.total_tokens, first.asked["temperature"]) == (7, 0.5)

    def follow():
        with client.responses.stream(**ASK) as stream:
            return list(stream), stream.get_final_response()

    later = Later(follow)
    second = model.answer(2)
    second.say(*WORDS)
    second.finish()
    events, final = later.get()
    assert numbers(events) == list(range(len(events)))
    assert said(events) == final.output_text == TEXT
    assert len(model.answers) == 2


@pytest.mark.parametrize("leave_after", [1, 3, 5])
def test_leaving_and_coming_back_after_the_last_event(model, client, leave_after):
    stream = client.responses.create(**LIVE)
    answer = model.answer()
    answer.say(*WORDS)
    events = []
    for event in stream:
        events.append(event)
        if len(events) == leave_after:
            break
    stream.close()
    answer.finish()
    response_id, after = events[0].response.id, events[-1].sequence_number
    rest = client.responses.retrieve(response_id, stream=True, starting_after=after)
    events += list(rest)
    assert numbers(events) == list(range(len(events)))
    assert said(events) == TEXT
    assert events[-1].type == "response.completed"
    # A stream by its id accumulates all, and gives what comes after.
    with client.responses.stream(response_id=response_id, starting_after=after) as again:
        assert numbers(again) == numbers(events)[after + 1 :]
        assert again.get_final_response().output_text == TEXT
    replay = list(client.responses.retrieve(response_id, stream=True))
    assert replay == events
    last = client.responses.retrieve(response_id, stream=True, starting_after=numbers(events)[-1])
    assert list(last) == []
    assert len(model.answers) == 1


@pytest.mark.parametrize("count", [1, 17, 40])
def test_an_upstream_that_breaks_off_leaves_what_it_said(model, client, count):
    kept = "".join(WORDS[:count])
    events, chunks = [], []
    reading = Later(read, client.responses.create(**LIVE), events)
    answer = model.answer()
    answer.say(*WORDS[:count])
    # What was not read when it is reset is lost on the way.
    until("it is shown", lambda: said(events) == kept)
    answer.reset()
    reading.get()
    assert said(events) == kept
    assert events[-1].response.status == "incomplete"
    assert client.responses.retrieve(events[0].response.id).output_text == kept

    reading = Later(read, client.chat.completions.create(**CHAT, stream=True), chunks)
    answer = model.answer(2)
    answer.say(*WORDS[:count])
    until("it is shown", lambda: chat_text(chunks) == kept)
    answer.reset()
    with pytest.raises(openai.APIError, match="cut off"):
        reading.get()
    assert chat_text(chunks) == kept
    assert len(model.answers) == 2


def read(stream, seen):
    for item in stream:
        seen.append(item)


def test_a_cancellation_ends_it_and_closes_the_upstream(model, client):
    stream = client.responses.create(**LIVE)
    answer = model.answer()
    answer.say("before ")
    events = [next(stream) for _ in range(5)]
    response_id = events[0].response.id
    until("it is said", lambda: client.responses.retrieve(response_id).output_text == "before ")
    cancelled = client.responses.cancel(response_id)
    assert (cancelled.status, cancelled.output_text) == ("cancelled", "before ")
    events += list(stream)
    assert events[-1].type == "response.incomplete"
    assert numbers(events) == list(range(len(events)))

    def is_left():
        answer.say("unheard ")
        return answer.is_left.is_set()

    until("the upstream is closed", is_left)


def test_an_upstreams_error_is_a_failed_response_and_of_a_chat_an_error(model, client):
    response = Later(client.responses.create, **ASK)
    model.answer().refuse(401, "bad key")
    failed = response.get()
    assert (failed.status, failed.error.code) == ("failed", "server_error")
    assert "bad key" in failed.error.message
    chat = Later(client.chat.completions.create, **CHAT)
    model.answer(2).refuse(429, "too much")
    with pytest.raises(openai.RateLimitError, match="too much"):
        chat.get()
    assert len(model.answers) == 2, "a failure is not asked again by itself"


def test_two_turns_are_one_conversation(model, client):
    first = Later(client.responses.create, **ASK)
    answer = model.answer()
    answer.say("hi")
    answer.finish()
    turn = {"model": "gpt", "input": "again", "previous_response_id": first.get().id}
    second = Later(client.responses.create, **turn)
    answer = model.answer(2)
    messages = [(m["role"], m["content"]) for m in answer.asked["messages"]]
    assert messages == [("user", "hello"), ("assistant", "hi"), ("user", "again")]
    answer.say("there")
    answer.finish()
    response = second.get()
    assert response.output_text == "there"
    items = client.responses.input_items.list(response.id).data
    assert [item.content[0].text for item in items] == ["again"]


def test_a_clients_function_is_called(model, client):
    function = {"name": "look", "parameters": {"type": "object", "properties": {}}}
    tools = [{"type": "function", "function": function}]
    chat = Later(client.chat.completions.create, **CHAT, tools=tools)
    answer = model.answer()
    assert answer.asked["tools"] == tools
    answer.call("call_1", "look", {"q": 1})
    answer.finish("tool_calls")
    message = chat.get().choices[0].message
    assert message.tool_calls[0].function.arguments == '{"q": 1}'
    result = {"role": "tool", "tool_call_id": "call_1", "content": "42"}
    messages = [*CHAT["messages"], message.model_dump(exclude_none=True), result]
    chat = Later(client.chat.completions.create, model="gpt", messages=messages, tools=tools)
    answer = model.answer(2)
    assert [m["role"] for m in answer.asked["messages"]] == ["user", "assistant", "tool"]
    answer.say("done")
    answer.finish()
    assert chat.get().choices[0].message.content == "done"


def test_a_server_that_dies_keeps_what_was_said_under_the_same_numbers(model, client):
    stream = client.responses.create(**LIVE)
    answer = model.answer()
    answer.say(*WORDS[:25])
    events = []
    reading = Later(read, stream, events)
    until("it is shown", lambda: WORDS[24] in said(events))
    model.server.kill()
    with pytest.raises(Exception):
        reading.get()
    model.server.again()
    response_id, after = events[0].response.id, events[-1].sequence_number
    replay = list(client.responses.retrieve(response_id, stream=True))
    assert replay[: len(events)] == events
    rest = client.responses.retrieve(response_id, stream=True, starting_after=after)
    assert events + list(rest) == replay
    assert said(replay) == "".join(WORDS[:25])
    assert client.responses.retrieve(response_id).status == "incomplete"
    assert len(model.answers) == 1


def test_a_chat_is_the_models_text_at_once_and_as_a_stream(model, client):
    whole = Later(client.chat.completions.create, **CHAT)
    first = model.answer()
    first.say(*WORDS)
    first.finish("length")
    choice = whole.get().choices[0]
    assert (choice.message.content, choice.finish_reason) == (TEXT, "length")
    options = {"include_usage": True}
    stream = client.chat.completions.create(**CHAT, stream=True, stream_options=options)
    second = model.answer(2)
    second.say(*WORDS)
    second.finish()
    chunks = list(stream)
    assert chat_text(chunks) == TEXT
    assert (chunks[-1].choices, chunks[-1].usage.total_tokens) == ([], 7)
    assert chunks[-2].choices[0].finish_reason == "stop"


def test_models_are_the_agents_and_refusals_are_the_clients_own(model, client):
    assert [m.id for m in client.models.list()] == ["demo", "gpt", "push"]
    with pytest.raises(openai.NotFoundError, match="gpt-x"):
        client.responses.create(model="gpt-x", input="hello")
    with pytest.raises(openai.NotFoundError, match="resp_nobody"):
        client.responses.retrieve("resp_nobody")
    with pytest.raises(openai.BadRequestError, match="`n`"):
        client.chat.completions.create(**CHAT, n=2)
    with pytest.raises(openai.BadRequestError, match="computer_call"):
        client.responses.create(model="gpt", input=[{"type": "computer_call"}])


def test_a_response_is_deleted_with_the_admins_token(model, client):
    response = Later(client.responses.create, **ASK)
    model.answer().finish()
    response_id = response.get().id
    with pytest.raises(openai.PermissionDeniedError):
        client.responses.delete(response_id)
    client_of(model.server, model.server.token()).responses.delete(response_id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response_id)


def test_the_guides_script_shows_the_text_over_cuts(model):
    guide = (Path(__file__).parents[3] / "docs/clients.md").read_text()
    script = re.search("```python openai\n(.*?)```", guide, re.DOTALL)[1]
    limits = [3000, 1000, 1700]
    cutter = Cutter(model.server, lambda: limits.pop(0) if limits else None)
    shown = []
    running = Later(exec, script, {"base": cutter.url, "show": shown.append})
    answer = model.answer()
    answer.say(*WORDS)
    answer.finish()
    running.get()
    assert "".join(shown) == TEXT
    assert (limits, len(model.answers)) == ([], 1)
    cutter.close()
