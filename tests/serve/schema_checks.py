"""What schemathesis checks beside its own rules; test_schema.py makes it load this file.

A request that fits the document may be refused for a few reasons only, and every event of a stream fits its schema.
"""

import json
import re

import jsonschema_rs
import schemathesis

# What no schema of one parameter can say: which parameter it is about, and a part of the sentence.
REFUSALS = [
    ("messages", "the model's context holds"),
    ("prompt", "the model's context holds"),
    ("prompt", "the prompt is empty"),
    ("logit_bias", "but the vocabulary has tokens 0 to"),
    ("top_logprobs", "needs 'logprobs'"),
    ("stream_options", "needs 'stream'"),
    ("best_of", "must be at least 'n'"),
    ("best_of", "cannot be streamed"),
    ("max_tokens", "unless 'echo' is true"),
    ("min_tokens", "must be at most"),
    ("n", "at most 256 are allowed"),
]


@schemathesis.check
def refusals_have_a_reason(ctx, response, case):
    if not case.meta.generation.mode.is_positive or response.status_code != 400:
        return
    error = response.json()["error"]
    assert any(error["param"] == param and part in error["message"] for param, part in REFUSALS), error


@schemathesis.check
def events_conform(ctx, response, case):
    if not response.headers.get("content-type", [""])[0].startswith("text/event-stream"):
        return
    document = case.operation.schema.raw_schema
    answer = document["paths"][case.operation.path]["post"]["responses"]["200"]["content"]["text/event-stream"]
    schema = jsonschema_rs.validator_for({**answer["x-event"], "components": document["components"]})
    *events, done, rest = response.text.split("\n\n")
    assert done == "data: [DONE]" and rest == "" and events
    for event in events:
        assert re.match("data: {", event)
        schema.validate(json.loads(event.removeprefix("data: ")))
