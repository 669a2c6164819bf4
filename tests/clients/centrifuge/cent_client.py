"""The Python package `cent` against the server API, and what it hides by hand:
python cent_client.py http://127.0.0.1:8000
"""

import asyncio
import base64
import json

import aiohttp
import cent
from centrifuge import Client, ClientEventHandler

from common import API_KEY, HTTP, channel, token, unix_time, until
from report import run

WS = HTTP.replace("http", "ws", 1) + "/connection/websocket"


def api(key: str = API_KEY) -> cent.AsyncClient:
    return cent.AsyncClient(f"{HTTP}/api", key)


async def post(path: str, body, **headers) -> tuple[int, str]:
    """Status and body of a POST; dashes in header names are underscores here."""
    text = body if isinstance(body, (str, bytes)) else json.dumps(body)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as session:
        async with session.post(HTTP + path, data=text, headers=named) as answer:
            return answer.status, await answer.text()


async def call(method: str, body) -> dict:
    status, text = await post(f"/api/{method}", body, X_API_Key=API_KEY)
    assert status == 200, (status, text)
    return json.loads(text)


async def code_of(request) -> int:
    try:
        await request
    except cent.CentApiResponseError as error:
        return error.code
    raise AssertionError("no error")


class Events(ClientEventHandler):
    """Keeps what the server does to a client."""

    def __init__(self):
        self.queue = asyncio.Queue()

    async def on_subscribed(self, ctx):
        await self.queue.put(("subscribed", ctx.channel, ctx.data))

    async def on_unsubscribed(self, ctx):
        await self.queue.put(("unsubscribed", ctx.channel))

    async def on_publication(self, ctx):
        await self.queue.put(("publication", ctx.channel, ctx.pub.data))

    async def on_disconnected(self, ctx):
        await self.queue.put(("disconnected", ctx.code, ctx.reason))

    async def on_connecting(self, ctx):
        await self.queue.put(("connecting", ctx.code))


async def connected(**claims) -> Client:
    client = Client(WS, Events(), token=token(**claims), proxy=None)
    await client.connect()
    await client.ready()
    assert (await client.events.queue.get())[0] == "connecting"
    return client


async def publish_and_history():
    async with api() as client:
        name = channel("recovery")
        first = await client.publish(cent.PublishRequest(channel=name, data={"n": 1}, tags={"k": "v"}))
        second = await client.publish(cent.PublishRequest(channel=name, data="two"))
        assert (first.offset, second.offset) == (1, 2) and first.epoch == second.epoch
        position = await client.history(cent.HistoryRequest(channel=name))
        assert (position.offset, position.epoch, position.publications) == (2, first.epoch, [])
        everything = await client.history(cent.HistoryRequest(channel=name, limit=-1))
        one, two = everything.publications
        assert (one.data, one.offset, one.tags) == ({"n": 1}, 1, {"k": "v"}), one
        assert (two.data, two.offset, two.tags, two.info) == ("two", 2, None, None), two
        newest = await client.history(cent.HistoryRequest(channel=name, limit=1, reverse=True))
        assert [pub.offset for pub in newest.publications] == [2]
        since = cent.StreamPosition(offset=1, epoch=first.epoch)
        later = await client.history(cent.HistoryRequest(channel=name, limit=10, since=since))
        assert [pub.offset for pub in later.publications] == [2]
        wrong = cent.StreamPosition(offset=1, epoch="nope")
        assert await code_of(client.history(cent.HistoryRequest(channel=name, limit=1, since=wrong))) == 112


async def publish_without_history_and_with_base64():
    async with api() as client:
        name = channel("recovery")
        skipped = await client.publish(cent.PublishRequest(channel=name, data=1, skip_history=True))
        assert (skipped.offset, skipped.epoch) == (0, ""), skipped
        bare = await client.publish(cent.PublishRequest(channel=channel("bare"), data=1))
        assert (bare.offset, bare.epoch) == (0, ""), bare
        b64data = base64.b64encode(b'{"from":"base64"}').decode()
        await client.publish(cent.PublishRequest(channel=name, data=None, b64data=b64data))
        kept = await client.history(cent.HistoryRequest(channel=name, limit=-1))
        assert [pub.data for pub in kept.publications] == [{"from": "base64"}]


