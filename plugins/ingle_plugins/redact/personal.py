"""Personal data that has a form of its own: addresses of mail, cards, accounts, telephones, addresses of the internet.

A pattern (RE2, so linear) only proposes; what decides is the check digit, the numbering plan or the registry that
python-stdnum, phonenumbers and the standard library know.
"""

import ipaddress
import unicodedata
from collections.abc import Iterator, Sequence

from ingle_plugins.linear import compiled
from ingle_plugins.redact.spans import Span

NUMERALS = {ord(sign): str(unicodedata.digit(sign)) for sign in map(chr, range(128, 0x11000)) if sign.isdecimal()}
"""The digits of other scripts, such as Bengali's."""
LOCAL = r"[\p{L}\p{N}.!#$%&'*+/=?^_`{|}~-]{1,64}$"
DOMAIN = r"^(?:[\p{L}\p{N}](?:[\p{L}\p{N}-]{0,61}[\p{L}\p{N}])?\.){1,8}(?:xn--[A-Za-z0-9-]{2,59}|\p{L}{2,63})"
DIGITS = r"\b[0-9](?:[ -]?[0-9]){11,}\b"
IBAN_BEGINS = r"(?i)\b[A-Z]{2}[0-9]{2}"
IBAN = r"(?i)^[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]{1,4}){3,10}"
IBAN_LONGEST = 48
"""A little more than 34 characters with spaces between groups of four."""
IPV4 = r"(?:[0-9]{1,3}\.){3}[0-9]{1,3}"
IPV6 = r"(?i)(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}"
PHONE = r"(?:\(?\+ ?\(?|\(|\b)[0-9](?:[ ./()-]{0,3}[0-9]){6,16}(?: ?(?:x|ext\.?) ?[0-9]{1,6})?\b"
CUE = (
    r"(?i)(?:\b(?:tel|tele?(?:ph|f)on\w*|tel[eé]fono|phone|mobile?|handy|cell|cellulare|fax|call|text|whatsapp|number|"
    r"n[uú]mero|portable|telemóvel|anrufen|ruf|rufnummer|appele[rz]?|llam\w+|puhelin)\b|☎|📞)"
)
CUES = rf"{CUE}\W{{0,12}}(?:\w{{1,12}}\W{{1,3}}){{0,3}}$"
GROUPED = r"^(?:\([0-9]{2,5}\)[ /-]?|[0-9]{2,5}[ /.-])[0-9]{2,8}(?:[ .-][0-9]{2,5}){0,4}(?: ?(?:x|ext).*)?$"
NORTH_AMERICAN = r"^(?:1[ .-])?(?:\([0-9]{3}\) ?|[0-9]{3}[.-])[0-9]{3}[ .-][0-9]{4}(?: ?(?:x|ext).*)?$"
DATE = r"\b(?:19|20)[0-9]{2}-[01][0-9]-[0-3][0-9]\b"
NO_PHONE = (
    r"^(?:[0-9]{1,2}[-./ ][0-9]{1,2}[-./ ][0-9]{4}|[0-9]{4}[-./][0-9]{1,2}[-./][0-9]{1,2}"  # dates
    r"|(?:19|20)[0-9]{2}[-/](?:19|20)?[0-9]{2}$|[0-9]+\.[0-9]+$|0?1234567)"  # years, fractions, 0123456789
)
AROUND = 60
"""Characters before a number in which a word may say that it is a telephone's, or is none."""
COUNTED = (
    r"(?:(?i:\b(?:sections?|chapter|clause|version|release|bugs?|issues?|pep|rfc)|§)[ #(=-]{0,3}"
    r"|\b(?:ISO|IEC|IEEE|DIN)(?:[-/ ][A-Z]{1,4})?[ -]?)$"
)
"""Behind this a number is that of a standard, a part of a text or a version."""
JOINED = r"(?:[A-Za-z]-|[0-9][eE]\+|[0-9)\]] ?\+ )$"
"""Behind this a number is a part of a name (CVE-2019-9740), an exponent or a summand (1 + 2)."""


