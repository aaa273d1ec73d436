"""Each kind of log entry: its MESSAGE_ID, its level, its fields, and the text of `journalctl -x`.

`Log.send` takes a `Message` of this page.  In the journal a field `path` is CTRECORDER_PATH.  The
package's message catalog is built from this page (debian/catalog.py) and stored nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

# syslog(3) levels
ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6

FIELD_PREFIX = "CTRECORDER_"


@dataclass(frozen=True)
class Message:
    """One kind of entry.

    `id` never changes: operators search by it.  `subject` and `help` may contain fields as {path}.
    A line of `help` is a paragraph; a line that begins with two spaces is not wrapped.
    `evidence`: an entry that cannot be sent outlives the command (`unsent`).
    """

    id: str
    level: int
    fields: tuple[str, ...]
    subject: str
    help: str
    evidence: bool = False


def field_name(name: str) -> str:
    """The journal's name of the field `name`: `last_hash` is CTRECORDER_LAST_HASH."""
    return FIELD_PREFIX + name.upper()


STARTED = Message(
    "8907a5a89eea48e2b0ed1a30e1a8b994",
    NOTICE,
    ("path", "version", "buffer_bytes", "protocols", "user"),
    "ctrecord records to {path}",
    "The recorder receives the kernel's connection events, with a receive buffer of "
    "{buffer_bytes} bytes. From now on the log contains the start and the end of each "
    "connection, or a GAP where it does not.",
    evidence=True,
)
STOPPED = Message(
    "4c129df6ce934fccb1eac0b00b7e3528",
    NOTICE,
    ("path", "events", "lost"),
    "ctrecord has stopped",
    "The recorder has closed its segment properly. Since its start it has received {events} "
    "events. Events that the kernel or a failing disk lost: {lost}. No connection is recorded "
    "until the recorder starts again. The next segment begins with a GAP for that time.",
    evidence=True,
)
SEGMENT_OPENED = Message(
    "0fe55502a3374ea8a53cd996be1af6cf",
    INFO,
    ("path", "previous", "previous_hash"),
    "The segment {path} was opened",
    "It continues the chain of {previous}, whose last hash is {previous_hash}.",
    evidence=True,
)
SEGMENT_CLOSED = Message(
    "b230c5ad6377439f829e12c10563b0f2",
    INFO,
    ("path", "rows", "bytes", "since", "until", "last_hash"),
    "The segment {path} was closed",
    "It contains {rows} rows from {since} to {until}. Its last hash is {last_hash}. This "
    "entry is an anchor: cttest --anchors journal compares the segments with such entries, and "
    "so detects segments that were changed or created again later.",
    evidence=True,
)
SEGMENT_KEPT = Message(
    "2ef985e07fae4d44a55a21c66e5595c1",
    WARNING,
    ("path", "wanted", "reason"),
    "The recorder continues in {path}: it could not open {wanted}",
    "The reason: {reason}. A segment is never overwritten. If the name exists already, add "
    "minutes or seconds to the template, or begin new segments less often (ctrecorder.conf(5), "
    "template and rotate). Nothing is lost meanwhile.",
    evidence=True,
)
SEGMENT_MOVED = Message(
    "52c110dfef13434c8f986d2321a8f50a",
    WARNING,
    ("path",),
    "The segment {path} was moved",
    "Its file was moved, or another folder or disk is mounted over its folder. The recorder "
    "has closed the segment where it is now, and continues in a new segment at the path of "
    "the template. Nothing is lost, but cttest(1) reports the moved segment as missing.",
    evidence=True,
)
SEGMENT_RESTORED = Message(
    "eb56b6dfe9944f369eece3ef16d09951",
    WARNING,
    ("path", "deleted"),
    "The segment {deleted} was deleted while it was being written",
    "The recorder still had the file open and has restored all of it as {path}. It is not "
    "known who deleted it. To delete old segments use ctexpire(8): it never deletes a segment "
    "that is being written, and leaves a receipt.",
    evidence=True,
)
GAP = Message(
    "f1ec565f821e46e797e4006f092c035a",
    WARNING,
    ("path", "reason", "lost", "start", "end"),
    "The log has a gap: {reason}",
    "Events from {start} to {end} are not in the log. Their number is {lost}. "
    "ctlist reports the gap in each answer about that time. For `overrun`, configure a larger "
    "buffer, or record only connections with NAT (ctrecorder.conf(5), buffer and nat_only).",
    evidence=True,
)
WRITE_FAILED = Message(
    "2970afbd385e4754924594acc04f3790",
    ERROR,
    ("path", "error", "held_bytes"),
    "The recorder cannot write to {path}: {error}",
    "It keeps {held_bytes} bytes of events in memory and tries again each second. When its "
    "memory is full it drops events, and a GAP records their number. Free some space "
    "(ctexpire(8)) or repair the disk. No restart is needed.",
)
WRITE_RESUMED = Message(
    "ea19139a53f14adfb74f9ac357d075b0",
    NOTICE,
    ("path", "seconds"),
    "The recorder writes to {path} again",
    "Writing had failed for {seconds} s. A GAP records the events that did not fit in memory.",
)
COUNTERS = Message(
    "22e2b0b779e54f4eb93659e5186384cd",
    INFO,
    ("events", "new", "update", "destroy", "existing", "lost", "refused", "bytes", "path"),
    "The recorder's counters",
    "Counted since its start. `lost` are events that the kernel dropped because the receive "
    "buffer was full, and events that did not fit in memory while a disk failed. `refused` "
    "are messages that did not come from the kernel.",
)
DUMP = Message(
    "122fd0b739d44b56bc7f139075ea9621",
    INFO,
    ("rows", "complete", "seconds"),
    "The table of connections was recorded",
    "{rows} connections were open. The recorder records the table at its start, at each new "
    "segment and after a loss.",
)
SYSCTL = Message(
    "a82a6e8c513642d78f8a33b9d5028689",
    WARNING,
    ("name", "value", "wanted"),
    "The sysctl {name} is {value}, not {wanted}",
    "With nf_conntrack_events=2, the kernel does not report the end of connections that began "
    "while no recorder ran; with 0, it reports nothing new. With nf_conntrack_timestamp=0, times "
    "are those at which the recorder received the events.\n"
    "To change it:\n"
    "  sysctl -w {name}={wanted}",
)
HIDDEN = Message(
    "e623d32675c84ba9adbdc71abd738f4f",
    WARNING,
    (),
    "Something hides connections from the recorder",
    "The entry names the cause and which connections it hides. They are not recorded until the "
    "cause is gone. A GAP in the log records this time, and answers about it are not complete.\n"
    "If no firewall rule for IPv4, or for IPv6, uses connection tracking, the first rule that uses "
    "it turns it on. For both, for example:\n"
    "  nft add table inet wake\n"
    "  nft 'add chain inet wake c { type filter hook forward priority 0; }'\n"
    "  nft add rule inet wake c ct state new",
)
VISIBLE = Message(
    "1fd2c1f0a4f84f0d9b9f1d3b8a7c2e54",
    NOTICE,
    (),
    "Connections are recorded again",
    "The cause that hid connections from the recorder is gone.",
)
UNHEARD = Message(
    "ed90379270714ab2a0fdb766cea3454a",
    WARNING,
    ("connections",),
    "The kernel did not report connections",
    "A dump of the table, or an end, showed connections that began after the dump before it, and "
    "whose start was never reported: in the recorder's sample of one in 64 connections, or fewer, "
    "at least {connections}. The time between the two dumps is a GAP. ctsqueeze(8) and ctlist(1) "
    "compare all connections. Look for rules with `ct event set`, for programs that set "
    "net.netfilter.nf_conntrack_events, and for offloading by a driver.",
    evidence=True,
)
REFUSED_CONNECTIONS = Message(
    "7d8c3c58b0a1495f8f3b9f0f6a1e2d43",
    WARNING,
    (),
    "The kernel refused connections",
    "Their packets never left, so the log is complete without them. If the table is full, raise "
    "net.netfilter.nf_conntrack_max. If no source port was free, use more public addresses.",
)
NAMESPACE = Message(
    "e316fbadf7fd464697e5a508b5fc506d",
    ERROR,
    ("name",),
    "The network namespace {name} was deleted or created again",
    "The recorder ran in the namespace that had this name before, so it closes its segment and "
    "ends. ctrecord-netns@.path starts a new one as soon as the name exists. If you started the "
    "recorder by hand, start it again.",
)
BUFFER = Message(
    "04888d96c2d54156b1cdf17a2be873eb",
    WARNING,
    ("asked_bytes", "buffer_bytes"),
    "The receive buffer is smaller than configured",
    "{asked_bytes} bytes are configured, but the kernel allowed only {buffer_bytes}. The limit is "
    "net.core.rmem_max: raise it, or start the recorder as root or with CAP_NET_ADMIN in the "
    "initial user namespace.",
)
CLOCK = Message(
    "db8aa9c6340b4225ade0c8d06a4a272a",
    WARNING,
    ("step_seconds",),
    "The clock was stepped by {step_seconds} s",
    "Times before the step cannot be compared with times after it. A MARK in the log records "
    "the step, and a GAP records the times that never occurred or occurred twice. Use a time "
    "daemon.",
)
SUSPENDED = Message(
    "747bad5f035f425f823de68e5c3a6efb",
    NOTICE,
    ("seconds",),
    "The machine was suspended for {seconds} s",
    "There were no connections meanwhile. A GAP in the log records that time.",
)
REFUSED = Message(
    "28c2d552b8f340fc92d0689cf18a5188",
    WARNING,
    ("refused",),
    "Messages that did not come from the kernel were refused",
    "A process sent {refused} messages that look like the kernel's. They are not in the log.",
)
DAMAGED = Message(
    "1d0dc072607a4b429c50c08791383645",
    ERROR,
    ("path", "offset", "reason"),
    "The segment {path} is damaged",
    "At byte {offset}: {reason}. The undamaged blocks can still be read. cttest(1) checks the "
    "segment. cttest --repair copies the undamaged blocks to a new segment.",
)
UNPRIVILEGED = Message(
    "9ebc91bd74284bda861bfb7b66281f4b",
    WARNING,
    ("user",),
    "The recorder continues as root",
    "The user {user} does not exist. The package creates it. To create it by hand: "
    "systemd-sysusers, or useradd --system {user}.",
)
NO_LOG = Message(
    "b0a1f0d1c3d5449f9d1c8a7be3f0a6d2",
    WARNING,
    (),
    "The log entries of a command are discarded",
    "Neither journald nor syslog (/dev/log) is running. Start one of them. A recorder can "
    "also run with -F: then it logs to standard error.",
)
ENTRIES_LOST = Message(
    "1388d60c2c1f3eb50a16c65c38e4f73c",
    WARNING,
    ("entries",),
    "Log entries were dropped",
    "journald or syslog accepted no entries for a time, and more of them waited than a command "
    "keeps. {entries} were dropped: the oldest first, and entries about segments, gaps, holds and "
    "queries last. Or a file of them, or a command that root runs in a folder of another user, had "
    "entries that no command makes: then the text says so. The recording of connections did not "
    "wait, and has lost nothing.",
)
SEAL_FAILED = Message(
    "2cd1f761981040948271ccde2ec43bc7",
    ERROR,
    ("path", "error"),
    "The recording cannot be sealed",
    "{error}. The key is in {path}. Recording goes on. What is recorded until the next seal is "
    "proved only from that seal on, and cttest says so.",
    evidence=True,
)
SEAL_RESTORED = Message(
    "d283d7a9cf6b48918d60e22895609f20",
    ERROR,
    ("path", "epoch"),
    "An old key was restored from a backup",
    "The key in {path} was that of epoch {epoch}, although later ones had been used. The recorder "
    "has moved it on, and uses no epoch again. Who has the backup can forge all since that epoch: "
    "make a new key with ctrecord --setup-seal --replace-key, and keep {path} out of backups.",
    evidence=True,
)
SQUEEZED = Message(
    "26d968702e9140009a35ff3321d08233",
    INFO,
    ("path", "rows", "connections", "bytes_before", "bytes_after", "last_hash", "replaced_hash"),
    "The segment {path} was squeezed",
    "{rows} rows became {connections} connections, {bytes_before} bytes became {bytes_after}. "
    "The new segment was read back and compared before it replaced the old one. Its last hash "
    "is {last_hash}, the old one's was {replaced_hash}.",
    evidence=True,
)
EXPIRED = Message(
    "cfb4a035f43e48d6b9e69ea11f103fb5",
    NOTICE,
    ("path", "since", "until", "rows", "bytes", "last_hash", "reason"),
    "The segment {path} was deleted by ctexpire",
    "It contained {rows} rows from {since} to {until}. Its last hash was {last_hash}. The "
    "reason: {reason}. This entry is the receipt of the deletion.",
    evidence=True,
)
REPAIRED = Message(
    "9256b68570484ae1920fd42ab23df587",
    NOTICE,
    ("path", "repaired", "rows", "holes", "last_hash", "replaced_hash"),
    "The segment {repaired} was repaired",
    "The undamaged blocks were copied to {path}: {rows} rows, {holes} gaps where something is "
    "missing. The last hash of the new segment is {last_hash}, the damaged one's was "
    "{replaced_hash}.",
    evidence=True,
)
HOLD = Message(
    "d4ed0bec176a44a390e648142aae0d71",
    NOTICE,
    ("action", "since", "until", "reason", "uid", "login"),
    "A hold was set or released",
    "While a hold exists, ctexpire keeps every segment with a record between {since} and "
    "{until}. The reason: {reason}. User {login} (uid {uid}), {action}.",
    evidence=True,
)
QUERY = Message(
    "bb65c97f39954d63ade3a70b4c8fc6ef",
    NOTICE,
    ("uid", "login", "query", "reason", "rows", "complete", "verdict", "case", "letter"),
    "The log was queried by {login}",
    "User {login} (uid {uid}) asked: {query}. The reason: {reason}. The answer had {rows} rows. "
    "The verdict on it: {verdict}. The case: {case}; the SHA-256 of the letter: {letter}.",
    evidence=True,
)
FAILED = Message(
    "355436299ee244beaf010ea5ebbee3b1",
    ERROR,
    ("error",),
    "A command of ctrecorder failed",
    "It ended with: {error}. If this is the recorder, nothing is recorded until it runs again. "
    "systemd starts it again after a second; cttest --doctor reports since when it does not run.",
)
RELOADED = Message(
    "8d0a70e66419492f8aba22a0d29158e2",
    NOTICE,
    ("changed", "later"),
    "The settings were read again",
    "Changed: {changed}. These need a restart: {later}. A new segment begins.",
)
WRONG_SETTING = Message(
    "bb3b07c1e0c94b64b34684a447317140",
    ERROR,
    ("problem",),
    "A setting is wrong",
    "{problem}. The command continues with the value that is named there. The recorder repeats "
    "this entry every hour. Correct the file, check it with ctrecord --check-config, then run "
    "systemctl reload ctrecord (ctrecorder.conf(5), WRONG SETTINGS).",
)
SKIPPED = Message(
    "17b26ea3adb845ce8290cde4ddf2f946",
    WARNING,
    ("path", "error"),
    "A file or segment was skipped",
    "{error}. The command continued without it.",
)
SHIPPED = Message(
    "3b7b77448ca74676ac3c685f60a7c92b",
    INFO,
    ("path", "to", "bytes", "name", "how"),
    "The segment {path} was shipped to {to}",
    "It is there as {name}, {bytes} bytes; {how}: by cttest there, or only compared by checksum.",
)
NOT_SHIPPED = Message(
    "4d226325b3d945edab5264083d40488f",
    WARNING,
    ("path", "to", "error"),
    "The segment {path} was not shipped to {to}",
    "The reason: {error}. Those after it are shipped; this one is tried again in each run. If it "
    "is damaged, use cttest --repair. ctship --status lists what was refused.",
)
TARGET_FAILED = Message(
    "045326bf1d7b4bccafdd124168cbb0bf",
    ERROR,
    ("to", "error"),
    "Segments cannot be shipped to {to}",
    "The reason: {error}. Nothing is lost: the next run of ctship sends what is not acknowledged.",
)


def kinds() -> dict[str, Message]:
    """All kinds, by the name of their constant on this page."""
    return {name: value for name, value in globals().items() if isinstance(value, Message)}
