"""Each kind of log entry: its MESSAGE_ID, its level, its fields, and what `journalctl -x` explains.

`service.Log.say` takes a `Message` of this page.  In the journal a field `path` is CTRECORDER_PATH.
The message catalog of the package is `catalog()`: built from here, stored nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

# syslog(3) levels
ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6

FIELD_PREFIX = "CTRECORDER_"


@dataclass(frozen=True)
class Message:
    """One kind of entry.

    `id` never changes: operators search by it.  `subject` and `help` may name fields as {path}.
    """

    id: str
    level: int
    fields: tuple[str, ...]
    subject: str
    help: str


def field_name(name: str) -> str:
    """The journal's name of the field `name`: `last_hash` is CTRECORDER_LAST_HASH."""
    return FIELD_PREFIX + name.upper()


STARTED = Message(
    "8907a5a89eea48e2b0ed1a30e1a8b994",
    NOTICE,
    ("path", "version", "buffer_bytes", "protocols", "user"),
    "ctrecord records to {path}",
    "The recorder has joined the kernel's connection events and holds a receive buffer of {buffer_bytes} bytes.\n"
    "From here on each connection's start and end is in the log, or a GAP says that it is not.",
)
STOPPED = Message(
    "4c129df6ce934fccb1eac0b00b7e3528",
    NOTICE,
    ("path", "events", "lost"),
    "ctrecord has stopped",
    "The recorder has closed its segment in order. Until it starts again no connection is recorded;\n"
    "the next segment begins with a GAP for that time.",
)
SEGMENT_OPENED = Message(
    "0fe55502a3374ea8a53cd996be1af6cf",
    INFO,
    ("path", "previous", "previous_hash"),
    "A new segment {path} was opened",
    "It continues the chain of {previous}, whose last hash is {previous_hash}.",
)
SEGMENT_CLOSED = Message(
    "b230c5ad6377439f829e12c10563b0f2",
    INFO,
    ("path", "rows", "bytes", "since", "until", "last_hash"),
    "The segment {path} was closed",
    "It holds {rows} rows from {since} to {until}. Its last hash is {last_hash}: this entry is an anchor.\n"
    "cttest --anchors journal compares the folder with such entries, so that a folder made anew cannot pass for this one.",
)
SEGMENT_KEPT = Message(
    "2ef985e07fae4d44a55a21c66e5595c1",
    WARNING,
    ("path", "wanted", "reason"),
    "The recorder goes on in {path}: it could not open {wanted}",
    "A segment is never overwritten. If the name exists already, make the template finer (ctrecorder.conf(5), template)\n"
    "or the rotation slower; if the folder is full or gone, see the reason: {reason}. Nothing is lost meanwhile.",
)
SEGMENT_MOVED = Message(
    "52c110dfef13434c8f986d2321a8f50a",
    WARNING,
    ("path",),
    "The segment {path} is not in its place any more",
    "Its file was moved, or another folder or disk was put in the place of its folder. The recorder has closed it where it is now and\n"
    "goes on in a new segment, in the place that the template names. Nothing is lost, but cttest(1) will miss the one that was moved.",
)
SEGMENT_RESTORED = Message(
    "eb56b6dfe9944f369eece3ef16d09951",
    WARNING,
    ("path", "deleted"),
    "The segment {deleted} was deleted while it was being written",
    "The recorder still had the file open and has put all of it back, as {path}. Who deleted it is not known. To delete\n"
    "old segments use ctexpire(8): it never takes one that is being written, and leaves a receipt.",
)
GAP = Message(
    "f1ec565f821e46e797e4006f092c035a",
    WARNING,
    ("path", "reason", "lost", "since", "until"),
    "The log has a gap: {reason}",
    "Events between {since} and {until} are not in the log: {lost} by the kernel's count. ctlist says so whenever a question\n"
    "touches that time. For `overrun`, ask for a larger buffer (ctrecorder.conf(5), buffer) or keep NAT connections only (nat_only).",
)
WRITE_FAILED = Message(
    "2970afbd385e4754924594acc04f3790",
    ERROR,
    ("path", "error", "held_bytes"),
    "The recorder cannot write to {path}: {error}",
    "It keeps {held_bytes} bytes of events in memory and tries again each second. When that memory is full, events are\n"
    "counted and dropped, and a GAP says how many. Make room (ctexpire(8)) or mend the disk; there is no need to restart.",
)
WRITE_RESUMED = Message(
    "ea19139a53f14adfb74f9ac357d075b0",
    NOTICE,
    ("path", "seconds"),
    "The recorder writes to {path} again",
    "Writing had failed for {seconds} s. What did not fit in memory meanwhile is in a GAP.",
)
COUNTERS = Message(
    "22e2b0b779e54f4eb93659e5186384cd",
    INFO,
    ("events", "new", "update", "destroy", "existing", "lost", "refused", "bytes", "path"),
    "The recorder's counters",
    "Counted since its start. `lost` is what the kernel dropped for want of buffer, and what found no room in memory while a disk\n"
    "refused; `refused` are messages that did not come\n"
    "from the kernel.",
)
DUMP = Message(
    "122fd0b739d44b56bc7f139075ea9621",
    INFO,
    ("rows", "complete", "seconds"),
    "The table of connections was recorded",
    "{rows} connections were open. The recorder does so at its start, at each new segment and after a loss.",
)
SYSCTL = Message(
    "a82a6e8c513642d78f8a33b9d5028689",
    WARNING,
    ("name", "value", "wanted"),
    "The sysctl {name} is {value}, not {wanted}",
    "Without nf_conntrack_events=1, connections that began while no recorder listened never report their end. Without\n"
    "nf_conntrack_timestamp=1, times are those of receipt. Mend it: sysctl -w {name}={wanted}",
)
ASLEEP = Message(
    "e623d32675c84ba9adbdc71abd738f4f",
    WARNING,
    (),
    "Connection tracking is asleep here",
    "No firewall or NAT rule of this network namespace uses connection tracking, so the kernel tracks nothing and there is\n"
    "nothing to record. It wakes with the first rule, for example:\n"
    "nft 'add table inet wake; add chain inet wake c { type filter hook forward priority 0; }; add rule inet wake c ct state new'",
)
NAMESPACE = Message(
    "e316fbadf7fd464697e5a508b5fc506d",
    ERROR,
    ("name",),
    "The network namespace {name} was deleted or made anew",
    "The recorder was in the namespace that had this name before, so it ends. Its segment is\n"
    "closed in order. ctrecord-netns@.path starts it again as soon as the name exists. By hand,\n"
    "start it again.",
)
BUFFER = Message(
    "04888d96c2d54156b1cdf17a2be873eb",
    WARNING,
    ("asked_bytes", "buffer_bytes"),
    "The receive buffer is smaller than asked",
    "{asked_bytes} bytes were asked, {buffer_bytes} were got: net.core.rmem_max caps it where the recorder may not force it.\n"
    "Start it as root or with CAP_NET_ADMIN in the initial user namespace, or raise net.core.rmem_max.",
)
CLOCK = Message(
    "db8aa9c6340b4225ade0c8d06a4a272a",
    WARNING,
    ("step_seconds",),
    "The clock was stepped by {step_seconds} s",
    "Times before and after the step do not compare. A MARK in the log tells the step, and a GAP which times never were or came\n"
    "twice. Let a time daemon keep the clock.",
)
SLEPT = Message(
    "747bad5f035f425f823de68e5c3a6efb",
    NOTICE,
    ("seconds",),
    "The machine slept for {seconds} s",
    "It was suspended. There were no connections meanwhile, and a GAP in the log says so.",
)
REFUSED = Message(
    "28c2d552b8f340fc92d0689cf18a5188",
    WARNING,
    ("refused", "sender"),
    "Messages that did not come from the kernel were refused",
    "A process (netlink port {sender}) sent messages that look like the kernel's. They are not in the log.",
)
DAMAGED = Message(
    "1d0dc072607a4b429c50c08791383645",
    ERROR,
    ("path", "offset", "reason"),
    "The segment {path} is damaged",
    "At byte {offset}: {reason}. What is whole is still read. cttest(1) checks it; cttest --repair saves what can be saved.",
)
UNPRIVILEGED = Message(
    "9ebc91bd74284bda861bfb7b66281f4b",
    WARNING,
    ("user",),
    "The recorder goes on as root",
    "There is no user {user} to change to. The package makes it; by hand: systemd-sysusers, or useradd --system {user}.",
)
UNHEARD = Message(
    "b0a1f0d1c3d5449f9d1c8a7be3f0a6d2",
    WARNING,
    (),
    "The log of a command goes nowhere",
    "Neither journald nor syslog (/dev/log) was there. Start one of them; a recorder can also be run with -F, and speaks to stderr.",
)
SQUEEZED = Message(
    "26d968702e9140009a35ff3321d08233",
    INFO,
    ("path", "rows", "connections", "bytes_before", "bytes_after", "last_hash", "replaced_hash"),
    "The segment {path} was squeezed",
    "{rows} rows became {connections} connections, {bytes_before} bytes became {bytes_after}. The new segment was read back and\n"
    "compared before the old one went. Its last hash is {last_hash}; it replaces {replaced_hash}.",
)
EXPIRED = Message(
    "cfb4a035f43e48d6b9e69ea11f103fb5",
    NOTICE,
    ("path", "since", "until", "rows", "bytes", "last_hash", "reason"),
    "The segment {path} was deleted by ctexpire",
    "It held {rows} rows from {since} to {until}; its last hash was {last_hash}. This entry is the receipt of that deletion.",
)
HOLD = Message(
    "d4ed0bec176a44a390e648142aae0d71",
    NOTICE,
    ("action", "since", "until", "reason", "uid", "login"),
    "A hold was set or released",
    "Segments that touch {since} to {until} are kept by ctexpire while the hold stands ({reason}).",
)
QUERY = Message(
    "bb65c97f39954d63ade3a70b4c8fc6ef",
    NOTICE,
    ("uid", "login", "query", "reason", "rows", "complete"),
    "The log was asked by {login}",
    "User {login} (uid {uid}) asked: {query}. Reason given: {reason}. The answer had {rows} rows.",
)
FAILED = Message(
    "355436299ee244beaf010ea5ebbee3b1",
    ERROR,
    ("error",),
    "A command of ctrecorder could not go on",
    "It ended with: {error}. Under systemd the recorder is started again after a short while.",
)
TROUBLE = Message(
    "17b26ea3adb845ce8290cde4ddf2f946",
    WARNING,
    ("path", "error"),
    "Something was passed over",
    "What was said is all that is known: {error}. The command went on without it.",
)


def kinds() -> dict[str, Message]:
    """All kinds, by the name of their constant on this page."""
    return {name: value for name, value in globals().items() if isinstance(value, Message)}


def catalog() -> str:
    """The message catalog, as journalctl --update-catalog wants it."""
    entries = []
    for kind in kinds().values():
        journal_names = {name: f"@{field_name(name)}@" for name in kind.fields}
        head = f"-- {kind.id}\nSubject: {_fill(kind.subject, journal_names)}\nDefined-By: ctrecorder\nDocumentation: man:ctrecorder(7)\n"
        entries.append(f"{head}\n{_fill(kind.help, journal_names)}\n")
    return "\n".join(entries)


def _fill(text: str, names: dict[str, str]) -> str:
    """`text` with each {field} of `names` replaced; other braces (an nft rule) stay."""
    for name, value in names.items():
        text = text.replace("{" + name + "}", value)
    return text


if __name__ == "__main__":
    print(catalog(), end="")