def find_emails(text: str) -> Iterator[Span]:
    """Yield where addresses of mail stand, also at `example.com`, before which a name may be a true one."""
    at = text.find("@")
    while at >= 0:
        domain = compiled(DOMAIN).search(text[at + 1 : at + 256])
        local = compiled(LOCAL).search(text[max(0, at - 64) : at]) if domain else None
        if local and domain:
            name = local.group().lstrip("'*`{/=|.!#$%&?^~")  # quoted, or in a path
            if name:
                yield Span(at - len(name), at + 1 + domain.end(), "email")
        at = text.find("@", at + 1)


def find_cards(text: str) -> Iterator[Span]:
    """Yield where numbers of payment cards stand: an issuer's prefix, its length, and Luhn's digit."""
    from stdnum import luhn

    text = latin_numerals(text)
    for match in compiled(DIGITS).finditer(text):
        groups = [found.span() for found in compiled(r"[0-9]+").finditer(match.group())]
        for first, (start, _) in enumerate(groups):  # other numbers may stand directly before and behind
            digits = ""
            for begin, end in groups[first : first + CARD_GROUPS]:
                digits += match.group()[begin:end]
                if len(digits) > 19:
                    break
                if len(digits) >= 12 and issued(digits) and luhn.is_valid(digits):
                    yield Span(match.start() + start, match.start() + end, "card")


CARD_GROUPS = 7


def latin_numerals(text: str) -> str:
    """Return the text with 0 to 9 for the digits of all scripts, each in its place."""
    return text.translate(NUMERALS) if compiled(r"[^\P{Nd}0-9]").search(text) else text


def issued(digits: str) -> bool:
    """Tell whether an issuer of cards (ISO/IEC 7812) has numbers of this beginning and length."""
    length, two, four = len(digits), int(digits[:2]), int(digits[:4])
    if digits[0] == "4":  # Visa
        return length in (13, 16, 19)
    if two in (34, 37) or four in (1800, 2131):  # American Express, old JCB
        return length == 15
    if two in (30, 36, 38, 39):  # Diners
        return length in (14, 16)
    if 51 <= two <= 55 or 2221 <= four <= 2720 or two == 35:  # Mastercard, Mir, JCB
        return length == 16
    return (two == 50 or 56 <= two <= 69) and length in (12, 16, 19)  # Discover, UnionPay, Maestro, RuPay


def find_ibans(text: str) -> Iterator[Span]:
    """Yield where numbers of bank accounts stand: a country's length and the check digits."""
    from stdnum import iban

    for match in compiled(IBAN_BEGINS).finditer(text):
        begin = match.start()
        taken = compiled(IBAN).search(text[begin : begin + IBAN_LONGEST])
        words = taken.group().split(" ") if taken else []
        while words:  # the pattern may have taken words behind the number
            candidate = " ".join(words)
            # Without the check of a bank's own digits: one more wrong number must not make a real account visible.
            if iban.is_valid(candidate, check_country=False):
                yield Span(begin, begin + len(candidate), "iban")
                break
            words.pop()


def find_addresses(text: str) -> Iterator[Span]:
    """Yield where addresses of the internet stand that are somebody's: no private, loopback or reserved ones."""
    for pattern, sign, least in ((IPV4, ".", r"[0-9]\.[0-9]"), (IPV6, ":", ":[0-9a-fA-F]{0,4}:")):
        if not compiled(least).search(text):
            continue
        for match in compiled(pattern).finditer(text):
            start, end = match.span()
            if goes_on(text[max(0, start - 1) : start], text[end : end + 2], sign):
                continue
            if compiled(COUNTED).search(text[max(0, start - AROUND) : start]):
                continue
            try:
                address = ipaddress.ip_address(match.group())
            except ValueError:
                continue
            # Of version 6 only what is given out to anybody, 2000::/3: `[::2]` is a slice in many programs.
            given_out = address.version == 4 or int(address) >> 125 == 1
            if given_out and address.is_global and not address.is_multicast:
                yield Span(start, end, "ip")


