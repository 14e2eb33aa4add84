"""Sessions: opened with a key or the token, found by their secret while they are live, listed and ended."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from tests.support.actors import OPERATOR
from tests.support.runs import read
from vm_webapp.access.actor import TOKEN_ID, Actor
from vm_webapp.access.keys import NewKey, create_key, list_keys, revoke_key
from vm_webapp.access.sessions import (
    AdminsOnly,
    NewSession,
    SessionRecord,
    SessionRules,
    end_own_sessions,
    end_session,
    find_session,
    list_sessions,
    open_session,
    purge_old_sessions,
)
from vm_webapp.access.tokens import digest_of_token
from vm_webapp.db.pool import execute, transaction
from vm_webapp.errors import NotFound

pytestmark = pytest.mark.usefixtures("database")

TOKEN = "a-token-of-the-tests"
RULES = SessionRules(timedelta(hours=12), timedelta(days=7), TOKEN)
ADMIN = Actor("admin", "admin", TOKEN_ID)


def opened(secret: str, *, replaces: str | None = None, agent: str = "Firefox") -> NewSession:
    """Open a session, which must succeed."""
    new = open_session(secret, RULES, address="192.0.2.7", user_agent=agent, replaces=replaces)
    assert new is not None
    return new


def key_of(name: str = "ann", lasts: timedelta | None = None) -> NewKey:
    """Return a new key of an editor."""
    return create_key(name, actor=OPERATOR, role="editor", lasts=lasts)


def holder_of(session: NewSession, rules: SessionRules = RULES) -> Actor | None:
    """Return who is signed in by a session, None if it has ended."""
    found = find_session(session.secret, rules)
    return found.actor if found else None


def listed(actor: Actor, *, everybody: bool = False, rules: SessionRules = RULES) -> list[SessionRecord]:
    """Return the sessions that somebody sees."""
    return list(list_sessions(actor, rules, everybody=everybody, limit=50, after=None).items)


def move(session: NewSession, column: str, back: str) -> None:
    """Set a time of a session to a while ago."""
    with transaction():
        execute(
            f"UPDATE sessions SET {column} = clock_timestamp() - %(back)s::interval WHERE id = %(id)s",
            back=back,
            id=session.id,
        )


def test_a_session_of_a_key_is_its_holder() -> None:
    key = key_of()
    session = opened(key.secret)
    assert holder_of(session) == Actor("key:ann", "editor", str(key.id), key.id, session.id)


def test_a_session_of_the_token_is_an_admin() -> None:
    session = opened(TOKEN)
    assert holder_of(session) == replace(ADMIN, session_id=session.id)


def test_a_session_of_a_key_without_a_role_is_an_admin() -> None:
    holder = holder_of(opened(create_key("ops", actor=OPERATOR).secret))
    assert holder is not None
    assert holder.role == "admin"


@pytest.mark.parametrize("wrong", ["", "nonsense", f"{TOKEN}x", TOKEN.upper(), "vmk_" + "A" * 43, "vmk_\x00", "\udcff"])
def test_nothing_is_opened_with_what_is_neither_key_nor_token(wrong: str) -> None:
    assert open_session(wrong, RULES, address="", user_agent="") is None
    assert read("SELECT * FROM sessions") == []


def test_a_session_opens_no_session() -> None:
    assert open_session(opened(TOKEN).secret, RULES, address="", user_agent="") is None


def test_without_a_token_an_empty_secret_is_refused() -> None:
    assert open_session("", replace(RULES, token=None), address="", user_agent="") is None


def test_neither_the_secret_nor_the_token_is_stored_or_shown() -> None:
    session = opened(TOKEN)
    stored = str(
        [
            {name: bytes(value) if isinstance(value, memoryview) else value for name, value in each.items()}
            for each in read("SELECT * FROM sessions")
        ]
    )
    assert session.secret not in stored + repr(session) + repr(listed(ADMIN))
    assert TOKEN not in stored + repr(RULES)


def test_the_digest_of_the_token_is_a_slow_one() -> None:
    """A database that is read must not reveal a token that a person chose: SHA-256 alone is tried out too fast."""
    assert digest_of_token(TOKEN) != hashlib.sha256(TOKEN.encode()).digest()
    assert digest_of_token(TOKEN) == hashlib.pbkdf2_hmac(
        "sha256", TOKEN.encode(), b"vm_webapp: a session of VM_API_TOKEN", 600_000
    )


def test_every_session_has_a_secret_of_its_own_with_256_bits() -> None:
    found = {opened(TOKEN).secret for _ in range(10)}
    assert len(found) == 10
    assert all(len(each.removeprefix("vms_")) == 43 for each in found)  # 43 characters of 6 bits


@pytest.mark.parametrize("wrong", ["", "vms_", "vms_" + "A" * 43, "vms_" + "A" * 44, "vms_\x00", "' OR true --"])
def test_an_unknown_secret_finds_no_session(wrong: str) -> None:
    opened(TOKEN)
    assert find_session(wrong, RULES) is None


@pytest.mark.parametrize(
    ("column", "live", "over"),
    [
        ("last_seen_at", "11:59:55", "12:00:00"),
        ("created_at", "6 days 23:59:55", "7 days"),
    ],
)
def test_a_session_ends_to_the_second_at_its_idle_and_its_absolute_limit(column: str, live: str, over: str) -> None:
    session = opened(TOKEN)
    move(session, column, live)
    found = find_session(session.secret, RULES)
    assert found is not None
    assert 0 < found.seconds_left <= 5
    move(session, column, over)
    assert holder_of(session) is None
    assert listed(ADMIN) == []


def test_each_request_puts_the_idle_limit_off_but_not_the_absolute_one() -> None:
    session = opened(TOKEN)
    move(session, "last_seen_at", "11:00:00")
    assert holder_of(session) is not None
    found = find_session(session.secret, RULES)
    assert found is not None
    assert found.seconds_left > 11 * 3600
    move(session, "created_at", "6 days 23:00:00")
    found = find_session(session.secret, RULES)
    assert found is not None
    assert found.seconds_left <= 3600


def test_the_limits_are_those_of_the_settings() -> None:
    session = opened(TOKEN)
    move(session, "last_seen_at", "00:10:00")
    assert holder_of(session, replace(RULES, idle=timedelta(minutes=5))) is None
    assert holder_of(session, replace(RULES, lasts=timedelta(seconds=0))) is None
    assert holder_of(session, replace(RULES, idle=timedelta(minutes=15))) is not None


def seen(session: NewSession) -> str:
    """Return when a session was last seen."""
    return str(read("SELECT last_seen_at FROM sessions WHERE id = %(id)s", id=session.id)[0]["last_seen_at"])


def test_a_use_is_noted_at_most_once_a_minute() -> None:
    session = opened(key_of().secret)
    move(session, "last_seen_at", "00:00:58")
    before = seen(session)
    assert holder_of(session) is not None
    assert seen(session) == before
    with transaction():
        execute("UPDATE api_keys SET last_used_at = NULL")
    move(session, "last_seen_at", "00:01:00")
    before = seen(session)
    assert holder_of(session) is not None
    assert seen(session) > before
    assert list_keys()[0].last_used_at is not None


def test_a_use_is_noted_more_often_where_the_idle_limit_is_short() -> None:
    session = opened(TOKEN)
    move(session, "last_seen_at", "00:00:20")
    before = seen(session)
    assert holder_of(session, replace(RULES, idle=timedelta(minutes=1))) is not None
    assert seen(session) > before


def test_a_use_is_noted_again_where_the_clock_has_stepped_back() -> None:
    session = opened(TOKEN)
    move(session, "last_seen_at", "-1 hour")
    before = seen(session)
    assert holder_of(session) is not None
    assert seen(session) < before


def test_a_revoked_key_ends_its_sessions_and_no_others() -> None:
    ann, bob = opened(key_of("ann").secret), opened(key_of("bob").secret)
    revoke_key("ann", actor=OPERATOR)
    assert (holder_of(ann), holder_of(bob) is not None) == (None, True)
    assert [each.actor for each in listed(ADMIN, everybody=True)] == ["key:bob"]


def test_an_expired_key_ends_its_sessions_to_the_second() -> None:
    session = opened(key_of(lasts=timedelta(minutes=10)).secret)
    found = find_session(session.secret, RULES)
    assert found is not None
    assert 590 < found.seconds_left <= 600
    with transaction():
        execute("UPDATE api_keys SET expires_at = clock_timestamp()")
    assert holder_of(session) is None


def test_another_token_ends_what_the_one_before_has_opened() -> None:
    session = opened(TOKEN)
    for token in ("another", None):
        changed = replace(RULES, token=token)
        assert holder_of(session, changed) is None
        assert listed(ADMIN, rules=changed) == []
    assert holder_of(session) is not None


def test_signing_in_again_ends_the_session_of_this_browser_alone() -> None:
    secret = key_of().secret
    first, elsewhere = opened(secret), opened(secret)
    second = opened(secret, replaces=first.secret)
    assert [holder_of(each) is None for each in (first, elsewhere, second)] == [True, False, False]


@pytest.mark.parametrize("replaces", ["", "nonsense", "vms_" + "A" * 43, "\x00"])
def test_signing_in_with_a_forged_cookie_ends_nothing(replaces: str) -> None:
    session = opened(TOKEN)
    opened(TOKEN, replaces=replaces)
    assert holder_of(session) is not None


def test_a_wrong_key_leaves_the_session_of_this_browser_as_it_is() -> None:
    session = opened(TOKEN)
    assert open_session("vmk_" + "A" * 43, RULES, address="", user_agent="", replaces=session.secret) is None
    assert holder_of(session) is not None


def test_everybody_sees_the_own_sessions_and_an_admin_all() -> None:
    ann, bob = key_of("ann"), key_of("bob")
    sessions = [opened(ann.secret, agent="Firefox"), opened(ann.secret, agent="Chrome"), opened(bob.secret)]
    by_token = opened(TOKEN)
    holders = [holder_of(each) for each in (*sessions, by_token)]
    assert None not in holders
    as_ann, _, as_bob, as_admin = [each for each in holders if each is not None]
    assert [each.user_agent for each in listed(as_ann)] == ["Chrome", "Firefox"]
    assert [each.id for each in listed(as_bob)] == [sessions[2].id]
    assert [each.id for each in listed(as_admin)] == [by_token.id]
    assert [each.actor for each in listed(as_admin, everybody=True)] == ["admin", "key:bob", "key:ann", "key:ann"]
    assert listed(Actor("local")) == []
    assert len(listed(Actor("local"), everybody=True)) == 4
    with pytest.raises(AdminsOnly, match="shown to admins"):
        listed(as_ann, everybody=True)
    first = listed(as_ann)[0]
    assert (first.address, first.role, first.ends_at - first.last_seen_at) == ("192.0.2.7", "editor", RULES.idle)


def test_pages_of_sessions_leave_none_out_and_repeat_none() -> None:
    made = [opened(TOKEN).id for _ in range(5)]
    found: list[UUID] = []
    after = None
    while True:
        page = list_sessions(ADMIN, RULES, everybody=False, limit=2, after=after)
        found += [each.id for each in page.items]
        if page.next_position is None:
            break
        assert isinstance(page.next_position, tuple)
        after = page.next_position
    assert found == made[::-1]


def test_a_session_is_ended_by_its_owner_or_an_admin_and_by_nobody_else() -> None:
    session, stranger = opened(key_of("ann").secret), holder_of(opened(key_of("bob").secret))
    assert stranger is not None
    for actor, id in ((stranger, session.id), (stranger, uuid4()), (ADMIN, uuid4())):
        with pytest.raises(NotFound, match="there is no session"):
            end_session(id, actor=actor)
    owner = holder_of(session)
    assert owner is not None
    end_session(session.id, actor=owner)
    assert holder_of(session) is None
    (ended,) = read("SELECT ended_at FROM sessions WHERE id = %(id)s", id=session.id)
    end_session(session.id, actor=ADMIN)  # it has ended already, and stays as it is
    assert read("SELECT ended_at FROM sessions WHERE id = %(id)s", id=session.id) == [ended]


def test_signing_out_everywhere_ends_the_sessions_of_this_person() -> None:
    ann = key_of("ann")
    here, there, bob, by_token = opened(ann.secret), opened(ann.secret), opened(key_of("bob").secret), opened(TOKEN)
    owner = holder_of(here)
    assert owner is not None
    assert end_own_sessions(owner) == 2
    assert [holder_of(each) is None for each in (here, there, bob, by_token)] == [True, True, False, False]
    assert end_own_sessions(ADMIN) == 1
    assert end_own_sessions(Actor("local")) == 0
    assert [holder_of(each) is None for each in (bob, by_token)] == [False, True]


def test_what_a_browser_says_about_itself_is_bounded_and_storable() -> None:
    opened(TOKEN, agent="\x00\udcff" + "x" * 10_000)
    (found,) = listed(ADMIN)
    assert found.user_agent == "?" + "x" * 255


def test_sessions_are_deleted_when_none_can_be_live_any_more() -> None:
    old, young = opened(TOKEN), opened(TOKEN)
    end_session(young.id, actor=ADMIN)
    move(old, "created_at", "29 days 23 hours")
    assert purge_old_sessions() == 0
    move(old, "created_at", "30 days 1 minute")
    assert purge_old_sessions() == 1
    assert [each["id"] for each in read("SELECT id FROM sessions")] == [young.id]


def test_a_database_without_the_table_has_no_sessions() -> None:
    session = opened(TOKEN)
    with transaction():
        execute("DROP TABLE sessions")
    assert holder_of(session) is None
