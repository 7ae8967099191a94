# SPDX-License-Identifier: BSD-3-Clause
"""Smoke test of a Python client, unmodified: `smoke_py.py LIBRARY single|cluster PORT`."""

import concurrent.futures
import importlib
import sys
import time


def strings(client):
    assert client.set("py:a", "1") is True
    assert client.get("py:a") == b"1"
    assert client.incr("py:a", 41) == 42
    assert client.append("py:a", "x") == 3
    assert client.set("py:b", "v", px=100, nx=True) is True
    assert client.set("py:b", "w", nx=True) is None
    assert 0 < client.pttl("py:b") <= 100
    deadline = time.monotonic() + 5
    while client.exists("py:b"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    client.delete("py:bits")
    assert client.setbit("py:bits", 7, 1) == 0
    assert client.bitcount("py:bits") == 1
    assert client.object("encoding", "py:bits") == b"raw"
    assert client.type("py:a") == b"string"
    assert client.delete("py:a") == 1
    large = b"z" * (8 << 20)
    client.set("py:large", large)
    assert client.get("py:large") == large
    assert client.unlink("py:large") == 1


def transactions(client):
    pipe = client.pipeline(transaction=True)
    pipe.set("{py}:t", 5).incr("{py}:t").get("{py}:t")
    assert pipe.execute() == [True, 6, b"6"]


def pubsub(client):
    subscriber = client.pubsub(ignore_subscribe_messages=True)
    subscriber.subscribe("py:channel")
    subscriber.psubscribe("py:pat*")
    deadline = time.monotonic() + 5
    received = []
    while len(received) < 2:
        client.publish("py:channel", "one")
        client.publish("py:pattern", "two")
        message = subscriber.get_message(timeout=0.2)
        if message:
            received.append(message["data"])
        assert time.monotonic() < deadline
    assert set(received) <= {b"one", b"two"}
    subscriber.close()


def blocking(client):
    """Threads that wait for keys; each call of theirs has a connection of its own."""
    client.delete("{py}:q", "{py}:r", "{py}:z", "{py}:s")
    assert client.blpop(["{py}:q"], timeout=0.01) is None
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        taken = [threads.submit(client.blpop, ["{py}:r", "{py}:q"], 10) for _ in range(6)]
        moved = threads.submit(client.blmove, "{py}:r", "{py}:q", 10, "LEFT", "RIGHT")
        least = threads.submit(client.bzpopmin, ["{py}:z"], 10)
        client.rpush("{py}:q", *range(5))
        client.zadd("{py}:z", {"a": 1, "b": 2})
        assert least.result()[:2] == (b"{py}:z", b"a") or list(least.result())[:2] == [b"{py}:z", b"a"]
        # The mover or the last of the others gets it; what is moved goes to the other one.
        client.rpush("{py}:r", 5)
        if not moved.done():
            concurrent.futures.wait(taken, timeout=0.5)
        if not moved.done():
            client.rpush("{py}:r", 6)
        got = sorted(int(future.result()[1]) for future in taken)
        assert len(set(got)) == 6, got
        moved.result()
        read = threads.submit(client.xread, {"{py}:s": "0"}, None, 10_000)
        client.xadd("{py}:s", {"f": "v"}, id="1-1")
        streams = read.result()
        assert (list(streams.items()) if isinstance(streams, dict) else streams)[0][0] == b"{py}:s"
    client.delete("{py}:q", "{py}:r", "{py}:z", "{py}:s")


def collections(client):
    client.delete("{py}:l", "{py}:h", "{py}:set", "{py}:other", "{py}:zset", "{py}:geo", "{py}:hll", "{py}:hll2")
    assert client.rpush("{py}:l", *range(200)) == 200
    assert client.lrange("{py}:l", -2, -1) == [b"198", b"199"]
    assert client.lpop("{py}:l", 2) == [b"0", b"1"]
    assert client.lmove("{py}:l", "{py}:l", "RIGHT", "LEFT") == b"199"
    assert client.lpos("{py}:l", "100") == 99
    assert [int(item) for item in client.sort("{py}:l", start=0, num=3, desc=True)] == [199, 198, 197]
    assert client.hset("{py}:h", mapping={f"f{n}": n for n in range(300)}) == 300
    assert client.hincrby("{py}:h", "f1", 41) == 42
    assert len(client.hgetall("{py}:h")) == 300
    assert len(dict(client.hscan_iter("{py}:h", count=50))) == 300
    # Not every library has methods for these.
    fields = lambda name, *args: client.execute_command(name, "{py}:h", *args)
    assert fields("HEXPIRE", 100, "FIELDS", 2, "f1", "none") == [1, -2]
    assert 0 < fields("HTTL", "FIELDS", 1, "f1")[0] <= 100
    assert fields("HPERSIST", "FIELDS", 1, "f1") == [1]
    assert fields("HPEXPIRE", 1, "FIELDS", 1, "f2") == [1]
    deadline = time.monotonic() + 5
    while client.hexists("{py}:h", "f2"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert client.sadd("{py}:set", *range(100)) == 100
    assert client.sadd("{py}:other", 50, "x") == 2
    assert set(client.sinter("{py}:set", "{py}:other")) == {b"50"}
    assert client.sdiffstore("{py}:other", "{py}:set", "{py}:other") == 99
    assert len(set(client.sscan_iter("{py}:set"))) == 100
    assert client.zadd("{py}:zset", {f"m{n}": n / 2 for n in range(300)}) == 300
    assert client.zrange("{py}:zset", 0, 1, withscores=True) in ([(b"m0", 0.0), (b"m1", 0.5)], [[b"m0", 0.0], [b"m1", 0.5]])
    assert client.zrangebyscore("{py}:zset", "(149", "+inf") == [b"m299"]
    assert client.zrank("{py}:zset", "m7") == 7
    assert client.zremrangebyrank("{py}:zset", 0, 99) == 100
    assert client.geoadd("{py}:geo", (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania")) == 2
    assert round(client.geodist("{py}:geo", "Palermo", "Catania", "km")) == 166
    assert client.geosearch("{py}:geo", longitude=15, latitude=37, radius=100, unit="km") == [b"Catania"]
    client.pfadd("{py}:hll", *range(1000))
    client.pfadd("{py}:hll2", *range(500, 1500))
    assert abs(client.pfcount("{py}:hll", "{py}:hll2") - 1500) < 50
    payload = client.dump("{py}:zset")
    assert client.restore("{py}:zset", 0, payload, replace=True)
    assert client.zcard("{py}:zset") == 200
    client.delete("{py}:l", "{py}:h", "{py}:set", "{py}:other", "{py}:zset", "{py}:geo", "{py}:hll", "{py}:hll2")


def streams(client):
    """A group of two consumers, one of which takes over what the other never acknowledged."""
    client.delete("{py}:x")
    ids = [client.xadd("{py}:x", {"n": n}) for n in range(50)]
    assert client.xlen("{py}:x") == 50 and ids == sorted(ids, key=lambda id: [int(part) for part in id.split(b"-")])
    assert client.xgroup_create("{py}:x", "g", id="0") is True
    read = client.xreadgroup("g", "one", {"{py}:x": ">"}, count=20)
    entries = (list(read.values())[0][0] if isinstance(read, dict) else read[0][1])
    assert [entry[0] for entry in entries] == ids[:20]
    assert client.xack("{py}:x", "g", *ids[:15]) == 15
    assert client.xpending("{py}:x", "g")["pending"] == 5
    assert [entry[0] for entry in client.xautoclaim("{py}:x", "g", "two", 0)[1]] == ids[15:20]
    assert client.xinfo_groups("{py}:x")[0]["lag"] == 30
    assert client.xtrim("{py}:x", maxlen=10, approximate=False) == 40
    assert [entry[0] for entry in client.xrevrange("{py}:x", count=1)] == ids[-1:]
    client.delete("{py}:x")


def single(library, port):
    for protocol in (2, 3):
        client = library.Redis(port=port, protocol=protocol) if hasattr(library, "Redis") else library.Valkey(port=port, protocol=protocol)
        assert client.ping() is True
        strings(client)
        transactions(client)
        pubsub(client)
        blocking(client)
        collections(client)
        streams(client)
        client.mset({"py:1": 1, "py:2": 2})
        assert client.mget("py:1", "py:2", "py:none") == [b"1", b"2", None]
        keys = set(client.scan_iter(match="py:[12]", count=100))
        assert keys == {b"py:1", b"py:2"}, keys
        assert client.info("server")["redis_version"]
        assert client.config_get("maxmemory")["maxmemory"] == "0"
        client.client_setname("smoke")
        assert client.client_getname() in (b"smoke", "smoke")
        assert any(row["name"] == "smoke" for row in client.client_list())
        try:
            client.execute_command("NOSUCHCOMMAND", "x")
            raise AssertionError("an unknown command was taken")
        except library.exceptions.ResponseError as error:
            assert "unknown command" in str(error)
        client.close()


def cluster(library, port):
    name = "RedisCluster" if hasattr(library, "RedisCluster") else "ValkeyCluster"
    client = getattr(library, name)(host="127.0.0.1", port=port)
    for number in range(500):
        assert client.set(f"py:c:{number}", number)
    for number in range(500):
        assert client.get(f"py:c:{number}") == str(number).encode()
    assert sum(1 for _ in client.scan_iter(match="py:c:*", count=1000)) == 500
    strings(client)
    blocking(client)
    collections(client)
    streams(client)
    pipe = client.pipeline()
    for number in range(100):
        pipe.get(f"py:c:{number}")
    assert pipe.execute() == [str(number).encode() for number in range(100)]
    assert client.delete(*[f"py:c:{number}" for number in range(500)]) == 500
    assert len(client.get_primaries()) == 3
    assert len(client.get_replicas()) == 3
    client.close()


if __name__ == "__main__":
    module = importlib.import_module(sys.argv[1])
    {"single": single, "cluster": cluster}[sys.argv[2]](module, int(sys.argv[3]))
    print("ok")