async def an_idempotency_key_publishes_once():
    async with api() as client:
        name = channel("recovery")
        request = cent.PublishRequest(channel=name, data=1, idempotency_key="key")
        first, again = await client.publish(request), await client.publish(request)
        assert (first.offset, first.epoch) == (again.offset, again.epoch)
        other = await client.publish(cent.PublishRequest(channel=name, data=1, idempotency_key="other"))
        assert other.offset == 2
        elsewhere = await client.publish(
            cent.PublishRequest(channel=channel("recovery"), data=1, idempotency_key="key")
        )
        assert elsewhere.epoch != first.epoch and elsewhere.offset == 1


async def a_version_not_newer_is_dropped():
    name = channel("recovery")

    async def offset(version: int, epoch: str = "") -> int:
        request = {"channel": name, "data": version, "version": version, "version_epoch": epoch}
        return (await call("publish", request))["result"]["offset"]

    assert await offset(5) == 1
    for old in (4, 5):
        assert await offset(old) == 1
    assert await offset(6) == 2
    assert await offset(1, "another") == 3
    kept = (await call("history", {"channel": name, "limit": -1}))["result"]
    assert [pub["data"] for pub in kept["publications"]] == [5, 6, 1], kept


async def broadcast_answers_for_each_channel():
    async with api() as client:
        names = [channel("recovery"), "nope:x", channel("bare")]
        request = cent.BroadcastRequest(channels=names, data={"to": "all"})
        kept, unknown, bare = (await client.broadcast(request)).responses
        assert kept.result.offset == 1 and kept.error is None
        assert unknown.error.code == 102
        assert bare.result.offset == 0
        history = await client.history(cent.HistoryRequest(channel=names[0], limit=1))
        assert history.publications[0].data == {"to": "all"}


async def history_remove_keeps_the_top():
    async with api() as client:
        name = channel("recovery")
        first = await client.publish(cent.PublishRequest(channel=name, data=1))
        await client.history_remove(cent.HistoryRemoveRequest(channel=name))
        rest = await client.history(cent.HistoryRequest(channel=name, limit=-1))
        assert rest.publications == []
        second = await client.publish(cent.PublishRequest(channel=name, data=2))
        # Either it goes on where it was, or it is another stream.
        assert (second.offset == 2) == (second.epoch == first.epoch), (first, second)


async def presence_and_channels():
    async with api() as client:
        name = channel()
        one = await connected(sub="42", info={"name": "Ada"})
        two = await connected(sub="")
        for each in (one, two):
            await each.new_subscription(name).subscribe()
            await each.get_subscription(name).ready()
        infos = (await client.presence(cent.PresenceRequest(channel=name))).presence
        by_user = {info.user: info for info in infos.values()}
        assert set(by_user) == {"", "42"}
        assert by_user["42"].conn_info == {"name": "Ada"}
        assert all(id == info.client for id, info in infos.items())
        stats = await client.presence_stats(cent.PresenceStatsRequest(channel=name))
        assert (stats.num_clients, stats.num_users) == (2, 2)
        channels = (await client.channels(cent.ChannelsRequest())).channels
        assert channels[name].num_clients == 2
        matching = (await client.channels(cent.ChannelsRequest(pattern=f"{name[:20]}*"))).channels
        assert list(matching) == [name]
        assert (await client.channels(cent.ChannelsRequest(pattern="nope*"))).channels == {}
        await one.disconnect()
        await two.disconnect()
        empty = cent.PresenceStatsRequest(channel=name)

        async def is_empty():
            return (await client.presence_stats(empty)).num_clients == 0

        await until(is_empty)
        assert (await client.presence(cent.PresenceRequest(channel=name))).presence == {}


async def info_counts():
    async with api() as client:
        one = await connected(sub="info-user")

        async def counted():
            # The counts may be some seconds old.
            (node,) = (await client.info(cent.InfoRequest())).nodes
            assert node.uid and node.name
            return node.num_clients >= 1 and node.num_users >= 1

        await until(counted)
        await one.disconnect()


