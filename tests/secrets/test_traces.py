"""No secret is in anything that the product writes: a marker for each is planted, and everything is searched."""

from __future__ import annotations

import base64
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from secrets import token_urlsafe
from urllib.parse import quote, urlsplit
from uuid import uuid4

import httpx
import pytest

from api.operations.operation import PREFIX
from tests.fakes.behaviours import Behaviour, completion, dropped, error_in_stream, plain, redirect, refusal
from tests.fakes.model_server import ModelServer
from tests.secrets.markers import Markers, keys_in
from tests.secrets.product import (
    NEW_RUN,
    Product,
    client_of,
    create_run,
    wait_until_called,
    wait_until_finished,
)
from tests.secrets.servers import OWNER, POOLED, GuardedServers, guarded_servers
from tests.secrets.watch import Watch
from tests.support.deployment import Deployment, managed_environment
from tests.support.folders import open_folder
from tests.support.waiting import eventually
from vm_webapp.local import find_redis_server

COMMANDS: tuple[tuple[str, ...], ...] = (
    ("doctor",),
    ("migrate", "status"),
    ("queue", "status"),
    ("keys", "list"),
    ("doctor", "--json"),
    ("queue", "pause", "--reason", "a test"),
    ("queue", "resume"),
    ("queue", "cancel", "--status", "failed"),
    ("purge", "--older-than", "90d"),
    ("keys", "revoke", "nobody"),
    ("audit", "verify"),
    ("audit", "export"),
    ("migrate", "up", "--dry-run"),
)
FROM_OUR_PAGE = {"Sec-Fetch-Site": "same-origin", "Accept": "text/html"}
PAGES = ("/", "/account", "/sign-in", "/static/style.css", "/nothing")
# SECRET stands for a token or a key. None of these is a request that HTTP knows.
MALFORMED: tuple[bytes, ...] = (
    b"GET /api/v2/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer SECRET\rX: y\r\n\r\n",
    b"GET /api/v2/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer SECRET\x00\r\n\r\n",
    b"GET /api/v2/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer SECRET\r\n folded\r\n\r\n",
    b"GET /api/v2/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer SECRET" + b"x" * 20_000 + b"\r\n\r\n",
    b"GET /api/v2/runs HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer SECRET\r\n\r\n",
    b"GET /api/v2/runs HTTP/1.1\r\nHost: x\r\nBearer SECRET\r\n\r\n",
    b"GET /api/v2/runs?SECRET HTTP/9.9\r\nHost: x\r\nAuthorization: Bearer SECRET\r\n\r\n",
    b"SECRET /api/v2/runs HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /api/v2/runs/SECRET" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"Authorization: Bearer SECRET\r\n\r\n",
    b"POST /api/v2/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer SECRET\r\nContent-Length: x\r\n\r\n{}",
    b"POST /api/v2/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer SECRET\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"SECRET\r\n\r\n",
    b"POST /api/v2/runs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer SECRET\r\nContent-Length: 9\r\n\r\nSECRET",
)


@pytest.fixture(scope="module")
def markers() -> Markers:
    """The secrets of this deployment."""
    return Markers()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """The folder of servers and workspace."""
    with open_folder() as made:
        yield made


@pytest.fixture(scope="module")
def servers(folder: Path, markers: Markers) -> Iterator[GuardedServers]:
    """Servers that ask for passwords."""
    if find_redis_server() is None:
        pytest.skip("there is no Redis server for this platform")
    passwords = {
        "owner": markers.plant("VM_DB_DIRECT_URL"),
        "pooled": markers.plant("VM_DB_URL"),
        "redis_password": markers.plant("VM_REDIS_URL"),
    }
    with guarded_servers(folder / "servers", **passwords) as running:
        yield running


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    """A model's server, which also is the proxy before it."""
    with ModelServer() as running:
        yield running


@pytest.fixture(scope="module")
def env(servers: GuardedServers, model: ModelServer, markers: Markers, folder: Path) -> dict[str, str]:
    """The environment of the services, with a marker wherever there is room for a secret."""
    at = model.base_url.removeprefix("http://").removesuffix("/v1")
    return managed_environment(servers.pooled_url, servers.redis_url, folder) | {
        "VM_DB_DIRECT_URL": servers.owner_url,
        "VM_API_TOKEN": markers.plant("VM_API_TOKEN"),
        "KIMI_API_KEY": markers.plant("KIMI_API_KEY"),
        "KIMI_BASE_URL": "http://model.example/v1",
        "HTTP_PROXY": f"http://user:{markers.plant('HTTP_PROXY')}@{at}",
        "HTTPS_PROXY": f"http://user:{markers.plant('HTTPS_PROXY')}@{at}",
        "ALL_PROXY": f"http://user:{markers.plant('ALL_PROXY')}@{at}",
        "NO_PROXY": "127.0.0.1,localhost",
        "JUDOSCALE_URL": f"http://127.0.0.1:1/api/{markers.plant('JUDOSCALE_URL')}",
        # What a platform or a pipeline may have set beside ours.
        "RENDER_API_KEY": markers.plant("RENDER_API_KEY"),
        "PGPASSWORD": markers.plant("PGPASSWORD"),
        "AWS_SECRET_ACCESS_KEY": markers.plant("AWS_SECRET_ACCESS_KEY"),
        "LOG_LEVEL": "DEBUG",
        "PYTHONFAULTHANDLER": "1",
    }


