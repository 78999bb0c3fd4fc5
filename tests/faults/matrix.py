"""The fault matrix: what goes wrong, where, and what must come of it.

`WEB` are faults of an address, walked by ``test_web.py``; `MACHINE` are those of processes, disks,
permissions and tars, each named like the test in ``test_machine.py`` that brings it about, and
`IMAGES` those of packing images, in ``test_images.py``.
"""

import time
from dataclasses import dataclass
from email.utils import formatdate

from tests.faults.server import Answer


@dataclass(frozen=True)
class WebFault:
    """A fault of the first of two addresses.

    Attributes
    ----------
    name : str
    answer : Answer or str
        What that address answers; or its URL, where no server is behind it.
    cause : str
        Regular expression of what the error says when there is no second address.
    is_survived_alone : bool
        Whether the first address gives the file in the end.
    requests : int or None
        How often it is asked, exactly; None where it cannot count.
    """

    name: str
    answer: Answer | str
    cause: str = ""
    is_survived_alone: bool = False
    requests: int | None = 1


PAGE = b"<!DOCTYPE html><title>Sign in to the network</title>"
CUT = 30_000  # of the 50,128 bytes of a mask


def raw(*lines: str, body: bytes = b"", then: bytes = b"", seconds: float = 0) -> Answer:
    """Return an answer byte by byte: status line, headers and body, then more without end."""
    head = "".join(f"{line}\r\n" for line in lines).encode("latin-1")
    return Answer(raw=head + (b"\r\n" if body or not then else b"") + body,
                  then_forever=then, seconds_between=seconds)  # fmt: skip


OK, FOUND = "HTTP/1.1 200 OK", "HTTP/1.1 302 Found"
NINES = "9" * 5000

WEB = (
    WebFault("refused", "http://127.0.0.1:9", "refuses connections", requests=None),
    WebFault("no such name", "http://nowhere.invalid", "cannot be resolved", requests=None),
    WebFault("hangs up", "hangs up", "cannot be reached", requests=None),
    WebFault("silent", Answer(seconds_before=5), "sent no answer within 1 s"),
    WebFault("stalls", Answer(stall_at=CUT), "sent nothing more for 1 s"),
    WebFault("trickles", Answer(bytes_per_second=200), "too slow"),
    *(
        WebFault(f"status {status}", Answer(status=status), f"answered {status} ")
        for status in (400, 401, 403, 404, 410, 500, 502, 504)
    ),
    WebFault("status 204", Answer(status=204, body=b""), "answered 204"),
    WebFault("503 without Retry-After", Answer(status=503), "answered 503"),
    WebFault(
        "429 for a second",
        Answer(status=429, headers={"Retry-After": "1"}, times=1),
        is_survived_alone=True,
        requests=2,
    ),
    WebFault(
        "503 until a date",
        Answer(status=503, headers={"Retry-After": formatdate(time.time(), usegmt=True)}, times=2),
        is_survived_alone=True,
        requests=3,
    ),
    WebFault(
        "429 for an hour",
        Answer(status=429, headers={"Retry-After": "3600"}),
        "answered 429 .* and asks to wait 3,600 s",
    ),
    WebFault(
        "503 again and again",
        Answer(status=503, headers={"Retry-After": "1"}),
        "answered 503",
        requests=3,  # with RETRY_AFTER_SECONDS at 2 in the tests
    ),
    WebFault("web page", Answer(body=PAGE), "52 bytes that look like a web page"),
    WebFault(
        "web page of no length",
        Answer(body=PAGE, says_length=False),
        "look like a web page",
    ),
    WebFault("empty body", Answer(body=b""), "offers 0 bytes"),
    WebFault("empty body of no length", Answer(body=b"", says_length=False), "holds 0 bytes"),
    WebFault("too long", Answer(body=bytes(60_000)), "offers 60,000 bytes"),
    WebFault(
        "too long, of no length", Answer(body=bytes(60_000), says_length=False), "sends more than"
    ),
    WebFault("one bit wrong", Answer(flips_bit=True), "of sha256"),
    WebFault("cut off", Answer(cut_at=CUT), "broke off"),
    WebFault("cut off at the first byte", Answer(cut_at=0), "broke off|cannot be reached"),
    WebFault("short, of no length", Answer(body=bytes(100), says_length=False), "holds 100 bytes"),
    WebFault(
        "redirects in a circle",
        Answer(status=302, headers={"Location": "/round"}),
        "redirects too often",
        requests=None,
    ),
    WebFault("headers that drip", raw(OK, then=b"X", seconds=0.05), "sent no answer within 1 s"),
    WebFault(
        "100 Continue again and again",
        raw(then=b"HTTP/1.1 100 Continue\r\n\r\n"),
        "sent no answer within 1 s",
    ),
    WebFault(
        "100 Continue now and then",
        raw(then=b"HTTP/1.1 100 Continue\r\n\r\n", seconds=0.05),
        "sent no answer within 1 s",
    ),
    WebFault("no first byte of the body", Answer(stall_at=0), "sent nothing more for 1 s"),
    WebFault(
        "a chunk size that drips",
        raw(OK, "Transfer-Encoding: chunked", body=b"1", then=b"0", seconds=0.05),
        "sent nothing more for 1 s",
    ),
    WebFault(
        "trailers without end",
        raw(OK, "Transfer-Encoding: chunked", body=b"0\r\n", then=b"X: y\r\n"),
        "sent nothing more for 1 s",
    ),
    WebFault(
        "a redirect with an endless body",
        raw(FOUND, "Location: /nowhere", body=b"x", then=bytes(1 << 16)),
        "redirects too often",
        requests=None,
    ),
    WebFault(
        "a redirect with a slow body",
        raw(FOUND, "Location: /nowhere", body=b"x", then=b"x", seconds=0.05),
        "redirects too often",
        requests=None,
    ),
    *(
        WebFault(f"redirect to {name}", raw(FOUND, f"Location: {location}"), cause, requests=None)
        for name, location, cause in (
            ("a file", "file:///etc/passwd", "leads to file:///etc/passwd, which is not http or h"),
            ("a broken address", "http://[bad/", "leads to an address that is none"),
            ("bytes of no text", "http://\xff\xfe/", "leads to|resolved|failed"),
            ("control characters", "ftp://a/\x1b[31m", r"leads to ftp://a/.*\[31m, which is not"),
            ("a very long address", "ftp://a/" + "b" * 60_000, "leads to ftp://a/b+…, which is"),
            ("a port of no number", "http://127.0.0.1:x/", "leads to an address that is none"),
            ("nothing", "", "redirects too often|answered 302"),
        )
    ),
    WebFault(
        "a length of 5,000 digits", raw(OK, f"Content-Length: {NINES}", body=b"x"), "holds 1 b"
    ),
    WebFault("a negative length", raw(OK, "Content-Length: -5", body=b"x"), "holds 1 bytes"),
    WebFault("two lengths", raw(OK, "Content-Length: 1, 2", body=b"x"), "holds 1 bytes"),
    *(
        WebFault(
            f"Retry-After {name}",
            raw("HTTP/1.1 503 Busy", f"Retry-After: {value}", "Content-Length: 0"),
            cause,
        )
        for name, value, cause in (
            ("of 5,000 digits", NINES, "answered 503 Busy and asks to wait 1,000,000,000 s"),
            ("in year 99999999999", "Mon, 01 Jan 99999999999 00:00:00 GMT", "answered 503 Busy$"),
            ("of no sense", "Mon, \xff \x00", "answered 503 Busy$"),
        )
    ),
    WebFault(
        "a reason with control characters",
        raw("HTTP/1.1 404 \x1b]0;owned\x07" + "x" * 5000),
        r"answered 404 \\x1b\]0;owned\\x07x+…$",
    ),
    WebFault("a status of no number", raw("HTTP/1.1 abc OK"), "something that is not HTTP"),
    WebFault("another protocol", raw("SSH-2.0-OpenSSH_9.2"), "something that is not HTTP"),
    WebFault("a header of 70 kB", raw(OK, "X: " + "y" * 70_000), "something that is not HTTP"),
    WebFault("2,000 headers", raw(OK, *["X: y"] * 2000), "something that is not HTTP"),
    WebFault(
        "headers of no sense",
        raw(OK, "\xff\xfe\x00", ": :", "Set-Cookie: \xff=", body=b"x"),
        "holds 1 b",
    ),
    WebFault(
        "a chunk size of no number",
        raw(OK, "Transfer-Encoding: chunked", body=b"zz\r\n"),
        "broke off",
    ),
    WebFault("a negative chunk size", raw(OK, "Transfer-Encoding: chunked", body=b"-5\r\n"), "."),
    WebFault("206 unasked for", raw("HTTP/1.1 206 Partial", "Content-Length: 0"), "answered 206"),
)