async def subscribe_and_unsubscribe():
    async with api() as client:
        user, name = channel(), channel("recovery")
        one, two = await connected(sub=user), await connected(sub=user)
        await client.subscribe(cent.SubscribeRequest(user=user, channel=name, data={"a": 1}, info={"role": "x"}))
        for each in (one, two):
            assert await each.events.queue.get() == ("subscribed", name, {"a": 1})
        infos = (await client.presence(cent.PresenceRequest(channel=name))).presence.values()
        assert [info.chan_info for info in infos] == [{"role": "x"}] * 2
        await client.publish(cent.PublishRequest(channel=name, data=1))
        for each in (one, two):
            assert await each.events.queue.get() == ("publication", name, 1)
        ids = (await client.presence(cent.PresenceRequest(channel=name))).presence
        chosen = next(iter(ids))
        await client.unsubscribe(cent.UnsubscribeRequest(user=user, channel=name, client=chosen))
        stats = cent.PresenceStatsRequest(channel=name)

        async def is_alone():
            return (await client.presence_stats(stats)).num_clients == 1

        await until(is_alone)
        await client.unsubscribe(cent.UnsubscribeRequest(user=user, channel=name))
        for each in (one, two):
            assert await each.events.queue.get() == ("unsubscribed", name)
            await each.disconnect()


async def subscribe_recovers_and_overrides():
    async with api() as client:
        user, name = channel(), channel("recovery")
        first = await client.publish(cent.PublishRequest(channel=name, data=1))
        await client.publish(cent.PublishRequest(channel=name, data=2))
        one = await connected(sub=user)
        since = cent.StreamPosition(offset=1, epoch=first.epoch)
        override = cent.ChannelOptionsOverride(presence=cent.BoolValue(value=False))
        await client.subscribe(
            cent.SubscribeRequest(user=user, channel=name, recover_since=since, override=override)
        )
        assert (await one.events.queue.get())[0] == "subscribed"
        await client.publish(cent.PublishRequest(channel=name, data=3))
        # Centrifugo 6.9 takes the position over, but does not push what was missed.
        if (event := await one.events.queue.get()) == ("publication", name, 2):
            event = await one.events.queue.get()
        assert event == ("publication", name, 3), event
        stats = await client.presence_stats(cent.PresenceStatsRequest(channel=name))
        assert stats.num_clients == 0, "presence was overridden"
        await one.disconnect()


async def disconnect_with_codes_and_a_whitelist():
    async with api() as client:
        user = channel()
        one = await connected(sub=user)
        await client.disconnect(cent.DisconnectRequest(user=user))
        assert await one.events.queue.get() == ("disconnected", 3503, "force disconnect")
        two = await connected(sub=user)
        custom = cent.Disconnect(code=4501, reason="stay away")
        await client.disconnect(cent.DisconnectRequest(user=user, client="nope", disconnect=custom))
        await client.disconnect(cent.DisconnectRequest(user=user, disconnect=custom))
        assert await two.events.queue.get() == ("disconnected", 4501, "stay away")


async def refresh_by_the_server():
    async with api() as client:
        user = channel()
        one = await connected(sub=user)
        await client.refresh(cent.RefreshRequest(user=user, expire_at=unix_time(600)))
        await client.refresh(cent.RefreshRequest(user=user, expired=True))
        assert await one.events.queue.get() == ("connecting", 3005)
        await one.disconnect()


async def a_batch_answers_for_each_command():
    async with api() as client:
        name = channel("recovery")
        publish = cent.PublishRequest(channel=name, data=1)
        for parallel in (False, True):
            requests = [publish, cent.HistoryRequest(channel=name, limit=1), cent.PresenceStatsRequest(channel=name)]
            batch = await client.batch(cent.BatchRequest(requests=requests, parallel=parallel))
            published, history, stats = batch.replies
            assert published.offset == (2 if parallel else 1)
            assert history.epoch == published.epoch
            assert stats.num_clients == 0
    commands = [{"publish": {"channel": "nope:x", "data": 1}}, {"publish": {"channel": name, "data": 1}}]
    replies = (await call("batch", {"commands": commands}))["replies"]
    assert replies[0]["error"]["code"] == 102, replies
    assert replies[1]["publish"]["offset"] == 3, replies


async def errors_have_codes():
    async with api() as client:
        unknown, bare = "nope:x", channel("bare")
        for of, code in ((unknown, 102), (bare, 108)):
            assert await code_of(client.history(cent.HistoryRequest(channel=of))) == code, of
            assert await code_of(client.presence(cent.PresenceRequest(channel=of))) == code, of
            assert await code_of(client.presence_stats(cent.PresenceStatsRequest(channel=of))) == code, of
            assert await code_of(client.history_remove(cent.HistoryRemoveRequest(channel=of))) == code, of
        assert await code_of(client.publish(cent.PublishRequest(channel=unknown, data=1))) == 102
        assert await code_of(client.publish(cent.PublishRequest(channel="", data=1))) == 107
        assert await code_of(client.broadcast(cent.BroadcastRequest(channels=[], data=1))) == 107
        assert await code_of(client.subscribe(cent.SubscribeRequest(user="x", channel=""))) == 107
    assert (await call("publish", {"channel": channel()}))["error"] == {"code": 107, "message": "bad request"}
    assert (await call("rpc", {"method": "nope"}))["error"]["code"] == 104