def goes_on(before: str, behind: str, sign: str) -> bool:
    """Tell whether what stands beside an address makes it a part of something longer: of a version or a name."""
    if before and (before.isalnum() or before in "_.:"):
        return True
    first, second = behind[:1], behind[1:]
    return first.isalnum() or first == "_" or (first == sign and bool(second) and (second.isalnum() or second == sign))


def find_phones(text: str, regions: Sequence[str]) -> Iterator[Span]:
    """Yield where numbers of telephones stand.

    A number with its country's code must be possible there, and any other possible in one of the regions: with a word
    before it that says so, or if it is written as only telephone numbers are, or if it begins with 0 and is in use.
    """
    text = latin_numerals(text)
    cues, some = compiled(CUES), compiled(CUE).search(text) is not None
    for match in compiled(PHONE).finditer(text):
        number, start = match.group(), match.start()
        before = text[max(0, start - AROUND) : start]
        cue = some and cues.search(before) is not None
        if not cue and ((number[0] != "0" and number.isdigit()) or belongs(number, before)):
            continue  # a plain number: tables are full of them
        if compiled(DATE).search(number):
            continue
        for _ in range(MOST_GROUPS):  # other numbers may stand directly behind
            if is_phone(number, cue, regions):
                yield Span(start, start + len(number), "phone")
                break
            shorter = compiled(LAST_GROUP).search(number)
            if shorter is None or compiled(FRACTION).search(number) or not (cue or number.startswith(("+", "(+"))):
                break
            number = number[: shorter.start()]


LAST_GROUP = r"[ ./()-]+[0-9]+[^0-9]*$"
MOST_GROUPS = 5
FRACTION = r"^\+[0-9]+\.[0-9]+$"


def belongs(number: str, before: str) -> bool:
    """Tell whether what stands before a number makes it a part of something else."""
    if number[0] == "+":
        return compiled(JOINED).search(before + number[: len(number) - len(number.lstrip("+ "))]) is not None
    return compiled(JOINED).search(before) is not None or compiled(COUNTED).search(before) is not None


def is_phone(number: str, cue: bool, regions: Sequence[str]) -> bool:
    """Tell whether this is a telephone's number; `cue`: a word before it says so."""
    if number.startswith(("+", "(+")):
        fraction = number.count(".") == 1  # +3.14
        return not fraction and possible("+" + number.lstrip("(+ "), None)
    if cue:
        return any(possible(number, region) for region in regions)
    if compiled(NO_PHONE).search(number):
        return False
    if compiled(NORTH_AMERICAN).search(number):
        return True
    if number.startswith("00") and number[2:3] != "0" and possible("+" + number[2:], None):
        return "." not in number
    return looks_dialled(number) and any(valid(number, region) for region in regions)


def looks_dialled(number: str) -> bool:
    """Tell whether digits are written as telephone numbers are, and not as amounts, versions and tables."""
    digits = sum(map(str.isdigit, number))
    if not 8 <= digits <= 13:
        return False
    if number.isdigit():
        return number[0] == "0"
    return bool(compiled(GROUPED).search(number)) and (number[0] in "0(" or "." not in number)


def possible(number: str, region: str | None) -> bool:
    """Tell whether a number has a length that exists."""
    import phonenumbers

    try:
        return bool(phonenumbers.is_possible_number(phonenumbers.parse(number, region)))
    except phonenumbers.NumberParseException:
        return False


def valid(number: str, region: str) -> bool:
    """Tell whether a number is one that a region gives out."""
    import phonenumbers

    try:
        return bool(phonenumbers.is_valid_number(phonenumbers.parse(number, region)))
    except phonenumbers.NumberParseException:
        return False
