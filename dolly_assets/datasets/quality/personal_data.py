"""What looks like personal data: e-mail addresses, phone, account and card numbers, IP addresses.

Numbers with a checksum are reported only if it is correct. What standards reserve for examples is
not reported. Excerpts show no more than the first characters of what was found.
"""

import re
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from typing import NamedTuple

from dolly_assets.datasets.quality.finding import FlaggedRecord, QualityFinding, excerpt, finding
from dolly_assets.datasets.quality.records import Batch, Records

SHOWN_CHARACTERS = 2
# RFC 2606
EXAMPLE_DOMAINS = re.compile(r"(?i)[@.](example|test|invalid|localhost|example\.(com|net|org))$")


class Detector(NamedTuple):
    """A kind of personal data.

    Attributes:
        kind: Its name.
        pattern: A pattern that RE2 and Python read alike.
        is_one: Whether a match really is one.
    """

    kind: str
    pattern: str
    is_one: Callable[[str], bool]


def is_iban(text: str) -> bool:
    """Whether an ISO 13616 checksum is correct: with letters as numbers, modulo 97 is 1."""
    compact = text.replace(" ", "").upper()
    return (
        15 <= len(compact) <= 34
        and int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1
    )


def is_card(text: str) -> bool:
    """Whether 13 to 19 digits are a payment card's (ISO/IEC 7812), with a correct Luhn digit."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = [digit * 2 - 9 * (digit > 4) for digit in digits[-2::-2]]
    return (
        13 <= len(digits) <= 19
        and digits[0] in (3, 4, 5, 6)
        and (sum(doubled) + sum(digits[::-2])) % 10 == 0
    )


def is_public_ip(text: str) -> bool:
    """Whether an IPv4 address is global, so not of a private network or documentation."""
    try:
        return ip_address(text).is_global and not text.startswith(("1.", "8.8."))
    except ValueError:
        return False


def is_phone(text: str) -> bool:
    """Whether 10 to 15 digits (ITU E.164) are no number that is reserved for fiction (555-01xx)."""
    digits = re.sub(r"\D", "", text)
    return 10 <= len(digits) <= 15 and "555" not in digits[-7:-4] and len(set(digits)) > 3


DETECTORS = (
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
        r"(?:\+[1-9][0-9]{0,2}[ .-]?(?:\(?[0-9]{1,4}\)?[ .-]?){2,5}|\(?\b[2-9][0-9]{2}\)?[ "
        r".-][2-9][0-9]{2}[ .-])[0-9]{3,4}\b",
        is_phone,
    ),
    Detector("IP address", r"\b[0-9]{1,3}(?:\.[0-9]{1,3}){3}\b", is_public_ip),
)


def personal_data(records: Records) -> QualityFinding:
    """Find records with anything that one of `DETECTORS` finds."""
    return finding(
        "personal_data",
        len(records),
        (hit for batch in records.answers() for hit in _found_in(batch)),
    )


def _found_in(batch: Batch) -> Iterator[FlaggedRecord]:
    for kind, pattern, is_one in DETECTORS:
        for record, text in batch.matching(batch.everything, pattern):
            if match := next((m for m in re.finditer(pattern, text) if is_one(m[0])), None):
                yield FlaggedRecord(record=record, kind=kind, excerpt=_masked(match))


def _masked(match: re.Match[str]) -> str:
    start, end = match.span()
    hidden = match[0][:SHOWN_CHARACTERS] + "*" * (end - start - SHOWN_CHARACTERS)
    return excerpt(match.string[:start] + hidden + match.string[end:], start, end)
