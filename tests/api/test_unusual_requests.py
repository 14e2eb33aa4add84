"""Requests that nobody should send, each with the answer that the documentation gives: encodings, numbers, paths."""

from __future__ import annotations

import gzip
import json
import resource
import zlib

import pytest

from tests.api.client import NEW_RUN, Api
from tests.support.raw_http import answer_to

JSON = {"Content-Type": "application/json"}
RAW = json.dumps(NEW_RUN).encode()
MIB = 1024 * 1024
NOBODY = "01a20c66-c2a9-70b2-9d9f-0558575aa31b"


def bomb_of(mib: int, wbits: int) -> bytes:
    """Return so many MiB of spaces as zlib compresses them, without an end: it is compressed once and repeated."""
    compressor, spaces = zlib.compressobj(wbits=wbits), b" " * MIB
    first, further = (compressor.compress(spaces) + compressor.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + further * (mib - 1)


class TestEncodings:
    """Bytes that are not UTF-8, or that are compressed."""

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
    async def test_wide_characters_are_named_as_what_they_are(self, refusing: Api, encoding: str) -> None:
        problem = (await refusing.post_raw("/runs", RAW.decode().encode(encoding))).problem(400, "malformed_json")
        assert problem["detail"].endswith("it is UTF-16 or UTF-32; send UTF-8 without a byte-order mark")

    async def test_a_byte_order_mark_is_named(self, refusing: Api) -> None:
        problem = (await refusing.post_raw("/runs", b"\xef\xbb\xbf" + RAW)).problem(400, "malformed_json")
        assert "begins with a byte-order mark" in problem["detail"]

    @pytest.mark.parametrize("charset", ["utf-8", "UTF-8", "iso-8859-1", "utf-16"])
    async def test_the_bytes_are_utf_8_whatever_charset_is_given(self, api: Api, charset: str) -> None:
        # RFC 8259 defines no such parameter.
        headers = {"Content-Type": f"application/json; charset={charset}"}
        assert (await api.post_raw("/runs", RAW, headers)).status == 201

    @pytest.mark.parametrize(
        ("encoding", "body"),
        [
            ("gzip", gzip.compress(RAW, mtime=0)),
            ("GZIP", gzip.compress(RAW, mtime=0)),
            ("deflate", zlib.compress(RAW)),
            ("identity", RAW),
        ],
    )
    async def test_a_known_compression_is_undone(self, api: Api, encoding: str, body: bytes) -> None:
        assert (await api.post_raw("/runs", body, JSON | {"Content-Encoding": encoding})).status == 201

    @pytest.mark.parametrize(
        "encoding", ["br", "zstd", "snappy", "x-gzip", "compress", "gzip, gzip", "gzip, br", "aws-chunked"]
    )
    async def test_an_unknown_compression_is_refused(self, refusing: Api, encoding: str) -> None:
        response = await refusing.post_raw("/runs", RAW, JSON | {"Content-Encoding": encoding})
        assert "gzip or deflate" in response.problem(415, "unsupported_media_type")["detail"]

    @pytest.mark.parametrize(
        ("encoding", "wbits"),
        [("gzip", 31), ("deflate", 15), ("deflate", -15)],
        ids=["gzip", "deflate", "deflate without its header"],
    )
    async def test_a_bomb_is_refused_before_it_has_unpacked(self, refusing: Api, encoding: str, wbits: int) -> None:
        bomb = bomb_of(400, wbits)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        response = await refusing.post_raw("/runs", bomb, JSON | {"Content-Encoding": encoding})
        response.problem(413, "body_too_large")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 40 * 1024  # KiB: a tenth of the bomb

    async def test_a_bomb_within_a_bomb_is_no_json(self, refusing: Api) -> None:
        bomb = gzip.compress(gzip.compress(b" " * (50 * MIB)))
        (await refusing.post_raw("/runs", bomb, JSON | {"Content-Encoding": "gzip"})).problem(400, "malformed_json")


class TestNumbers:
    """JSON has one kind of number, of any size; the API's have bounds."""

    @pytest.mark.parametrize("number", ["9007199254740993", "1e308", "1" + "0" * 400, "-9223372036854775809", "1e400"])
    async def test_a_number_out_of_bounds_is_refused(self, refusing: Api, number: str) -> None:
        brand = await refusing.post_raw("/brands", f'{{"name": "x", "max_running": {number}}}')
        assert brand.wrong(422, "invalid_input") == {"/max_running"}
        bulk = await refusing.post_raw("/queue/cancel", f'{{"dry_run": true, "older_than_seconds": {number}}}')
        assert bulk.wrong(422, "invalid_input") == {"/older_than_seconds"}

    @pytest.mark.parametrize(("written", "read"), [("5.0", 5), ("0.5e1", 5), ("1E2", 100), ("1e+2", 100)])
    async def test_a_whole_number_may_be_written_with_a_fraction_or_an_exponent(
        self, api: Api, written: str, read: int
    ) -> None:
        response = await api.post_raw("/brands", f'{{"name": "x", "max_running": {written}}}')
        assert response.json()["max_running"] == read

    @pytest.mark.parametrize("number", ["5.5", "1e-1", '"5"', "true", "[5]"])
    async def test_anything_else_is_no_whole_number(self, refusing: Api, number: str) -> None:
        response = await refusing.post_raw("/brands", f'{{"name": "x", "max_running": {number}}}')
        assert response.wrong(422, "invalid_input") == {"/max_running"}

    @pytest.mark.parametrize("number", ["9007199254740993", "9" * 30, "1e2", "5.0", "0x1", "+1", " 1", "1_0", "٣"])
    async def test_a_parameter_is_written_in_digits_alone(self, refusing: Api, number: str) -> None:
        response = await refusing.request("GET", f"/runs?limit={_quoted(number)}")
        assert response.wrong(422, "invalid_parameter") == {"limit"}

    async def test_ids_of_events_are_exact_beyond_2_to_the_53(self, api: Api) -> None:
        id = (await api.create_run())["id"]
        assert (await api.get(f"/runs/{id}/events?after={2**53 + 1}")).status == 200
        assert (await api.get(f"/runs/{id}/events?after={2**63}")).wrong(422, "invalid_parameter") == {"after"}


class TestPaths:
    """An address is matched letter by letter; nothing is corrected, and nobody is redirected."""

    @pytest.mark.parametrize(
        "path",
        [
            *("//api/v2/runs", "/api//v2/runs", "/api/v2//runs", "/api/v2/runs/", "/api/v2/runs//", "/api/v2/", "/api"),
            *(f"/api/v2/runs//{NOBODY}", f"/api/v2/runs/{NOBODY}//events", "/api/v2/./runs", "/api/v2/runs/../runs"),
            *("/api/v2/runs/%2e%2e/runs", "/api%2Fv2/runs", f"/api/v2/runs%2F{NOBODY}", "/api/v2/health%2Flive"),
            *("/api/v2/runs;x=1", "/api/v2/RUNS", "/API/v2/runs", "/api/v2/runs%20", "/api/v2/%00", "/api/v2/runs%00"),
        ],
    )
    async def test_another_address_has_nothing(self, refusing: Api, path: str) -> None:
        response = await answer_to(refusing.base_url, _request("GET", path))
        response.problem(404, "not_found")
        assert "Location" not in response.headers

    @pytest.mark.parametrize("path", ["/api/v2/%72uns", "/%61pi/v2/runs", "/api/v2/runs?%6Cimit=1", "/api/v2/runs?&&"])
    async def test_percent_encoded_letters_are_those_letters(self, refusing: Api, path: str) -> None:
        assert (await answer_to(refusing.base_url, _request("GET", path))).status == 200

    @pytest.mark.parametrize("name", ["content%5Fcalendar", "%63ontent_calendar"])
    async def test_values_in_a_path_are_decoded_once(self, refusing: Api, name: str) -> None:
        assert (await refusing.get(f"/workflows/{name}")).json()["name"] == "content_calendar"
        (await refusing.get(f"/workflows/{name.replace('%', '%25')}")).problem(404, "not_found")

    @pytest.mark.parametrize(
        "name", ["%zz", "%", "%C0%AF", "%FF", "%00", "a%2Fb", "..%2Fruns", "%E2%80%AE", "caf%C3%A9"]
    )
    async def test_any_value_is_a_name_that_there_is_not(self, refusing: Api, name: str) -> None:
        (await refusing.get(f"/workflows/{name}")).problem(404, "not_found")
        (await refusing.get(f"/runs/{name}")).problem(404, "not_found")

    async def test_the_encoding_of_a_path_opens_no_door(self, refusing_managed: Api) -> None:
        # The probes need no credentials, and what is only written like them does.
        for path in ("/health/%2e%2e/runs", "/health/live/../../runs", "/health/live%2F..%2F..%2Fruns", "/%72uns"):
            assert (await refusing_managed.get(path)).status in (401, 404)
        assert (await refusing_managed.get("/%72uns")).status == 401


class TestMethods:
    """HEAD and OPTIONS on every operation, and methods that no operation has."""

    async def test_every_get_can_be_asked_as_head(self, api: Api) -> None:
        id = (await api.create_run())["id"]
        for path in ("/runs", f"/runs/{id}", f"/runs/{id}/events", f"/runs/{id}/archive", "/openapi.json", "/queue"):
            head, get = await api.request("HEAD", path), await api.get(path)
            assert (head.status, head.body) == (get.status, b"") == (200, b""), path
            assert head.headers["Content-Type"] == get.headers["Content-Type"]

    async def test_head_of_a_stream_ends_at_once(self, api: Api) -> None:
        id = (await api.create_run())["id"]
        head = await api.request("HEAD", f"/runs/{id}/events", headers={"Accept": "text/event-stream"})
        assert (head.status, head.body) == (200, b"")
        assert head.headers["Content-Type"].startswith("text/event-stream")

    @pytest.mark.parametrize("path", ["/runs", f"/runs/{NOBODY}", "/brands", "/queue/pause", "/health/ready"])
    async def test_options_lists_what_is_possible(self, refusing: Api, path: str) -> None:
        response = await refusing.request("OPTIONS", path)
        assert (response.status, response.body) == (204, b"")
        assert "OPTIONS" in response.headers["Allow"].split(", ")

    @pytest.mark.parametrize("sent", [("OPTIONS", "*"), ("OPTIONS", "/api/v2/nothing"), ("OPTIONS", "//api/v2/runs")])
    async def test_options_of_nothing_is_nothing(self, refusing: Api, sent: tuple[str, str]) -> None:
        (await answer_to(refusing.base_url, _request(*sent))).problem(404, "not_found")

    @pytest.mark.parametrize("method", ["TRACE", "QUERY", "PROPFIND", "PUT", "DELETE", "LINK"])
    async def test_another_method_gets_the_list(self, refusing: Api, method: str) -> None:
        response = await answer_to(refusing.base_url, _request(method, "/api/v2/runs"))
        response.problem(405, "method_not_allowed")
        assert response.headers["Allow"] == "GET, HEAD, OPTIONS, POST"


class TestBodiesInPieces:
    """Chunked bodies, whole and broken, and bodies that nobody reads."""

    @pytest.mark.parametrize(
        "pieces",
        [
            b"%x\r\n%s\r\n0\r\n\r\n" % (len(RAW), RAW),
            b"%X;name=value\r\n%s\r\n0\r\n\r\n" % (len(RAW), RAW),
            b"%x\r\n%s\r\n0\r\nX-Trailer: 1\r\n\r\n" % (len(RAW), RAW),
            b"".join(b"1\r\n%c\r\n" % byte for byte in RAW) + b"0\r\n\r\n",
        ],
        ids=["one chunk", "an extension", "a trailer", "a byte each"],
    )
    async def test_a_chunked_body_is_a_body(self, api: Api, pieces: bytes) -> None:
        sent = _request("POST", "/api/v2/runs", **JSON, **{"Transfer-Encoding": "chunked"}) + pieces
        assert (await answer_to(api.base_url, sent)).status == 201

    @pytest.mark.parametrize("pieces", [b"zz\r\n" + RAW, b"-1\r\n" + RAW, b"5\r\n" + RAW + b"\r\n0\r\n\r\n"])
    async def test_a_broken_chunk_is_refused(self, refusing: Api, pieces: bytes) -> None:
        sent = _request("POST", "/api/v2/runs", **JSON, **{"Transfer-Encoding": "chunked"}) + pieces
        assert (await answer_to(refusing.base_url, sent)).status == 400

    async def test_a_chunked_body_without_a_chunk_is_empty(self, refusing: Api) -> None:
        sent = _request("POST", "/api/v2/runs", **JSON, **{"Transfer-Encoding": "chunked"}) + b"0\r\n\r\n"
        (await answer_to(refusing.base_url, sent)).problem(400, "empty_body")

    async def test_a_body_of_get_is_read_by_nobody(self, refusing: Api) -> None:
        response = await refusing.request("GET", "/runs", data=b"{nonsense", headers=JSON)
        assert response.status == 200


def _request(method: str, path: str, **headers: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02X}" for byte in text.encode())
