#!/usr/bin/env python3
"""A function for tests: does what the path of the request says, over the real Lambda runtime API."""

import http.client
import json
import os
import sys
import time

mode = os.environ.get("TEST_INIT", "")
if mode == "exit":
    sys.exit(3)
if mode == "hang":
    time.sleep(3600)

api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
count = 0


def call(method, path, body=None):
    api.request(method, "/2018-06-01/runtime/" + path, body)
    answer = api.getresponse()
    return answer.headers, answer.read()


if mode == "error":
    call("POST", "init/error", '{"errorMessage": "no configuration"}')
    sys.exit(1)

while True:
    headers, event = call("GET", "invocation/next")
    request = headers["Lambda-Runtime-Aws-Request-Id"]
    event = json.loads(event)
    count += 1
    path = event.get("path", "/event")
    if "detail-type" in event:
        print(json.dumps(event), flush=True)
        path = os.environ.get("TEST_EVENT_PATH", path)
    if path == "/function-error":
        call("POST", f"invocation/{request}/error", '{"errorMessage": "on purpose", "errorType": "Test"}')
        continue
    if path == "/exit":
        sys.exit(1)
    if path == "/hang":
        time.sleep(3600)
    while path == "/gate" and not os.path.exists(os.environ["TEST_GATE"]):
        time.sleep(0.005)
    if path == "/malformed":
        call("POST", f"invocation/{request}/response", '{"statusCode": 200, "headers": null}')
        continue
    if "body" in event:
        event["body"] = event["body"][:100]
    size = 1100000 if path == "/large" else 0
    seen = {"pid": os.getpid(), "count": count, "event": event, "deadline": headers["Lambda-Runtime-Deadline-Ms"],
            "env": {key: value for key, value in os.environ.items() if key.startswith(("AWS", "AUTO", "_H", "LAMBDA"))}}
    body = "x" * size or json.dumps(seen)
    answer = {"statusCode": 503 if path == "/event" else 200, "isBase64Encoded": False,
              "multiValueHeaders": {"Content-Type": ["application/json"], "X-Waker": ["yes"]}, "body": body}
    call("POST", f"invocation/{request}/response", json.dumps(answer))
