"""What of redact's findings in Python's standard library is true, and what is wrong. Pure.

True is what names somebody: the mail address of a person who can have it, and a person's name where the text beside
it says that it is one, or that is in a list here. Addresses of mailing lists and offices, of domains that nobody can
have, and of invented people are wrong. So is whatever else is found: no telephone number, card, address of a machine
or secret in the library is anybody's. What neither a rule nor a list knows is wrong, so that nothing is forgotten.
"""

import re

RESERVED = re.compile(r"(?:^|\.)(?:example(?:\.(?:com|net|org))?|test|invalid|localhost)$", re.IGNORECASE)
"""RFC 2606 and RFC 6761."""
TOP = re.compile(r"\.(?:com|org|net|edu|gov|mil|info|int|[a-z]{2})$", re.IGNORECASE)
OFFICE = re.compile(r"^(?:info|bugs|webmaster|postmaster)@|(?:-sig|-users|-bugs)@|@lists\.", re.IGNORECASE)
MESSAGE_ID = re.compile(r"^[0-9.]+@")
INVENTED = {
    "the examples of smtplib": "one@one.org two@two.org three@three.org four@four.org me@my.org somebody@here.my.org",
    "an attack that is described (email)": "a@malicious.org@important.com",
}
"""Addresses at domains that somebody may have, of nobody."""
NOBODY = frozenset(("Jane Doe", "Joe Blow"))
SAYS_SO = re.compile(
    r"\b(?:by|from|authors?|contribut\w+|copyright|thanks?|written|wrote|maintain\w+|report\w+|patch\w*|suggest\w+"
    r"|ideas?|credits?|created|modified|due to|based|fixe[sd]|implemented|courtesy|after|and|see)\b"
    r"|\(c\)|@|'s\b|\b[0-9]{1,4}[-/][0-9]{1,2}[-/][0-9]{1,4}\b",
    re.IGNORECASE,
)
"""What stands in the lines around the name of somebody who wrote, mended or thought of something."""
PERSONS = {
    "are contributors (a list in platform)": (
        "David Arnold, Gordon McMillan, Ben Darnell, Jeff Bauer, Cliff Crawford, Ivan Van Laningham, Randall Hopper, "
        "Karl Putland, John Farrell, Thomas Heller, Mark R. Levinson, Bill Tutt, Hans Nowak, Uwe Zessin, Colin Kong, "
        "Trent Mick, Guido van Rossum, Anthony Baxter"
    ),
    "have credits (pydoc)": "Tommy Burnette, Paul Prescod, Richard Chamberlain",
    "gives a license (http.cookies)": "Timothy O'Malley",
    "wrote what is quoted (http.server)": "Frystyk Nielsen",
}
_PERSONS = frozenset(name for names in PERSONS.values() for name in names.split(", "))
_INVENTED = frozenset(address for addresses in INVENTED.values() for address in addresses.split())


def true(kind: str, found: str, around: str) -> bool:
    """Tell whether a finding names somebody; `around` are its line and those beside it, without the finding."""
    if kind == "email":
        domain = found.rpartition("@")[2]
        nobodys = RESERVED.search(domain) or OFFICE.search(found) or MESSAGE_ID.search(found)
        return not nobodys and TOP.search(domain) is not None and found.lower() not in _INVENTED
    if kind == "name":
        return found not in NOBODY and (found in _PERSONS or SAYS_SO.search(around) is not None)
    return False
