# SPDX-License-Identifier: BSD-3-Clause
"""Applications on top, unmodified: RQ (a queue), Flask-Session (sessions), cachelib (a cache).

`python3 apps_py.py rq|session|cache PORT`. PYTHONPATH finds the packages. Not here: Celery, whose transport runs scripts
(EVALSHA).
"""

import sys
import threading
import time


def rq_app(port):
    from redis import Redis
    from rq import Queue, SimpleWorker
    from rq.job import JobStatus

    connection = Redis("127.0.0.1", port)
    queue = Queue("pando", connection=connection)
    jobs = [queue.enqueue(pow, 2, n) for n in range(30)]
    after = queue.enqueue(len, "four", depends_on=jobs[-1])
    broken = queue.enqueue("math.sqrt", -1)
    later = queue.enqueue_at(__import__("datetime").datetime.now(), abs, -3)
    worker = SimpleWorker([queue], connection=connection)
    worker.work(burst=True, with_scheduler=False, logging_level="ERROR")
    assert [job.return_value() for job in jobs] == [2**n for n in range(30)]
    assert after.return_value() == 4
    assert broken.get_status() == JobStatus.FAILED
    assert len(queue.failed_job_registry) == 1 and len(queue.finished_job_registry) == 31
    assert later.id in queue.scheduled_job_registry
    assert queue.count == 0


def session_app(port):
    from flask import Flask, session
    from flask_session import Session
    from redis import Redis

    app = Flask("pando")
    app.config.update(SESSION_TYPE="redis", SESSION_REDIS=Redis("127.0.0.1", port), SESSION_KEY_PREFIX="s:")
    Session(app)

    @app.get("/count")
    def count():
        session["count"] = session.get("count", 0) + 1
        return str(session["count"])

    browsers = [app.test_client() for _ in range(5)]
    for turn in range(1, 4):
        assert [browser.get("/count").text for browser in browsers] == [str(turn)] * 5
    client = Redis("127.0.0.1", port)
    keys = client.keys("s:*")
    assert len(keys) == 5 and all(client.ttl(key) > 0 for key in keys)


def cache_app(port):
    from cachelib.redis import RedisCache

    cache = RedisCache("127.0.0.1", port, default_timeout=60, key_prefix="c:")
    assert cache.set("a", {"x": [1, 2]}) and cache.get("a") == {"x": [1, 2]}
    assert cache.add("a", 1) is False and cache.add("b", 1) is True
    assert cache.set_many({f"k{n}": n for n in range(100)})
    assert cache.get_many(*[f"k{n}" for n in range(100)]) == list(range(100))
    assert cache.inc("b", 41) == 42 and cache.dec("b") == 41
    assert cache.delete_many("a", "b") and not cache.has("a")
    assert cache.clear() and cache.get("k1") is None


def main():
    mode, port = sys.argv[1], int(sys.argv[2])
    # A worker that hangs must not keep the process alive.
    threading.Thread(target=lambda: (time.sleep(50), __import__("os")._exit(3)), daemon=True).start()
    {"rq": rq_app, "session": session_app, "cache": cache_app}[mode](port)
    print("ok")


main()
