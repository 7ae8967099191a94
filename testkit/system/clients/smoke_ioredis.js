// SPDX-License-Identifier: BSD-3-Clause
// Smoke test of ioredis, unmodified: `node smoke_ioredis.js single|cluster PORT`. NODE_PATH finds the library.
const assert = require("node:assert");
const Redis = require("ioredis");

async function strings(client) {
  assert.equal(await client.set("{js}:a", "1"), "OK");
  assert.equal(await client.get("{js}:a"), "1");
  assert.equal(await client.incrby("{js}:a", 41), 42);
  assert.equal(await client.set("{js}:b", "v", "PX", 50, "NX"), "OK");
  assert.equal(await client.set("{js}:b", "v", "NX"), null);
  assert.deepEqual(await client.multi().set("{js}:t", 5).incr("{js}:t").exec(), [[null, "OK"], [null, 6]]);
  assert.deepEqual(await client.mget("{js}:a", "{js}:none"), ["42", null]);
  assert.equal(await client.del("{js}:a", "{js}:t"), 2);
}

async function collections(client) {
  const key = (name) => `{js}:${name}`;
  await client.del(key("l"), key("h"), key("s"), key("z"), key("g"), key("p"), key("x"));
  assert.equal(await client.rpush(key("l"), ...Array.from({ length: 200 }, (_, i) => i)), 200);
  assert.deepEqual(await client.lrange(key("l"), -2, -1), ["198", "199"]);
  assert.equal(await client.hset(key("h"), { a: 1, b: 2 }), 2);
  assert.deepEqual(await client.hgetall(key("h")), { a: "1", b: "2" });
  assert.deepEqual(await client.call("HEXPIRE", key("h"), 100, "FIELDS", 1, "a"), [1]);
  assert.equal(await client.sadd(key("s"), "x", "y"), 2);
  assert.deepEqual((await client.smembers(key("s"))).sort(), ["x", "y"]);
  assert.equal(await client.zadd(key("z"), 1, "one", 2.5, "two"), 2);
  assert.deepEqual(await client.zrange(key("z"), 0, -1, "WITHSCORES"), ["one", "1", "two", "2.5"]);
  assert.equal(await client.geoadd(key("g"), 13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania"), 2);
  assert.equal(await client.geodist(key("g"), "Palermo", "Catania", "km"), "166.2742");
  assert.equal(await client.pfadd(key("p"), "a", "b", "c"), 1);
  assert.equal(await client.pfcount(key("p")), 3);
  await client.xadd(key("x"), "1-1", "f", "v");
  await client.xadd(key("x"), "2-1", "f", "w");
  await client.xgroup("CREATE", key("x"), "g", "0");
  const read = await client.xreadgroup("GROUP", "g", "c", "COUNT", 1, "STREAMS", key("x"), ">");
  assert.deepEqual(read, [[key("x"), [["1-1", ["f", "v"]]]]]);
  assert.equal(await client.xack(key("x"), "g", "1-1"), 1);
  const fields = [];
  for await (const batch of client.hscanStream ? client.hscanStream(key("h")) : []) fields.push(...batch);
  assert.ok(fields.length === 0 || fields.length === 4);
}

/** `waiter` has a connection of its own and waits for what `client` pushes. */
async function blocking(client, waiter) {
  const popped = waiter.blpop("{js}:q", "{js}:r", 10);
  await client.rpush("{js}:r", "v");
  assert.deepEqual(await popped, ["{js}:r", "v"]);
  const least = waiter.bzpopmin("{js}:w", 10);
  await client.zadd("{js}:w", 1, "a");
  assert.deepEqual(await least, ["{js}:w", "a", "1"]);
  assert.equal(await waiter.blpop("{js}:q", 0.01), null);
}

async function single(port) {
  const client = new Redis(port, "127.0.0.1");
  await strings(client);
  await collections(client);
  const waiter = new Redis(port, "127.0.0.1");
  await blocking(client, waiter);
  waiter.disconnect();
  const subscriber = new Redis(port, "127.0.0.1");
  await subscriber.subscribe("js:channel");
  const message = new Promise((resolve) => subscriber.on("message", (_, text) => resolve(text)));
  assert.equal(await client.publish("js:channel", "hello"), 1);
  assert.equal(await message, "hello");
  const replies = await Promise.all(Array.from({ length: 1000 }, (_, i) => client.set(`js:p:${i}`, i)));
  assert.ok(replies.every((reply) => reply === "OK"));
  client.disconnect();
  subscriber.disconnect();
}

async function cluster(port) {
  const client = new Redis.Cluster([{ host: "127.0.0.1", port }]);
  await strings(client);
  // A replica shows a write a moment later.
  const reader = new Redis.Cluster([{ host: "127.0.0.1", port }], { scaleReads: "slave" });
  await client.set("{js}:read", "there");
  let read = null;
  for (let tries = 0; read !== "there" && tries < 500; tries++) {
    read = await reader.get("{js}:read");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.equal(read, "there");
  reader.disconnect();
  const primaries = new Redis.Cluster([{ host: "127.0.0.1", port }]);
  await collections(primaries);
  const waiter = new Redis.Cluster([{ host: "127.0.0.1", port }]);
  await blocking(primaries, waiter);
  primaries.disconnect();
  waiter.disconnect();
  await Promise.all(Array.from({ length: 500 }, (_, i) => client.set(`js:c:${i}`, i)));
  const subscriber = new Redis.Cluster([{ host: "127.0.0.1", port }]);
  await subscriber.subscribe("js:cluster");
  const message = new Promise((resolve) => subscriber.on("message", (_, text) => resolve(text)));
  const timer = setInterval(() => client.publish("js:cluster", "hello"), 50);
  assert.equal(await message, "hello");
  clearInterval(timer);
  assert.equal(client.nodes("master").length, 3);
  client.disconnect();
  subscriber.disconnect();
}

const [mode, port] = process.argv.slice(2);
({ single, cluster })[mode](Number(port)).then(
  () => { console.log("ok"); process.exit(0); },
  (error) => { console.error(error); process.exit(1); },
);
