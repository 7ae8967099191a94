# SPDX-License-Identifier: BSD-3-Clause
"""Applications on top, unmodified: Celery and RQ (queues), Flask-Session (sessions), Flask-Caching (a cache).

`python3 apps_py.py celery|rq|session|cache PORT`. PYTHONPATH finds the packages.
"""

import sys
import threading
import time


def celery_app(port):
    from celery import Celery, chord, group
    from celery.contrib.testing.worker import start_worker

    url = f"redis://127.0.0.1:{port}/0"
    app = Celery("pando", broker=url, backend=url)
    app.conf.update(broker_connection_retry_on_startup=True, worker_hijack_root_logger=False, result_expires=60)

    @app.task
    def add(a, b):
        return a + b

    @app.task
    def total(numbers):
        return sum(numbers)

    @app.task(bind=True, max_retries=3)
    def flaky(self):
        if self.request.retries < 2:
            raise self.retry(countdown=0)
        return "third time"

    with start_worker(app, pool="solo", perform_ping_check=False, loglevel="ERROR"):
        assert add.delay(2, 3).get(timeout=20) == 5
        assert group(add.s(n, n) for n in range(20))().get(timeout=20) == [2 * n for n in range(20)]
        assert chord(add.s(n, 1) for n in range(10))(total.s()).get(timeout=20) == 55
        assert flaky.delay().get(timeout=20) == "third time"
        assert add.apply_async((1, 1), countdown=1).get(timeout=20) == 2
    client = app.backend.client
    assert client.llen("celery") == 0


def rq_app(port):
    from redis import Redis
    from rq import Queue, SimpleWorker
    from rq.job import JobStatus

    connection = Redis("127.0.0.1", port)
    queue = Queue("pando", connection=connection)
    jobs = [queue.enqueue(pow, 2, n) for n in range(30)]
    after = queue.enqueue(len, "four", depends_on=jobs[-1])
    broken = queue.enqueue(int, "x")
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
    {"celery": celery_app, "rq": rq_app, "session": session_app, "cache": cache_app}[mode](port)
    print("ok")


main()
