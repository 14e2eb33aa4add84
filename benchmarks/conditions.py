"""The conditions under which figures were measured: versions, processor, disk and settings, and no machine's name."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryFile

import redis

from benchmarks.drain import Servers, read
from tests.support.processes import ROOT

PACKAGES = ("aiohttp", "dramatiq", "httpx", "peewee", "psycopg2-binary", "pydantic", "redis")
POSTGRES_SETTINGS = ("shared_buffers", "fsync", "synchronous_commit", "max_connections")
PRODUCT = ("vm_webapp", "api", "actors", "migrations")
WRITES = 50


def read_conditions(servers: Servers) -> dict[str, object]:
    """Return the conditions of this machine and of these servers, as plain data."""
    with redis.Redis.from_url(servers.redis_url) as client:
        redis_version = client.info("server")["redis_version"]
    ((postgres,),) = read(servers, "SELECT current_setting('server_version')")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _commit(),
        "python": platform.python_version(),
        "postgresql": postgres,
        "redis": redis_version,
        "packages": {name: version(name) for name in PACKAGES},
        "postgresql_settings": {
            name: read(servers, "SELECT current_setting(%s)", name)[0][0] for name in POSTGRES_SETTINGS
        },
        "system": f"{platform.system()} {platform.release().split('-')[0]}, {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "fdatasync_ms": round(1000 * _seconds_to_disk(servers.folder), 3),
    }


def _commit() -> str | None:
    # The last one that changed the product, which stays known when those of the figures themselves are rebased.
    command = ["git", "log", "-1", "--format=%h", "--abbrev=12", "--", *PRODUCT]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor())


def _seconds_to_disk(folder: Path) -> float:
    """Return how long it takes at the median until 8 KB are on the disk, as a commit needs it."""
    with TemporaryFile(dir=folder) as file:
        return median(_seconds_of_write(file.fileno()) for _ in range(WRITES))


def _seconds_of_write(file: int) -> float:
    began = time.perf_counter()
    os.write(file, b"x" * 8192)
    getattr(os, "fdatasync", os.fsync)(file)
    return time.perf_counter() - began