@pytest.mark.timeout(600)
@pytest.mark.only_in_full  # test_local looks for the same secrets in what one command writes
def test_no_secret_is_in_anything_that_the_product_writes(
    env: dict[str, str],
    servers: GuardedServers,
    model: ModelServer,
    markers: Markers,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    full: bool,
) -> None:
    product, watch, texts = Product(env, folder / "log", capsys), Watch(servers.admin_url, folder / "seen"), Markers()
    with watch.looking():
        key = prepare(product, markers)
        with product.deployed() as running:
            eventually(lambda: is_ready(running), "ready", seconds=40)
            succeed(product, running, markers, texts, key)
            browse(product, running, markers, key)
            get_refused(product, running, markers)
            call_a_hostile_model(product, running, model)
            lose_servers(product, running, servers)
            crash(running)
        start_wrong(product, servers, markers, full=full)
    written = product.output() | watch.traces()
    kept = product.files(folder / "workspace", folder / "servers") | {
        "the database": servers.dump(),
        "Redis": servers.redis_content(),
    }
    everything = written | kept | product.answers
    where_a_key_is_shown = {place for place in everything if place.startswith("stdout of keys create")}
    assert len(where_a_key_is_shown) == 1
    elsewhere = {place: content for place, content in everything.items() if place not in where_a_key_is_shown}
    leaks = markers.found_in(elsewhere) + keys_in(elsewhere)
    assert not leaks, "\n".join(["", *leaks])
    del written["pg_stat_activity"]  # who sees statements there may read the tables as well
    written["the audit trail"] = b"\n".join(re.findall(rb"^INSERT INTO public\.audit_.*$", kept["the database"], re.M))
    assert b"run.create" in written["the audit trail"]
    leaks = texts.found_in(written)
    assert not leaks, "\n".join(["", *leaks])


def prepare(product: Product, markers: Markers) -> str:
    """Migrate and make a key; return it."""
    assert product.command("migrate").code == 0
    made = product.command("keys", "create", "ann")
    assert made.code == 0
    return markers.add("a key", made.out.strip())


def is_ready(running: Deployment) -> bool:
    """Whether work can progress."""
    return httpx.get(f"{running.url}{PREFIX}/health/ready", trust_env=False).status_code == 200


def succeed(product: Product, running: Deployment, markers: Markers, texts: Markers, key: str) -> None:
    """Do what works, with the token and with a key: runs, reviews, repetitions, archives and commands."""
    asked, said, brand = texts.plant("a request"), texts.plant("a remark"), texts.plant("a brand")
    again = {"Idempotency-Key": markers.plant("Idempotency-Key")}
    for bearer in (product.env["VM_API_TOKEN"], key):
        with client_of(running, bearer) as client:
            for _ in range(2):
                product.ask(client, "POST", f"{PREFIX}/runs", json=NEW_RUN | {"request": asked}, headers=again)
            product.ask(client, "POST", f"{PREFIX}/brands", json={"name": brand[:40], "voice": brand}, headers=again)
            run_id = create_run(client)
            wait_until_finished(client, run_id)
            product.ask_everything(client, run_id)
            product.keep_archive(client, run_id)
            reviewed = create_run(client, workflow="landing_page", auto_approve=False)
            product.wait_for_review(client, reviewed)
            product.request_changes(client, reviewed, said)
    for arguments in COMMANDS:
        product.command(*arguments)
    smoke = ("smoke", "--base-url", running.url)
    assert product.command(*smoke, "--json").code == 0
    assert product.command(*smoke, VM_API_TOKEN="").code == 0
    remote = ("queue", "status", "--base-url", running.url)
    assert product.command(*remote, VM_API_TOKEN=key).code == 0
    run = ("run", "a text", "--workflow", "smoke", "--yes", "--base-url", running.url, "--output", "/dev/null/nowhere")
    product.command(*run)