MACHINE = {
    "many_cold_processes": "one request per file, every file right",
    "locks_granted_to_everyone": "every file right",
    "one_large_file_and_locks_granted_to_everyone": "every file right, nothing left",
    "lock_held_for_ever": "goes on without it after the stated time",
    "lock_of_a_dead_process": "no delay",
    "locks_not_supported": "goes on without them",
    "killed_while_receiving": "absent or right; the next run continues by Range",
    "terminated_while_receiving": "absent or right; the next run continues by Range",
    "range_ignored": "a full download, right",
    "leftover_of_other_bytes": "begun again, right",
    "leftover_complete": "no request, right",
    "prune_with_a_live_process": "its file stays and is finished; an old one is removed",
    "leftover_is_a_link": "neither followed nor written through, right",
    "leftover_is_a_pipe": "not opened, right",
    "part_removed_while_it_is_written": "written again from what is held open, right",
    "umask": "0666 less the umask",
    "group_shared_cache": "group and setgid are inherited",
    "warm_cache_of_another_user": "read, without one attempt to write",
    "cache_on_a_read_only_mount": "warm: read, without one attempt to write; cold: one clear error",
    "disk_full": "one clear error, nothing left",
    "file_size_limit": "one clear error, nothing left",
    "odd_path": "right",
    "offline": "no socket; says what is missing",
    "https_to_http": "refused",
    "credentials": "never shown",
    "interrupted": "ends within a second, nothing wrong",
}

IMAGES = {
    "images_of_ranks_that_start_late": "every one right; one download where there are locks",
    "images_packed_and_removed_while_they_are_found": "looked for again, right",
    "images_packed_by_two_where_locks_are_granted_to_everyone": "both right, no part removed",
    "images_of_a_stopped_packer": "the others go on after the stated time; it ends well too",
}
