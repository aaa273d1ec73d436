"""What the abbreviations of zones mean.

What two countries use has several meanings: whoever reads it cannot choose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Use(NamedTuple):
    """One use of an abbreviation.

    `minutes`: its offset from UTC; None: what `region` had then.  `region`: an IANA zone with
    daylight saving, "" if there is none.  Many people write the abbreviation of one season in the
    other, so where the region's clocks had another offset that is a second way to read the time.
    """

    minutes: int | None
    region: str = ""


def _one(hours: float, region: str = "") -> tuple[Use, ...]:
    return (Use(round(hours * 60), region),)


_BERLIN, _ATHENS, _LISBON = "Europe/Berlin", "Europe/Athens", "Europe/Lisbon"
_EASTERN, _CENTRAL = "America/New_York", "America/Chicago"
_MOUNTAIN, _PACIFIC = "America/Denver", "America/Los_Angeles"

# Those of RFC 5322, of today's tzdata, of tzdata before 2017 (old machines write them still), and
# those that people write.
ABBREVIATIONS: Mapping[str, tuple[Use, ...]] = {
    # Europe
    "WET": _one(0, _LISBON),
    "WEST": _one(1, _LISBON),
    "BST": (*_one(1, "Europe/London"), *_one(6), *_one(11)),  # Bangladesh, Bougainville
    "IST": (*_one(5.5), *_one(2, "Asia/Jerusalem"), *_one(1, "Europe/Dublin")),  # first India
    "CET": _one(1, _BERLIN),
    "CEST": _one(2, _BERLIN),
    "MEZ": _one(1, _BERLIN),
    "MESZ": _one(2, _BERLIN),
    "MET": _one(1, _BERLIN),
    "MEST": _one(2, _BERLIN),
    "EET": _one(2, _ATHENS),
    "EEST": _one(3, _ATHENS),
    "MSK": (Use(None, "Europe/Moscow"),),
    "MSD": _one(4),
    "TRT": _one(3),
    # North America
    "NST": _one(-3.5, "America/St_Johns"),
    "NDT": _one(-2.5, "America/St_Johns"),
    "AST": (*_one(-4, "America/Halifax"), *_one(3)),  # Arabia
    "ADT": _one(-3, "America/Halifax"),
    "EST": _one(-5, _EASTERN),
    "EDT": _one(-4, _EASTERN),
    "CST": (*_one(-6, _CENTRAL), *_one(8), *_one(-5, "America/Havana")),  # China, Cuba
    "CDT": (*_one(-5, _CENTRAL), *_one(-4, "America/Havana")),
    "MST": _one(-7, _MOUNTAIN),
    "MDT": _one(-6, _MOUNTAIN),
    "PST": (*_one(-8, _PACIFIC), *_one(8)),  # the Philippines
    "PDT": _one(-7, _PACIFIC),
    "ET": (Use(None, _EASTERN),),
    "CT": (Use(None, _CENTRAL),),
    "MT": (Use(None, _MOUNTAIN),),
    "PT": (Use(None, _PACIFIC),),
    "AKST": _one(-9, "America/Anchorage"),
    "AKDT": _one(-8, "America/Anchorage"),
    "HST": _one(-10),
    "HDT": _one(-9, "America/Adak"),
    # South America
    "ART": _one(-3),
    "BRT": _one(-3),
    "BRST": _one(-2),
    "CLT": _one(-4, "America/Santiago"),
    "CLST": _one(-3, "America/Santiago"),
    "COT": _one(-5),
    "PET": _one(-5),
    "UYT": _one(-3),
    "VET": (Use(None, "America/Caracas"),),
    # Africa
    "WAT": _one(1),
    "CAT": _one(2),
    "SAST": _one(2),
    "EAT": _one(3),
    # Asia
    "IDT": _one(3, "Asia/Jerusalem"),
    "GST": (*_one(4), *_one(-2)),  # the Gulf, South Georgia
    "PKT": _one(5),
    "NPT": _one(5.75),
    "WIB": _one(7),
    "ICT": _one(7),
    "WITA": _one(8),
    "HKT": _one(8),
    "SGT": _one(8),
    "MYT": _one(8),
    "PHT": _one(8),
    "WIT": _one(9),
    "JST": _one(9),
    "KST": _one(9),
    # Australia, the Pacific
    "AWST": _one(8),
    "ACST": _one(9.5, "Australia/Adelaide"),
    "ACDT": _one(10.5, "Australia/Adelaide"),
    "AEST": _one(10, "Australia/Sydney"),
    "AEDT": _one(11, "Australia/Sydney"),
    "CHST": _one(10),
    "NZST": _one(12, "Pacific/Auckland"),
    "NZDT": _one(13, "Pacific/Auckland"),
    "SST": (*_one(-11), *_one(8)),  # Samoa, Singapore
}
