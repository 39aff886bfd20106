"""What looks like somebody's personal data: e-mail addresses, phone and account numbers, cards, public IP addresses.

Numbers with a checksum are reported only if it is right. What standards reserve for examples is
left alone. Excerpts show no more than the first characters of what was found.
"""

import re
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import NamedTuple

from dolly_assets.datasets.quality.finding import FlaggedRecord, QualityFinding, excerpt, finding
from dolly_assets.datasets.quality.records import Batch, Records

SHOWN_CHARACTERS = 2
EXAMPLE_DOMAINS = re.compile(
    r"(?i)[@.](example|test|invalid|localhost|example\.(com|net|org))$"
)  # RFC 2606


class Detector(NamedTuple):
    """A sort of personal data: how it reads in RE2 and in Python, and whether a match is really one."""

    kind: str
    pattern: str
    is_one: Callable[[str], bool]


def is_iban(text: str) -> bool:
    """ISO 13616: the letters as numbers, the first four characters last, modulo 97 is 1."""
    compact = text.replace(" ", "").upper()
    return (
        15 <= len(compact) <= 34
        and int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1
    )


def is_card(text: str) -> bool:
    """ISO/IEC 7812: 13 to 19 digits of a payment network's range with a right Luhn digit."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (
        13 <= len(digits) <= 19
        and digits[0] in (3, 4, 5, 6)
        and (sum(doubled) + sum(digits[::-2])) % 10 == 0
    )


def is_public_ip(text: str) -> bool:
    """A global IPv4 address, so none of private networks or documentation."""
    try:
        return ip_address(text).is_global and not text.startswith(("1.", "8.8."))
    except ValueError:
        return False


def is_phone(text: str) -> bool:
    """10 to 15 digits (ITU E.164), and none of the North American numbers 555-01xx that are reserved for fiction."""
    digits = re.sub(r"\D", "", text)
    return 10 <= len(digits) <= 15 and "555" not in digits[-7:-4] and len(set(digits)) > 3


SORTS = (
    Detector(
        "e-mail address",
        r"\b[A-Za-z0-9][A-Za-z0-9._%+-]*@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}\b",
        lambda text: not EXAMPLE_DOMAINS.search(text),
    ),
    Detector(
        "account number (IBAN)",
        r"\b[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?\b",
        is_iban,
    ),
    Detector("payment card", r"\b[3-6](?:[ -]?[0-9]){12,18}\b", is_card),
    Detector(
        "phone number",
        r"(?:\+[1-9][0-9]{0,2}[ .-]?(?:\(?[0-9]{1,4}\)?[ .-]?){2,5}|\(?\b[2-9][0-9]{2}\)?[ .-][2-9][0-9]{2}[ .-])"
        r"[0-9]{3,4}\b",
        is_phone,
    ),
    Detector("IP address", r"\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}\b", is_public_ip),
)


def personal_data(records: Records) -> QualityFinding:
    """Records with anything of `SORTS` in them."""
    return finding(
        "personal_data",
        len(records),
        (hit for batch in records.batches() for hit in _found_in(batch)),
    )


def _found_in(batch: Batch) -> Iterator[FlaggedRecord]:
    for kind, pattern, is_one in SORTS:
        for record, text in batch.matching(batch.example, pattern):
            if match := next((m for m in re.finditer(pattern, text) if is_one(m[0])), None):
                yield FlaggedRecord(record=record, kind=kind, excerpt=_masked(match))


def _masked(match: re.Match[str]) -> str:
    start, end = match.span()
    hidden = match[0][:SHOWN_CHARACTERS] + "*" * (end - start - SHOWN_CHARACTERS)
    return excerpt(match.string[:start] + hidden + match.string[end:], start, end)
