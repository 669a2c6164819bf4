"""The Python package `centrifuge-python`, JSON and Protobuf: python centrifuge_client.py http://127.0.0.1:8000"""

import asyncio
import functools
import json

import cent
from centrifuge import (
    CentrifugeError,
    Client,
    ClientEventHandler,
    DeltaType,
    Filter,
    StreamPosition,
    SubscriptionEventHandler,
)
from centrifuge.exceptions import ReplyError

from common import API_KEY, HTTP, Cuttable, channel, token, unix_time, until
from report import run


class Codec:
    """How values look in one of the two protocols."""

    def __init__(self, use_protobuf: bool):
        self.use_protobuf = use_protobuf

    def encode(self, value):
        return json.dumps(value).encode() if self.use_protobuf else value

    def decode(self, data):
        return json.loads(data) if self.use_protobuf else data


class Events(ClientEventHandler, SubscriptionEventHandler):
    """Keeps in queues what happens to a client or a subscription."""

    def __init__(self):
        self.publications = asyncio.Queue()
        self.others = asyncio.Queue()

    async def on_publication(self, ctx):
        await self.publications.put(ctx.pub)

    async def on_subscribed(self, ctx):
        await self.others.put(("subscribed", ctx))

    async def on_unsubscribed(self, ctx):
        await self.others.put(("unsubscribed", ctx))

    async def on_connected(self, ctx):
        await self.others.put(("connected", ctx))

    async def on_connecting(self, ctx):
        await self.others.put(("connecting", ctx))

    async def on_disconnected(self, ctx):
        await self.others.put(("disconnected", ctx))

    async def on_join(self, ctx):
        await self.others.put(("join", ctx))

    async def on_leave(self, ctx):
        await self.others.put(("leave", ctx))

    async def next(self, kind: str):
        """The next event of a kind; others are passed over."""
        while True:
            event, ctx = await self.others.get()
            if event == kind:
                return ctx


def client(codec: Codec, address: str = HTTP, **options) -> Client:
    ws = address.replace("http", "ws", 1)
    return Client(
        f"{ws}/connection/websocket",
        Events(),
        use_protobuf=codec.use_protobuf,
        min_reconnect_delay=0.01,
        max_reconnect_delay=0.1,
        proxy=None,
        **options,
    )


async def connected(codec: Codec, address: str = HTTP, **options) -> Client:
    made = client(codec, address, **options)
    await made.connect()
    await made.ready()
    return made


async def subscribed(of: Client, name: str, **options):
    sub = of.new_subscription(name, Events(), min_resubscribe_delay=0.01, **options)
    await sub.subscribe()
    await sub.ready()
    return sub


async def publish(name: str, data, **more):
    async with cent.AsyncClient(f"{HTTP}/api", API_KEY) as api:
        return await api.publish(cent.PublishRequest(channel=name, data=data, **more))


async def api_call(method: str, request):
    async with cent.AsyncClient(f"{HTTP}/api", API_KEY) as api:
        return await getattr(api, method)(request)


async def code_of(request) -> int:
    try:
        await request
    except ReplyError as error:
        return error.code
    raise AssertionError("no error")


async def publications_with_info_and_tags(codec: Codec):
    ada = await connected(codec, token=token(sub="ada", info={"name": "Ada"}))
    bob = await connected(codec)
    name = channel()
    subs = [await subscribed(each, name) for each in (ada, bob)]
    await subs[0].publish(codec.encode({"text": "grüße 🦀\n"}))
    await publish(name, [2], tags={"k": "v"})
    for sub in subs:
        pub = await sub.events.publications.get()
        assert (codec.decode(pub.data), pub.offset, pub.info.user) == ({"text": "grüße 🦀\n"}, 1, "ada")
        assert codec.decode(pub.info.conn_info) == {"name": "Ada"}
        pub = await sub.events.publications.get()
        assert (codec.decode(pub.data), pub.offset, pub.info, pub.tags) == ([2], 2, None, {"k": "v"}), pub
    await ada.disconnect()
    await bob.disconnect()


