"""The `pusher` server library, unchanged, with the hub.

Arguments: port, app id, key, secret, socket id to leave out."""
import sys

import pusher

port, app_id, key, secret, socket_id = sys.argv[1:]


def client(secret):
    return pusher.Pusher(app_id=app_id, key=key, secret=secret, host="127.0.0.1", port=int(port), ssl=False)


def refused(status, call):
    try:
        call()
    except pusher.errors.PusherError as error:
        print("REFUSED", status, type(error).__name__, flush=True)
    else:
        raise SystemExit(f"{status} was expected")


good = client(secret)
refused(401, lambda: client("wrong").trigger("news", "headline", {"n": 0}))
good.trigger("news", "headline", {"n": 1, "text": "grüße"}, socket_id)
good.trigger(["news", "sport"], "headline", {"n": 2, "text": "grüße"})
print("DONE", flush=True)