def browse(product: Product, running: Deployment, markers: Markers, key: str) -> None:
    """Sign in with the token and with a key, look at every page and route, and sign out."""
    wrong = markers.plant("a wrong key of a form")
    with client_of(running, "", **FROM_OUR_PAGE) as client:
        product.ask(client, "POST", "/sign-in", data={"key": wrong, "next": "/account"})
        product.ask(client, "GET", "/sign-in", params={"next": "/account", "key": wrong})
        for secret in (product.env["VM_API_TOKEN"], key):
            answer = client.post("/sign-in", data={"key": secret})
            assert answer.status_code == 303, answer.text
            # The answer that sets the cookie is the one place where it belongs.
            cookie = answer.headers["Set-Cookie"].partition(";")[0]
            client.cookies.clear()
            ours = {"Cookie": cookie}
            markers.add(f"a session of {secret[:4]}", cookie.partition("=")[2])
            run_id = create_run(client, workflow="smoke", headers=ours)
            for path in PAGES:
                product.ask(client, "GET", path, headers=ours)
            product.ask_everything(client, run_id, headers=ours)
            product.ask(client, "GET", f"{PREFIX}/sessions;{cookie}", headers=ours)
            product.ask(client, "POST", "/sign-out", headers=ours)


def get_refused(product: Product, running: Deployment, markers: Markers) -> None:
    """Send credentials that are wrong, or stand where none belong, and requests that are not HTTP."""
    wrong = markers.plant("a wrong bearer")
    mistyped = markers.add("a mistyped key", f"vmk_{token_urlsafe(32)}")
    with client_of(running, product.env["VM_API_TOKEN"]) as client:
        run_id = create_run(client, workflow="smoke")
        stray = {
            "Cookie": f"__Host-vm={wrong}; vm={wrong}",
            "Proxy-Authorization": f"Basic {base64.b64encode(f'user:{wrong}'.encode()).decode()}",
            "X-Api-Key": wrong,
            "Referer": f"https://example.org/?token={wrong}",
            "User-Agent": wrong,
        }
        product.ask_everything(client, run_id, headers=stray, params={"token": wrong, "limit": wrong})
        token = product.env["VM_API_TOKEN"]
        for secret in (wrong, mistyped, token):
            for path in (f"/{secret}", f"{PREFIX}/runs/{secret}", f"{PREFIX}/workflows/{secret}"):
                # An answer may say what there is none of; who asked knows it.
                client.get(path)
                client.get(f"{path}/nothing?session={secret}")
    for bearer in ("", wrong, mistyped, f"{token}x"):
        with client_of(running, bearer) as client:
            product.ask_everything(client, run_id)
    for bearer in (wrong, mistyped, token):
        for malformed in MALFORMED:
            product.ask_in_bytes(running.url, malformed.replace(b"SECRET", bearer.encode()))
    product.command("queue", "status", "--base-url", running.url, VM_API_TOKEN=wrong)
    product.command("smoke", "--base-url", running.url, VM_API_TOKEN=wrong)
    product.command("queue", "status", "--base-url", running.url.replace("//", f"//user:{wrong}@"))
    product.command("smoke", "--json", "--base-url", running.url.replace("//", f"//user:{wrong}@"))


def call_a_hostile_model(product: Product, running: Deployment, model: ModelServer) -> None:
    """Let the model's server, or the proxy before it, quote what was sent, wherever it can."""
    key, proxy = product.env["KIMI_API_KEY"], urlsplit(product.env["HTTP_PROXY"])
    basic = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
    with client_of(running, product.env["VM_API_TOKEN"]) as client:
        for sent in (f"Authorization: Bearer {key}", f"Proxy-Authorization: Basic {basic} ({proxy.password})"):
            for behaviour in hostile_behaviours(sent):
                client.post(f"{PREFIX}/providers/kimi/resume", json={})
                model.enqueue(behaviour)
                run_id = create_run(client)
                wait_until_called(client, run_id)
                for path in ("", "/events", "/artifacts"):
                    product.ask(client, "GET", f"{PREFIX}/runs/{run_id}{path}")
                product.ask(client, "GET", f"{PREFIX}/health/ready")
                product.ask(client, "GET", f"{PREFIX}/workers")
                client.post(f"{PREFIX}/runs/{run_id}/cancel", json={})
        product.command("doctor", "--json")
        client.post(f"{PREFIX}/providers/kimi/resume", json={})
    assert {request.headers["authorization"] for request in model.requests} == {f"Bearer {key}"}
    assert {request.headers["proxy-authorization"] for request in model.requests} == {f"Basic {basic}"}