async def presence_joins_and_leaves(codec: Codec):
    one = await connected(codec)
    name = channel()
    sub = await subscribed(one, name, join_leave=True)
    assert (await sub.events.next("join")).info.user == ""
    other = await connected(codec, token=token(sub="42"))
    await subscribed(other, name)
    assert (await sub.events.next("join")).info.user == "42"
    infos = (await sub.presence()).clients
    assert {info.user for info in infos.values()} == {"", "42"}
    stats = await sub.presence_stats()
    assert (stats.num_clients, stats.num_users) == (2, 2)
    await other.disconnect()
    assert (await sub.events.next("leave")).info.user == "42"
    await one.disconnect()


async def history(codec: Codec):
    one = await connected(codec)
    name = channel()
    for i in range(1, 6):
        await publish(name, i)
    sub = await subscribed(one, name)
    top = await sub.history()
    assert (top.offset, top.publications) == (5, [])
    since = StreamPosition(offset=3, epoch=top.epoch)
    for options, expected in (
        ({"limit": -1}, [1, 2, 3, 4, 5]),
        ({"limit": 2, "reverse": True}, [5, 4]),
        ({"limit": 10, "since": since}, [4, 5]),
        ({"limit": 10, "since": since, "reverse": True}, [2, 1]),
    ):
        found = await sub.history(**options)
        assert [codec.decode(pub.data) for pub in found.publications] == expected, options
    assert await code_of(sub.history(limit=1, since=StreamPosition(1, "nope"))) == 112
    await one.disconnect()


async def nothing_is_lost_or_doubled_by_cuts(codec: Codec):
    async with Cuttable() as proxy:
        one = await connected(codec, f"http://{proxy.address}")
        name = channel("recovery")
        sub = await subscribed(one, name)
        await sub.events.next("subscribed")
        count = 0
        for _ in range(5):
            count += 1
            await publish(name, count)
            proxy.is_down = True
            proxy.cut()
            await one.events.next("connecting")
            for _ in range(5):
                count += 1
                await publish(name, count)
            proxy.is_down = False
            context = await sub.events.next("subscribed")
            assert context.was_recovering and context.recovered, context
        for i in range(1, count + 1):
            pub = await sub.events.publications.get()
            assert (codec.decode(pub.data), pub.offset) == (i, i), pub
        assert sub.events.publications.empty()
        await one.disconnect()


async def what_the_history_no_longer_has_is_not_recovered(codec: Codec):
    async with Cuttable() as proxy:
        one = await connected(codec, f"http://{proxy.address}")
        name = channel("smallhistory")
        await publish(name, 0)
        sub = await subscribed(one, name)
        await sub.events.next("subscribed")
        proxy.is_down = True
        proxy.cut()
        await one.events.next("connecting")
        for i in range(3):
            await publish(name, i)
        proxy.is_down = False
        context = await sub.events.next("subscribed")
        assert (context.was_recovering, context.recovered) == (True, False)
        assert sub.events.publications.empty()
        await one.disconnect()


async def an_unrecoverable_position_loads_the_state_anew(codec: Codec):
    name = channel("smallhistory")
    first = await publish(name, 1)
    for i in range(2, 5):
        await publish(name, i)
    offsets = [1, 4]

    async def get_state(_channel: str) -> StreamPosition:
        return StreamPosition(offset=offsets.pop(0), epoch=first.epoch)

    one = await connected(codec)
    sub = await subscribed(one, name, get_state=get_state)
    await publish(name, 5)
    assert (await sub.events.publications.get()).offset == 5
    assert offsets == []
    await one.disconnect()


async def private_channels_and_their_tokens(codec: Codec):
    one = await connected(codec, token=token(sub="42"))
    asked = 0

    async def get_token(name: str) -> str:
        nonlocal asked
        asked += 1
        return token(sub="42", channel=name, exp=unix_time(2))

    sub = await subscribed(one, "$" + channel(), get_token=get_token)

    async def asked_again():
        return asked >= 3

    await until(asked_again)
    await publish(sub.channel, 1)
    await sub.events.publications.get()
    await one.disconnect()


