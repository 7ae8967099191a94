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

async function single(port) {
  const client = new Redis(port, "127.0.0.1");
  await strings(client);
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
  const client = new Redis.Cluster([{ host: "127.0.0.1", port }], { scaleReads: "slave" });
  await strings(client);
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