async def an_error_mode_turns_errors_into_statuses():
    for body, status, code in (
        ({"channel": "nope:x", "data": 1}, 404, 102),
        ({"channel": "", "data": 1}, 400, 107),
    ):
        answer = await post(
            "/api/publish", body, X_API_Key=API_KEY, X_Centrifugo_Error_Mode="transport"
        )
        assert answer[0] == status, answer
        assert json.loads(answer[1])["code"] == code, answer
    bare = {"channel": channel("bare")}
    answer = await post("/api/history", bare, X_API_Key=API_KEY, X_Centrifugo_Error_Mode="transport")
    assert answer[0] == 400 and json.loads(answer[1])["code"] == 108, answer
    answer = await post("/api/info", "{}", X_API_Key=API_KEY, X_Centrifugo_Error_Mode="transport")
    assert answer[0] == 200 and "result" in json.loads(answer[1]), answer


async def the_key_goes_in_three_places_and_must_be_right():
    for path, headers in (
        ("/api/info", {"X_API_Key": API_KEY}),
        ("/api/info", {"Authorization": f"apikey {API_KEY}"}),
        (f"/api/info?api_key={API_KEY}", {}),
    ):
        assert (await post(path, "{}", **headers))[0] == 200, (path, headers)
    for path, headers in (
        ("/api/info", {}),
        ("/api/info", {"X_API_Key": ""}),
        ("/api/info", {"X_API_Key": "wrong"}),
        ("/api/info", {"X_API_Key": API_KEY + "x"}),
        ("/api/info", {"Authorization": f"Bearer {API_KEY}"}),
        ("/api/info?api_key=wrong", {}),
    ):
        assert (await post(path, "{}", **headers))[0] == 401, (path, headers)
    async with api("wrong") as client:
        try:
            await client.info(cent.InfoRequest())
        except cent.CentUnauthorizedError:
            return
    raise AssertionError("a wrong key was accepted")


async def what_is_no_json_is_400():
    for body in ("nope", "{", "", '{"channel":1}', "[]"):
        assert (await post("/api/publish", body, X_API_Key=API_KEY))[0] == 400, body
    assert (await post("/api/nope", "{}", X_API_Key=API_KEY))[0] == 404


async def a_result_is_written_with_no_more_than_it_has():
    name = channel("bare")
    answer = await post("/api/publish", {"channel": name, "data": 1}, X_API_Key=API_KEY)
    assert answer == (200, '{"result":{}}'), answer
    answer = await post("/api/publish", {"channel": "nope:x", "data": 1}, X_API_Key=API_KEY)
    assert answer == (200, '{"error":{"code":102,"message":"unknown channel"}}'), answer
    answer = await post("/api/disconnect", {"user": "nobody"}, X_API_Key=API_KEY)
    assert answer == (200, '{"result":{}}'), answer


async def the_old_endpoint_takes_commands_by_lines():
    lines = [{"method": "publish", "params": {"channel": channel(), "data": i}} for i in range(2)]
    body = "\n".join(map(json.dumps, lines))
    status, text = await post("/api", body, X_API_Key=API_KEY)
    assert status == 200, (status, text)
    assert [json.loads(line)["result"]["offset"] for line in text.splitlines()] == [1, 1]


TESTS = [
    publish_and_history,
    publish_without_history_and_with_base64,
    an_idempotency_key_publishes_once,
    a_version_not_newer_is_dropped,
    broadcast_answers_for_each_channel,
    history_remove_keeps_the_top,
    presence_and_channels,
    info_counts,
    subscribe_and_unsubscribe,
    subscribe_recovers_and_overrides,
    disconnect_with_codes_and_a_whitelist,
    refresh_by_the_server,
    a_batch_answers_for_each_command,
    errors_have_codes,
    an_error_mode_turns_errors_into_statuses,
    the_key_goes_in_three_places_and_must_be_right,
    what_is_no_json_is_400,
    a_result_is_written_with_no_more_than_it_has,
    the_old_endpoint_takes_commands_by_lines,
]

run("cent", TESTS)
