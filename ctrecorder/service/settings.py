"""The settings: every fact about one is declared here, with its default, unit, limits and their
reason.

etc/ctrecorder.conf and ctrecorder.conf(5) are tested against `SECTIONS`, and errors quote it.  No
numpy and no files here: the commands' parsers read it.
"""

from __future__ import annotations

from collections.abc import Mapping

from ctrecorder import uapi
from ctrecorder.declared import values
from ctrecorder.declared.setting import Section, Setting, WhenWrong
from ctrecorder.declared.shipping import SHIP

DEFAULT_FOLDER = "/var/log/ctrecorder"
RESOLUTIONS = ("us", "ms", "s")


_RECORD = (
    Setting(
        "template",
        f"{DEFAULT_FOLDER}/%Y%m%d-%H%M%S.ctlog",
        "",
        "a full path; its file name, but no folder, can have strftime(3) fields",
        "The path of segments. The name of each contains the time (UTC) at which the segment "
        "begins.",
        "An existing file is never overwritten. Other commands recognise segments by their "
        "content, not by their name.",
        values.template,
        WhenWrong.LAST_GOOD,
    ),
    Setting(
        "rotate",
        "60",
        "minutes",
        "a whole number, 1 to 1440",
        "Begin a new segment at every multiple of this number of minutes after midnight (UTC).",
        "Segments are squeezed, deleted and checked as a whole. One hour limits the loss if one "
        "is damaged, and keeps the number of files small. On a router of some 50 connections an "
        "hour, 1440 is better: squeezed, the log is a third as long, and lists of all of it are "
        "several times as fast. It is then squeezed and sent once a day.",
        values.number(1, 1440),
    ),
    Setting(
        "protocols",
        "all",
        "",
        "all, or a list of " + ", ".join(uapi.PROTOCOLS.values()),
        "The L4 protocols to record. The kernel drops the others before they reach the recorder.",
        "Queries have no answers for protocols that are not recorded.",
        values.protocols,
        WhenWrong.LAST_GOOD,
    ),
    Setting(
        "nat_only",
        "no",
        "",
        "yes or no",
        "Record only connections that NAT translated (SNAT or DNAT).",
        "The log is smaller if many connections are not translated, but queries then have "
        "answers only for translated ones.",
        values.switch,
        WhenWrong.LAST_GOOD,
    ),
    Setting(
        "inside",
        "",
        "",
        "a list of networks, or empty (10/8, 172.16/12, 192.168/16, 100.64/10, fc00::/7, and the "
        "networks of the interfaces of this router that have no default route)",
        "The networks that are inside, as ctfilter(7) means it.",
        "It changes nothing of what is recorded, unless omit is set. Name the networks where "
        "ctlist runs on another machine, or if other networks are behind this router.",
        values.networks,
    ),
    Setting(
        "omit",
        "",
        "",
        "remote, or empty (nothing is left out)",
        "remote: do not record the remote end of connections, before or behind NAT. It cannot be "
        "found out later.",
        "RFC 6888 asks not to record destinations unless that is required. ctwho then answers by "
        "address and port alone, without --to. Which end is remote depends on inside: name all "
        "networks of customers there, also those with public addresses.",
        values.or_none(values.choice("remote")),
        WhenWrong.LAST_GOOD,
    ),
    Setting(
        "updates",
        "no",
        "",
        "yes or no",
        "Also record state changes (UPDATE), not only starts and ends.",
        "This multiplies the number of events. Finding the holder of an address does not need "
        "them.",
        values.switch,
    ),
    Setting(
        "resync",
        "yes",
        "",
        "yes or no",
        "Record the table of open connections at the start, at each new segment and after a loss.",
        "This recovers connections that a loss hid, and makes each segment complete by itself. "
        "With no, ctwho cannot prove an answer.",
        values.switch,
    ),
    Setting(
        "accept_notrack",
        "no",
        "",
        "yes or no",
        "Accept rules that keep packets from connection tracking (notrack), and NAT without "
        "connection tracking (rules of nftables that write addresses, Jool).",
        "With yes, an answer names what they hide, and can be complete without it. With no, an "
        "answer that they affect is not complete.",
        values.switch,
    ),
    Setting(
        "probe",
        "yes",
        "",
        "yes or no",
        "Prove each minute that events arrive, by a reserved entry in the connection table.",
        "The entry is UDP from 127.0.0.1 to 127.0.0.1 in zone 65535. It is created and deleted at "
        "once, and ctlist does not list it. A conntrackd on this machine would copy it.",
        values.switch,
    ),
    Setting(
        "buffer",
        "65536",
        "KiB",
        "a whole number, 64 to 1048576",
        "The size of the kernel's buffer for events that the recorder has not read yet.",
        "A waiting event takes 1280 bytes, and the kernel doubles the requested size. 65536 "
        "holds about 105,000 events, which is half a second at 200,000 events per second.",
        values.number(64, 1 << 20),
    ),
    Setting(
        "rows",
        "16384",
        "events",
        "a whole number, 1 to 65536",
        "The maximum number of events in a block of the log.",
        "Larger blocks compress slightly better but need more memory: 65536 needs 10 MiB more. "
        "A block is written at least every second if there are events.",
        values.number(1, 65536),
    ),
    Setting(
        "memory",
        "64",
        "MiB",
        "a whole number, 1 to 4096",
        "The maximum memory for events while the disk is full or fails.",
        "Events that do not fit are counted in a GAP. More memory bridges a longer fault.",
        values.number(1, 4096),
    ),
    Setting(
        "sync",
        "10",
        "seconds",
        "a whole number, 1 to 600",
        "The maximum age of an event when it is safe from a power cut.",
        "Events are in the log, and safe from a crash of the recorder, after a second. A power cut "
        "takes what is not synced, and the log then has a gap of that time. At 10 events per "
        "second on ext4, 10 writes 16 MB an hour to the disk, and 1 writes 60: that wears flash.",
        values.number(1, 600),
    ),
    Setting(
        "nice",
        "0",
        "",
        "a whole number, -20 to 19",
        "The nice value of the recorder. 0 keeps the value with which it was started.",
        "Values below 0 need root. Under systemd, use Nice= in a drop-in instead.",
        values.number(-20, 19),
    ),
    Setting(
        "user",
        "",
        "",
        "the name of a user",
        "The user that the recorder changes to if root starts it by hand. Empty: ctrecorder, if "
        "this user exists.",
        "Under systemd, the unit sets the user (User=), and this setting must be empty or the "
        "same.",
        values.name,
        WhenWrong.LAST_GOOD,
    ),
    Setting(
        "group",
        "",
        "",
        "the name of a group",
        "The group that the recorder changes to if root starts it by hand. Empty: the user's "
        "own group.",
        "Members of the group can read the log.",
        values.name,
        WhenWrong.LAST_GOOD,
    ),
    Setting(
        "mode",
        "0640",
        "octal",
        "read and write for the user, any of them for group and others: 0600 to 0666",
        "The permissions of a segment.",
        "The log contains personal data, so other users have no access by default.",
        values.mode,
        WhenWrong.LAST_GOOD,
    ),
)
_FOLDER = Setting(
    "folder",
    DEFAULT_FOLDER,
    "",
    "a full path",
    "The folder of segments.",
    "It must be the folder of the setting template in [record].",
    values.path,
    WhenWrong.REFUSE,
)
_SQUEEZE = (
    _FOLDER,
    Setting(
        "resolution",
        "us",
        "",
        "us, ms or s",
        "The resolution of times in a squeezed segment.",
        "Times are the largest part of a squeezed segment: ms saves up to a third of it. "
        "Times in abuse reports are exact to a second at best.",
        values.choice(*RESOLUTIONS),
    ),
    Setting(
        "keep",
        "no",
        "",
        "yes or no",
        "Keep each segment as it was recorded, in the folder named replaced inside the folder of "
        "segments.",
        "The original is not needed: the squeezed segment is compared with it before it is "
        "replaced.",
        values.switch,
        WhenWrong.REFUSE,
    ),
)
_EXPIRE = (
    _FOLDER,
    Setting(
        "max_age",
        "90d",
        "",
        "a number with s, m, h, d, w or y, or empty (keep for ever)",
        "Delete segments that ended longer ago than this.",
        "Keep the log only as long as the law or your own needs require: deleted personal data "
        "cannot leak.",
        values.or_none(values.duration),
        WhenWrong.REFUSE,
    ),
    Setting(
        "max_size",
        "",
        "",
        "a number of bytes, also with K, M, G or T (powers of 1024), or empty (no limit)",
        "Delete the oldest segments while the total size of all segments is larger than this.",
        "Use this on a disk that other programs also use.",
        values.or_none(values.size),
        WhenWrong.REFUSE,
    ),
    Setting(
        "min_free",
        "",
        "",
        "a number of bytes, also with K, M, G or T (powers of 1024), a share such as 5%, or empty "
        "(no limit)",
        "Delete the oldest segments while the file system has less free space than this.",
        "On a full disk the newest events are lost. This limit deletes segments before max_age, "
        "so use it only where that is allowed. 5% is usual.",
        values.or_none(values.size_or_share),
        WhenWrong.REFUSE,
    ),
    Setting(
        "trust_clock",
        "no",
        "",
        "yes or no",
        "Apply max_age also to a recording whose clock was never synchronised.",
        "The age of such a recording is not known, so only max_size and min_free delete it. Some "
        "virtual machines have a clock that is right although the kernel was never told so: set "
        "this there.",
        values.switch,
        WhenWrong.REFUSE,
    ),
)
_SEAL = (
    Setting(
        "key",
        "",
        "",
        "a full path, credential:NAME for a systemd credential, or empty (not sealed)",
        "The file with the key that seals new segments. Only root or the recorder may have "
        "access to it.",
        "Without the key, nobody can compute the hashes of sealed segments. If the key is lost, "
        "the segments stay readable, but nothing proves them any more.",
        values.or_none(values.key),
        WhenWrong.LAST_GOOD,
    ),
    Setting(
        "state",
        "",
        "",
        "a full path, or empty (a folder in /var/lib/ctrecorder with the name of the recording)",
        "The folder of the key that is hashed forward, which ctrecord --setup-seal creates. A "
        "recording is sealed if this folder contains a key.",
        "An intruder cannot change what was sealed earlier, because the keys of the past are "
        "destroyed. By default the name of the folder is that of the network namespace, or of this "
        "file without its suffix.",
        values.or_none(values.path),
        WhenWrong.LAST_GOOD,
    ),
)
_QUERY = (
    Setting(
        "audit",
        "on",
        "",
        "off, on or require-reason",
        "Write an entry to the journal for each ctlist query: who queried what, why, and the "
        "number of rows.",
        "This documents honest use only: every user who may read the segments can also read them "
        "with another program. Some laws require a reason for each query.",
        values.choice("off", "on", "require-reason"),
        WhenWrong.STRICTEST,
        "require-reason",
    ),
)
_METRICS = (
    Setting(
        "directory",
        "/run/ctrecorder",
        "",
        "a full path, or empty (no metrics)",
        "The directory of the metrics for Prometheus, a file for each writer.",
        "/run is in memory, so the files wear no flash. See ctrecorder-metrics(7).",
        values.or_none(values.path),
    ),
)
SECTIONS: Mapping[str, Section] = {
    "record": Section("ctrecord", _RECORD),
    "squeeze": Section("ctsqueeze", _SQUEEZE),
    "expire": Section("ctexpire", _EXPIRE),
    "ship": Section("ctship and ctexpire", (_FOLDER, *SHIP)),
    "seal": Section("ctrecord, ctsqueeze and cttest", _SEAL),
    "query": Section("ctlist", _QUERY),
    "metrics": Section("ctrecord, ctsqueeze, ctexpire, ctship, cttest", _METRICS),
}


def setting(section: str, name: str) -> Setting:
    """The declaration of a setting; KeyError if there is none."""
    return {one.name: one for one in SECTIONS[section].settings}[name]


def in_unit(one: Setting) -> str:
    """What follows `allowed` where a number has a unit: ", in KiB"."""
    return f", in {one.unit}" if one.unit else ""
