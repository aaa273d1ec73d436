"""The settings of shipping: to which targets segments are sent, and how."""

from __future__ import annotations

from ctrecorder.declared import values
from ctrecorder.declared.setting import Setting, WhenWrong

SHIP = (
    Setting(
        "to",
        "",
        "",
        "ssh://HOST:DIR, rsync://HOST/MODULE/DIR, rsync+ssh://HOST:DIR, "
        "clickhouse://USER@HOST:PORT/DB, ipfix://HOST:PORT, ipfix+tcp://HOST:PORT, "
        "netflow9://HOST:PORT, file:PATH.parquet, several with spaces, or empty",
        "The targets to which segments are sent.",
        "A second place keeps the log if this machine is lost or broken into. With ssh, cttest "
        "examines each segment there before it counts as shipped.",
        values.targets,
        WhenWrong.REFUSE,
    ),
    Setting(
        "router",
        "",
        "",
        "letters, digits and . _ -, at most 63, or empty (the name of this host)",
        "The name of the folder of this router at each target.",
        "Two routers must not have one name there.",
        values.or_none(values.router),
        WhenWrong.REFUSE,
    ),
    Setting(
        "ship_raw",
        "no",
        "",
        "yes or no",
        "Send a segment as soon as it is closed, and again when it is squeezed.",
        "With no, a segment is sent after the night in which it is squeezed: this takes a third of "
        "the bytes.",
        values.switch,
    ),
    Setting(
        "keep_until_shipped",
        "no",
        "",
        "yes or no",
        "Delete no segment for max_size or min_free that a target has not acknowledged.",
        "At max_age it is deleted nevertheless, because that is law; ctexpire then reports what "
        "was never shipped.",
        values.switch,
        WhenWrong.STRICTEST,
        "yes",
    ),
    Setting(
        "bandwidth",
        "",
        "",
        "a number of bytes a second, also with K, M or G (powers of 1024), or empty (no limit)",
        "The most bytes a second that are sent.",
        "The first run sends the whole archive.",
        values.or_none(values.size),
        WhenWrong.REFUSE,
    ),
    Setting(
        "ssh_key",
        "",
        "",
        "a full path, or empty (as ssh finds it)",
        "The file of the private key for ssh.",
        "The user ctrecorder has no home folder in which ssh would find one.",
        values.or_none(values.path),
        WhenWrong.REFUSE,
    ),
    Setting(
        "password_file",
        "",
        "",
        "a full path, or empty (no password)",
        "The file with the password of the user at ClickHouse.",
        "A password in this file, or on a command line, could be read by others.",
        values.or_none(values.path),
        WhenWrong.REFUSE,
    ),
)