def hostile_behaviours(sent: str) -> tuple[Behaviour, ...]:
    """Return how a server can quote what was sent to it."""
    return (
        refusal(401, "invalid_authentication_error", f"Invalid Authentication: {sent}"),
        refusal(400, sent, sent),
        plain(500, f"<html><title>{sent}</title><body>{sent}</body></html>".encode(), "text/html"),
        plain(502, sent.encode(), "text/plain"),
        plain(500, f'{{"error":{{"message":"{sent}'.encode(), "application/json"),
        plain(407, sent.encode(), "text/plain", headers={"Proxy-Authenticate": sent}),
        plain(200, sent.encode(), "application/json"),
        plain(429, b"", "text/plain", headers={"Retry-After": sent}),
        redirect(f"http://model.example/?{quote(sent)}"),
        error_in_stream("unheard_of_error", sent),
        Behaviour(insert=f"data: {sent}\n\n".encode()),
        Behaviour(insert=f"event: {sent}\ndata: {{}}\n\n".encode()),
        Behaviour(text=f"# {sent}\n" * 20, drop_after=dropped().drop_after),
        Behaviour(text="# A calendar", finish_reason=sent),
        Behaviour(text="# A calendar", model=sent),
        completion(f"# A calendar\n\n{sent}"),
    )


def lose_servers(product: Product, running: Deployment, servers: GuardedServers) -> None:
    """Ask for everything, and run every command, without PostgreSQL, and then without Redis."""
    token = product.env["VM_API_TOKEN"]
    for stop in (servers.stop_postgres, servers.stop_redis):
        stop()
        with client_of(running, token) as client:
            client.post(f"{PREFIX}/runs", json=NEW_RUN)
            product.ask_everything(client, str(uuid4()))
            client.get(f"{PREFIX}/{token}")
        with client_of(running, f"vmk_{token_urlsafe(32)}") as client:
            client.get(f"{PREFIX}/runs/{token}/{token}")
        for arguments in COMMANDS:
            product.command(*arguments)
        servers.start_again()
        eventually(lambda: is_ready(running), "ready again", seconds=60)


def crash(running: Deployment) -> None:
    """Let both processes crash, each in its own way, with all that Python prints."""
    for crashing, number in ((running.api, signal.SIGSEGV), (running.worker, signal.SIGABRT)):
        limits = Path(f"/proc/{crashing.pid}/limits").read_text()
        crashing.signal(number)
        assert crashing.wait() == -number
        assert "Fatal Python error" in crashing.output()
        # A core file holds the memory, and so every secret.
        assert re.search(r"^Max core file size\s+0 ", limits, re.MULTILINE), limits


def start_wrong(product: Product, servers: GuardedServers, markers: Markers, *, full: bool) -> None:
    """Start commands and services with wrong passwords; each command with each only if all pairs are to be tried."""
    commands = (*COMMANDS[:3], ("smoke", "--base-url", "http://api.invalid", "--wait", "0"))
    wrong = markers.plant("a wrong password")
    wrong_database = {"VM_DB_URL": servers.database_url(POOLED, wrong)}
    wrong_redis = {"VM_REDIS_URL": servers.redis_url_with(wrong)}
    wrong_proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), f"socks5://user:{wrong}@127.0.0.1:1")
    for number, further in enumerate(
        (
            wrong_database,
            wrong_redis,
            wrong_proxies,
            {"VM_DB_DIRECT_URL": servers.database_url(OWNER, wrong)},
            {"VM_DB_URL": f"postgresql://vm:{wrong}@127.0.0.1:1/vm"},
            {"VM_DB_URL": f"host=127.0.0.1 port=1 user=vm password={wrong} dbname=vm"},
            {"VM_DB_URL": f"postgresql://vm@127.0.0.1:1/vm?password={wrong}"},
            {"VM_REDIS_URL": f"redis://:{wrong}@127.0.0.1:1/0"},
            {"VM_REDIS_URL": f"rediss://vm:{wrong}@localhost:1/0"},
            {"VM_REDIS_URL": f"redis://localhost:1/0?password={wrong}"},
        )
    ):
        for arguments in commands if full else (commands[number % len(commands)],):
            product.command(*arguments, **further)
    with product.deployed(**wrong_database) as running, client_of(running, product.env["VM_API_TOKEN"]) as client:
        product.ask_everything(client, str(uuid4()))
        running.worker.says("poll.failed", seconds=40)
    wrong_both = wrong_redis | wrong_proxies
    with product.deployed(**wrong_both) as running, client_of(running, product.env["VM_API_TOKEN"]) as client:
        eventually(lambda: is_ready(running), "ready", seconds=40)
        run_id = create_run(client)
        wait_until_called(client, run_id)
        product.ask_everything(client, run_id)