async def server_side_subscriptions(codec: Codec):
    user, name, other = channel(), channel("recovery"), channel()
    async with Cuttable() as proxy:
        one = await connected(codec, f"http://{proxy.address}", token=token(sub=user, channels=[name]))
        assert (await one.events.next("subscribed")).channel == name
        await publish(name, 1)
        assert codec.decode((await one.events.publications.get()).data) == 1
        proxy.is_down = True
        proxy.cut()
        await one.events.next("connecting")
        await publish(name, 2)
        proxy.is_down = False
        context = await one.events.next("subscribed")
        assert context.was_recovering and context.recovered
        assert codec.decode((await one.events.publications.get()).data) == 2
        await api_call("subscribe", cent.SubscribeRequest(user=user, channel=other))
        assert (await one.events.next("subscribed")).channel == other
        await api_call("unsubscribe", cent.UnsubscribeRequest(user=user, channel=other))
        assert (await one.events.next("unsubscribed")).channel == other
        await one.disconnect()


async def disconnects_and_unsubscribes_of_the_server(codec: Codec):
    user = channel()
    one = await connected(codec, token=token(sub=user))
    sub = await subscribed(one, channel())
    await api_call("unsubscribe", cent.UnsubscribeRequest(user=user, channel=sub.channel))
    context = await sub.events.next("unsubscribed")
    assert (context.code, context.reason) == (2000, "server unsubscribe"), context
    again = cent.Disconnect(code=4000, reason="come back")
    await one.events.next("connected")
    await api_call("disconnect", cent.DisconnectRequest(user=user, disconnect=again))
    await one.events.next("connected")
    await api_call("disconnect", cent.DisconnectRequest(user=user))
    context = await one.events.next("disconnected")
    assert (context.code, context.reason) == (3503, "force disconnect"), context


async def tokens_good_expired_and_bad(codec: Codec):
    async def get_token() -> str:
        return token(sub="42")

    one = await connected(codec, token=token(sub="42", exp=unix_time(-10)), get_token=get_token)
    await one.disconnect()
    bad = client(codec, token="nope")
    await bad.connect()
    assert (await bad.events.next("disconnected")).code == 3500


async def errors_have_codes(codec: Codec):
    one = await connected(codec)
    for name, code in (("nope:x", 102), ("$" + channel(), 103), ("x" * 256, 107), ("grüße", 107)):
        sub = one.new_subscription(name, Events())
        try:
            await sub.subscribe()
        except CentrifugeError:
            pass
        assert (await sub.events.next("unsubscribed")).code == code, name
    assert await code_of(one.rpc("m", codec.encode({}))) == 108
    assert await code_of(one.publish("nope:x", codec.encode({}))) == 102
    assert await code_of(one.history(channel("bare"), limit=1)) == 108
    assert await code_of(one.presence(channel("bare"))) == 108
    await one.disconnect()


async def deltas(codec: Codec):
    one = await connected(codec)
    name = channel("delta")
    sub = await subscribed(one, name, delta=DeltaType.FOSSIL)
    bodies = [{"i": i, "text": "the same words in every one of them", "more": "ünï 🦀" * (i % 4)} for i in range(20)]
    for body in bodies:
        await publish(name, body)
    for body in bodies:
        pub = await sub.events.publications.get()
        assert codec.decode(pub.data) == body, pub
    await one.disconnect()


async def filters_by_tags(codec: Codec):
    one = await connected(codec)
    name = channel("tagged")
    tags_filter = Filter.any(Filter.eq("k", "a"), Filter.negate(Filter.exists("k")))
    sub = await subscribed(one, name, tags_filter=tags_filter)
    for data, tags in ((1, {"k": "a"}), (2, {"k": "b"}), (3, {})):
        await publish(name, data, tags=tags)
    for expected in (1, 3):
        assert codec.decode((await sub.events.publications.get()).data) == expected
    await one.disconnect()


TESTS = [
    publications_with_info_and_tags,
    presence_joins_and_leaves,
    history,
    nothing_is_lost_or_doubled_by_cuts,
    what_the_history_no_longer_has_is_not_recovered,
    an_unrecoverable_position_loads_the_state_anew,
    private_channels_and_their_tokens,
    server_side_subscriptions,
    disconnects_and_unsubscribes_of_the_server,
    tokens_good_expired_and_bad,
    errors_have_codes,
    deltas,
    filters_by_tags,
]


def over(name: str, use_protobuf: bool):
    """The tests over one of the two protocols."""
    for test in TESTS:
        bound = functools.partial(test, Codec(use_protobuf))
        bound.__name__ = f"{name}, {test.__name__}"
        yield bound


run("centrifuge-python", [*over("JSON", False), *over("Protobuf", True)])
