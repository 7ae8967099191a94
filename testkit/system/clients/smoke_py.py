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


def single(library, port):
    for protocol in (2, 3):
        client = library.Redis(port=port, protocol=protocol) if hasattr(library, "Redis") else library.Valkey(port=port, protocol=protocol)
        assert client.ping() is True
        strings(client)
        transactions(client)
        pubsub(client)
        blocking(client)
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
