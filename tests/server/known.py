"""Hooks of schemathesis: most requests name an image, a job and a video session that the server has.

Made-up ids are all answered 404, and nothing behind them would be reached. The image is docs/coffee.png, below the
server's --root.
"""

import json
import os
import random
import urllib.error
import urllib.request

import schemathesis

SERVER = os.environ["SAMARA_SERVER"]
WIDTH, HEIGHT = 600, 400
RANDOM = random.Random(0)


def ask(path, body=None, kind="application/json"):
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    request = urllib.request.Request(SERVER + path, body, {"content-type": kind})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


IMAGE = ask("/v1/images", {"path": "coffee.png"})["id"]
KNOWN = {}


def job():
    options = {"points_per_side": 2}
    return ask("/v1/everything", {"image": {"id": IMAGE}, "options": options})["id"]


def video():
    session = ask("/v1/videos", {"frames": True})["id"]
    with open(os.environ["SAMARA_FRAME"], "rb") as frame:
        pixels = frame.read()
    for _ in range(2):
        ask(f"/v1/videos/{session}/frames", pixels, "image/png")
    return session


def known(kind, make):
    """The id of something that is still there, or of a new one."""
    try:
        ask(f"/v1/{kind}/{KNOWN[kind]}")
    except (KeyError, urllib.error.HTTPError):
        KNOWN[kind] = make()
    return KNOWN[kind]


def inside(value, side):
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return abs(value) % side if is_number else value


def settle(prompt):
    """Moves the points and the box of a prompt into the image."""
    if not isinstance(prompt, dict):
        return
    for point in prompt.get("points") or []:
        if isinstance(point, list) and len(point) >= 2:
            point[0], point[1] = inside(point[0], WIDTH), inside(point[1], HEIGHT)
            if len(point) == 3 and RANDOM.random() < 0.8:
                point[2] = RANDOM.randint(0, 1)
    box = prompt.get("box")
    if isinstance(box, list) and len(box) == 4:
        prompt["box"] = [inside(v, (WIDTH, HEIGHT)[i % 2]) for i, v in enumerate(box)]
    if RANDOM.random() < 0.8:
        prompt.pop("mask", None)


@schemathesis.hook
def before_call(context, case, kwargs):
    # Out of time is an answer that was asked for.
    if isinstance(case.body, dict):
        case.body.pop("deadline_ms", None)
    if RANDOM.random() < 0.2:
        return
    try:
        ids = case.path_parameters or {}
        if "image" in ids or "/v1/images/" in case.operation.path:
            ids["image" if "image" in ids else "id"] = IMAGE
        elif "/v1/jobs/" in case.operation.path:
            ids["id"] = known("jobs", job)
        elif "/v1/videos/" in case.operation.path:
            ids["id"] = known("videos", video)
    except urllib.error.HTTPError as error:
        # There are as many as may be.
        error.close()
    body = case.body
    if not isinstance(body, dict):
        return
    if "image" in body:
        body["image"] = {"id": IMAGE}
    if isinstance(body.get("images"), list):
        body["images"] = [{"id": IMAGE} for _ in body["images"]]
    if RANDOM.random() < 0.8:
        body.pop("model", None)
    if RANDOM.random() < 0.8:
        body.pop("select", None)
        body.pop("intent", None)
    prompts = body.get("prompts")
    for prompt in prompts if isinstance(prompts, list) else [body.get("prompt")]:
        settle(prompt)
    if "frame" in body and RANDOM.random() < 0.8:
        body["frame"], body["object"] = RANDOM.randint(0, 1), RANDOM.randint(0, 3)


@schemathesis.hook
def after_call(context, case, response):
    """Says in the end how many requests got behind the checks."""
    key = f"{case.operation.label} {response.status_code}"
    KNOWN.setdefault("statuses", {}).setdefault(key, 0)
    KNOWN["statuses"][key] += 1
    log = os.environ.get("SAMARA_STATUSES")
    if log:
        with open(log, "w") as file:
            json.dump(KNOWN["statuses"], file, indent=1, sort_keys=True)
