"""python3 -m tests.model.mutants [--seeds N] [NAME...]: take one mechanism after the other out of a
copy of the checkout, and show what finds it: a seed of the model, or a named test.

A mutant is a change of the product's text.  The model runs with seeds whose timeline begins with
the fault that needs the mechanism, until one seed finds a broken promise.  Mutants that random
traffic cannot reach, or a machine cannot do (suspend), name the test that turns red.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.model import timeline
from tests.model.faults import CLOCK, FAILOVER
from tests.model.run import BROKEN
from tests.support.router import CHECKOUT

SEEDS = 5
# Of each run: seconds in which faults are begun, and in all.
TIMELINE, SECONDS = 40, 60
# The wanted fault is among this many of the timeline's first ones: a short run has no more.
FIRST = 3
COPIED = ("bin", "ctrecorder", "etc", "man", "tests", "debian", "setup.cfg", "pyproject.toml")
# Exit codes of pytest.
GREEN, RED = 0, 1


class Mutant(NamedTuple):
    """One mechanism that is taken out.

    `path`: of the module in ctrecorder.  `edits`: text that is there once, and what replaces it.
    `faults`: what needs the mechanism, in this order; with `test` none.  `test`: a path and the
    name of a test of tests/.
    """

    name: str
    path: str
    edits: tuple[tuple[str, str], ...]
    faults: tuple[str, ...] = ()
    test: str = ""

    def apply(self, checkout: Path) -> None:
        """Change the module in `checkout`.  Raises ValueError if a text is not there once."""
        module = checkout / "ctrecorder" / self.path
        text = module.read_text("utf-8")
        for before, after in self.edits:
            if text.count(before) != 1:
                raise ValueError(f"{self.name}: not once in {self.path}: {before!r}")
            text = text.replace(before, after)
        module.write_text(text, "utf-8")


class Outcome(NamedTuple):
    """What a run of a mutant showed.  `found`: the first broken promise; "" if none."""

    by: str
    seconds: float
    found: str


MUTANTS = (
    Mutant(
        "the drop counter is not read",
        "record/loss.py",
        (("now_ns) if count else None", "now_ns) if count < 0 else None"),),
        faults=("overrun",),
    ),
    Mutant(
        "the watermark is taken after the receive",
        "record/receiver.py",
        (("self.emptied = before", "self.emptied = self._wall()"),),
        test="unit/record/test_recorder.py::test_a_watermark_is_of_the_time_before_the_receive",
    ),
    Mutant(
        "the GAP of a crash begins at the last block",
        "spool/target.py",
        (("return self.time if self.watermark is None else self.watermark", "return self.time"),),
        test="unit/record/test_recorder.py::test_a_crash_behind_a_full_block_is_a_gap_from_the_last_watermark",
    ),
    Mutant(
        "a stop is no hole",
        "query/evidence.py",
        (
            ("for gap in segment.gaps:", "for gap in _without_stops(segment.gaps):"),
            ("restarted = chain.run_begun(segment) is not None", "restarted = False"),
            (
                "class _Numbered:",
                "def _without_stops(gaps):\n"
                '    return [gap for gap in gaps if gap.reason not in ("stopped", "crashed")]\n\n\n'
                "class _Numbered:",
            ),
        ),
        faults=("stop and start",),
    ),
    Mutant(
        "a kill -9 is no hole",
        "query/evidence.py",
        (
            ("for gap in segment.gaps:", "for gap in _without_stops(segment.gaps):"),
            ("restarted = chain.run_begun(segment) is not None", "restarted = False"),
            (
                "class _Numbered:",
                "def _without_stops(gaps):\n"
                '    return [gap for gap in gaps if gap.reason != "crashed"]\n\n\n'
                "class _Numbered:",
            ),
        ),
        faults=("kill -9",),
    ),
    Mutant(
        "the generation of the ruleset is not asked",
        "watch/conditions.py",
        (('return int(struct.unpack(">I", found)[0]) if len(found) == 4 else None', "return 1"),),
        faults=("notrack rule",),
    ),
    Mutant(
        "rules that changed twice between two looks are no hole",
        "watch/watcher.py",
        (("if moves < 2 or not families:", "if moves >= 0:"),),
        test="unit/watch/test_watcher.py::test_a_flush_and_reload_between_two_looks",
    ),
    Mutant(
        "nf_conntrack_events is not looked at",
        "watch/watcher.py",
        (("if sysctls[EVENTS] == 0:\n            yield", "if False:\n            yield"),),
        faults=("events off",),
    ),
    Mutant(
        "a hole begins at the look that found it",
        "watch/watcher.py",
        (
            (
                "good = self._good[scope.family if reason == NOT_TRACKED and scope.family "
                "else reason]",
                "good = self.clock_wall()",
            ),
        ),
        test="unit/watch/test_watcher.py::test_events_0_hides_everything_until_it_is_set",
    ),
    Mutant(
        "the tracking of a family is ignored",
        "watch/watcher.py",
        (("if found is Tracking.OFF:", "if False:"),),
        faults=("one family tracked",),
    ),
    Mutant(
        "NOTRACK rules are ignored",
        "watch/watcher.py",
        (("for scope in self._reading.notrack or ():", "for scope in ():"),),
        faults=("notrack rule",),
    ),
    Mutant(
        "a hole of one family is one of both",
        "query/evidence.py",
        (
            (
                "family=family_of(facts),",
                "family=None,",
            ),
        ),
        faults=("one family tracked", "notrack rule"),
    ),
    Mutant(
        "untranslated holes hide translated connections too",
        "query/coverage.py",
        (("if hole.untranslated and self.only_translated:", "if False:"),),
        faults=("ruleset flushed", "notrack rule"),
    ),
    Mutant(
        "no probe is sent",
        "record/guard.py",
        (("self._probe = Probe() if probe else None", "self._probe = None"),),
        test="unit/record/test_guard.py::test_each_minute_is_proved",
    ),
    Mutant(
        "events that were off wait for no dump",
        "record/guard.py",
        (("if look.needs_dump and hole.reason == NO_EVENTS:", "if False:"),),
        test="unit/record/test_guard.py::test_a_dump_that_began_before_the_end_proves_nothing",
    ),
    Mutant(
        "no dump follows the one that ends a hole",
        "record/guard.py",
        (('            self._plan_dump("a hole has ended")\n', "            pass\n"),),
        faults=("events off",),
    ),
    Mutant(
        "holes that last are not in each segment",
        "record/recorder.py",
        (("for gap in self._guard.open_gaps(now):", "for gap in ():"),),
        test="unit/record/test_recorder.py::test_holes_that_last_are_in_each_segment",
    ),
    Mutant(
        "a published state is believed for ever",
        "segment/live.py",
        (("fresh = 0 <= age <= VALID_NS", "fresh = True"),),
        test="unit/segment/test_live.py::test_what_is_not_believed",
    ),
    Mutant(
        "what is published is the watermark of now",
        "record/recorder.py",
        (
            (
                "written, now = self._queue.written, self._clock.wall()",
                "now = self._clock.wall()\n"
                "        written = self._queue.written._replace(watermark=now)",
            ),
        ),
        faults=("disk full",),
    ),
    Mutant(
        "what a failed sync took back is believed",
        "query/evidence.py",
        (("state.watermark if whole else state.synced", "state.watermark"),),
        test="unit/query/test_verdict.py::test_what_a_failed_sync_took_back",
    ),
    Mutant(
        "a failed sync leaves the published watermark",
        "spool/queue.py",
        (("self._readable = min(self._readable, self._blocks.synced_watermark)", "pass"),),
        test="unit/spool/test_queue.py::test_a_failed_sync_takes_back_what_could_be_read",
    ),
    Mutant(
        "a start believes what is in the page cache",
        "spool/target.py",
        (("files.settle(path)", "pass"),),
        test="unit/spool/test_queue.py::test_a_start_syncs_what_a_crash_left",
    ),
    Mutant(
        "a header alone hides the gap before it",
        "spool/target.py",
        (("if one.watermark is not None or not one.has_coverage:", "if True:"),),
        test="unit/spool/test_queue.py::test_a_start_that_left_only_a_header",
    ),
    Mutant(
        "a recorder that runs has everything, also the future",
        "query/coverage.py",
        (("until = max(until or BEGIN, self.live.watermark)", "until = END"),),
        faults=("rotation",),
    ),
    Mutant(
        "damage is no hole",
        "query/evidence.py",
        (
            (
                "    if segment.header.has_legacy:\n        return\n    index = segment.index",
                "    if segment:\n        return\n    index = segment.index",
            ),
        ),
        test="unit/query/test_verdict.py::test_a_damaged_block",
    ),
    Mutant(
        "each segment follows on the one before",
        "archive/chain.py",
        (("return self.previous_hash in before.hashes", "return True"),),
        test="unit/query/test_verdict.py::test_a_missing_segment",
    ),
    Mutant(
        "a receipt of ctexpire is taken for coverage",
        "query/evidence.py",
        (
            (
                "expired = not follows and receipts.explain(segment, earlier.hashes)",
                "expired = False\n            follows |= receipts.explain(segment, earlier.hashes)",
            ),
        ),
        test="unit/query/test_verdict.py::test_an_expired_segment_is_not_missing",
    ),
    Mutant(
        "a recorder covers for another of other protocols",
        "query/verdict.py",
        (("recorded = not segment.protocols or (", "recorded = True or ("),),
        faults=("second recorder",),
    ),
    Mutant(
        "no recorder covers for another of the same table",
        "query/verdict.py",
        (
            (
                "return not boots or bool(self.table & other.table)",
                "return False",
            ),
        ),
        faults=("second recorder",),
    ),
    Mutant(
        "a step of the clock is no GAP",
        "record/loss.py",
        (
            (
                'gaps = [Gap(start, end, "clock", 0, f"the clock was set {which}")]',
                "gaps: list[Gap] = []",
            ),
        ),
        test="unit/record/test_recorder.py::test_a_step_of_the_clock_is_a_mark_and_a_gap",
    ),
    Mutant(
        "events of before a step are dated by the new clock, and no GAP",
        "record/loss.py",
        (("if not dated and since < start:", "if False:"),),
        test="unit/record/test_recorder.py"
        "::test_events_of_before_a_step_that_were_received_after_it_are_in_a_gap",
    ),
    Mutant(
        "the table of a standby need not be covered",
        "query/verdict.py",
        (("return not boots or bool(self.table & other.table)", "return True"),),
        faults=(FAILOVER,),
    ),
    Mutant(
        "events that waited are dated when received, and no GAP",
        "record/loss.py",
        (("if dated or not before or waited < RECEIPT_LATE_NS:", "if waited or not waited:"),),
        test="unit/record/test_recorder.py::test_events_that_waited_are_a_gap",
    ),
    Mutant(
        "a suspend is no GAP",
        "record/recorder.py",
        (("        if suspended:\n            seconds", "        if False:\n            seconds"),),
        test="unit/record/test_recorder.py::test_a_suspend_is_a_gap",
    ),
    Mutant(
        "a squeezed segment that was cut is taken for whole",
        "segment/reader.py",
        (("if self.header.is_squeezed or self.header.is_repaired:", "if False:"),),
        test="unit/segment/test_cut.py::test_cut_at_the_end_of_any_block",
    ),
    Mutant(
        "what was open needs no dump",
        "holders/who.py",
        (("open_flows=True", "open_flows=False"),),
        test="unit/query/test_verdict.py::test_without_dumps_a_loss_long_before_counts",
    ),
    Mutant(
        "a dump that lacks rows is complete",
        "record/dump.py",
        (("self._finish(progress, not problem,", "self._finish(progress, True,"),),
        test="unit/record/test_recorder.py::test_a_dump_that_the_kernel_interrupted_is_not_complete",
    ),
    Mutant(
        "a DESTROY that came again is another connection",
        "connections/repeats.py",
        (
            (
                "    untimed = np.flatnonzero(same & ~is_timed)",
                "    same &= False\n    untimed = here",
            ),
        ),
        test="unit/connections/test_pairing.py"
        "::test_a_destroy_that_came_again_with_its_kernel_times_is_one_event",
    ),
    Mutant(
        "what a power cut left is damage of the whole segment",
        "query/evidence.py",
        (("if finding is segment.torn:", "if finding is None:"),),
        test="unit/query/test_verdict.py::test_zeros_behind_the_last_block_hide_nothing_before_them",
    ),
    Mutant(
        "a clock that was not synchronised proves",
        "inquiry/ask.py",
        (("        if not clock.synchronised:", "        if False:"),),
        test="unit/inquiry/test_ask.py::test_a_clock_that_can_be_off_by_any_amount_proves_nothing",
    ),
    Mutant(
        "a time that can be read in two ways proves",
        "inquiry/ask.py",
        (("    if question.window.readings > 1:", "    if False:"),),
        test="unit/inquiry/test_ask.py::test_a_time_that_can_be_read_in_two_ways_proves_nobody",
    ),
    Mutant(
        "what the clock of the recorder was off by is not added",
        "inquiry/question.py",
        (("add_clock_error=True", "add_clock_error=False"),),
        test="unit/inquiry/test_ask.py::test_what_the_clock_is_off_by_is_added",
    ),
    Mutant(
        "a listening port is a source port",
        "inquiry/question.py",
        ((" and self.role != LISTENING", ""),),
        test="unit/cases/test_letter.py::test_a_listening_port_is_never_a_source_port",
    ),
    Mutant(
        "a file that cannot be read is no hole",
        "holders/candidates.py",
        (("    if failed:\n        detail", "    if False:\n        detail"),),
        test="unit/query/test_verdict.py::test_a_file_that_cannot_be_read",
    ),
    Mutant(
        "a start is never received late",
        "holders/candidates.py",
        (("== Source.RECEIPT, parts.RECEIPT_LATE_NS, 0)", "== Source.RECEIPT, 0, 0)"),),
        test="unit/holders/test_who.py::test_a_start_that_was_dated_when_it_was_received_may_be_late",
    ),
    Mutant(
        "no dump when tracking is not unknown any more",
        "record/guard.py",
        (("if was_unknown and not self._unknown:", "if False:"),),
        test="unit/record/test_guard.py::test_a_dump_follows_when_tracking_is_not_unknown_any_more",
    ),
    Mutant(
        "an open flow can be one with a flow that another recorder saw end",
        "beside/same_flows.py",
        (("self._take(here[together], there[together])", "self._take(here, there)"),),
        test="unit/query/test_twins.py"
        "::test_a_flow_that_lived_on_is_not_the_one_of_its_second_that_ended",
    ),
    Mutant(
        "long flows of a recorder that was late are listed twice",
        "beside/same_flows.py",
        (("self._take(*_by_lives(self._rows, first, second))", "pass"),),
        test="unit/query/test_twins.py::test_a_recorder_that_was_seconds_late",
    ),
    Mutant(
        "a restart forgets times that come twice",
        "record/recorder.py",
        (("self._deadlines.stepped(repeated, now - repeated)", "pass"),),
        test="unit/record/test_recorder.py::"
        "test_a_dump_follows_when_the_recorder_was_restarted_within_times_that_come_twice",
    ),
    Mutant(
        "NAT without tracking hides nothing",
        "query/evidence.py",
        ((", *unrecordable(members)", ","),),
        test="unit/query/test_verdict.py"
        "::test_what_is_translated_without_tracking_may_be_the_answer",
    ),
    Mutant(
        "a NEW after a restart can have come again",
        "connections/repeats.py",
        (("same &= ~gaps.has_restart(last, start + _ROUNDED_NS)", "pass"),),
        test="unit/connections/test_pairing.py::test_a_new_after_a_restart_is_another_flow",
    ),
    Mutant(
        "a NEW that a dump overtook is another connection",
        "connections/repeats.py",
        (('start <= table["end"][before] + OVERTAKEN_NS', "start < 0"),),
        test="unit/connections/test_pairing.py"
        "::test_a_new_that_came_again_and_that_a_dump_overtook_is_one_event",
    ),
    Mutant(
        "a NEW that came again in a later segment is another connection",
        "maintain/paired.py",
        (("ends[0] + RACE_NS", "times.BEGIN"),),
        test="unit/maintain/test_squeeze.py"
        "::test_a_new_that_came_again_in_the_next_segment_is_one_event",
    ),
    Mutant(
        "a recorder does not start on a full disk",
        "spool/queue.py",
        (("if not (self.series.chain and is_full(error)):", "if error:"),),
        test="faults/test_disk.py::test_started_on_a_full_disk",
    ),
    Mutant(
        "the way to the end of a connection leads over damage",
        "archive/follow.py",
        (("if segment.is_damaged:", "if False:"),),
        test="unit/archive/test_follow.py::test_a_damaged_segment_on_the_way_is_not_passed_over",
    ),
    Mutant(
        "a block without both ends is passed over",
        "archive/shared.py",
        (('(rows["seen"] & _BOTH_ENDS) == _BOTH_ENDS', 'rows["seen"] > 0'),),
        test="unit/archive/test_shared.py::"
        "test_which_blocks_have_both_ends_of_all_their_connections",
    ),
    Mutant(
        "a question has the damage of the one before",
        "archive/shared.py",
        (("[*found.findings]", "found.findings"),),
        test="unit/holders/test_many.py::test_damage_is_met_by_the_question_that_reads_it",
    ),
)


def seeds_with(fault: str, first: int, *, stepped: bool) -> Iterator[int]:
    """Seeds from `first` on whose timeline has `fault` among the first ones.

    `stepped`: their clock is set; else it never is.
    """
    for seed in itertools.count(first):
        plan = timeline.plan(seed)
        if plan.stepped == stepped and fault in plan.kinds[:FIRST]:
            yield seed


def find(mutant: Mutant, checkout: Path, seeds: int, first: int) -> Outcome:
    """Run the test of a mutant, or the model until a seed finds it.  `checkout`: of the mutant."""
    began = time.monotonic()
    if mutant.test:
        done = _run(checkout, "pytest", "-q", "-x", f"tests/{mutant.test}")
        found = _reason(done) if done.returncode == RED else ""
        return Outcome(f"tests/{mutant.test}", time.monotonic() - began, found)
    rounds = [seeds_with(fault, first, stepped=CLOCK in mutant.faults) for fault in mutant.faults]
    tried = []
    for number in range(seeds):
        seed = next(rounds[number % len(rounds)])
        done = _model(checkout, seed)
        # The same seed must find nothing in the product as it is.
        if done.returncode == BROKEN and _is_green(seed):
            return Outcome(f"seed {seed}", time.monotonic() - began, _reason(done))
        tried.append(f"{seed} (exit {done.returncode})")
        if done.returncode not in (GREEN, BROKEN):
            print(f"  seed {seed}: {done.stderr[-2000:]}", flush=True)
    return Outcome(f"seeds {', '.join(tried)}", time.monotonic() - began, "")


@functools.cache
def _is_green(seed: int) -> bool:
    """If a seed finds nothing in the product as it is."""
    return _model(CHECKOUT, seed).returncode == GREEN


def _model(checkout: Path, seed: int) -> subprocess.CompletedProcess[str]:
    """One short run of the model."""
    arguments = "--seed", seed, "--timeline", TIMELINE, "--seconds", SECONDS
    return _run(checkout, "tests.model.run", *arguments)


def _run(checkout: Path, module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-B", "-m", module, *map(str, arguments)],
        cwd=checkout,
        capture_output=True,
        text=True,
        timeout=600,
    )


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    """The line that tells what was found."""
    lines = [line for line in done.stdout.splitlines() if line.startswith(("BROKEN", "FAILED"))]
    return lines[0] if lines else f"exit {done.returncode}"


def copy(checkout: Path, target: Path) -> None:
    """Copy what a run needs of `checkout`."""
    for name in COPIED:
        path = checkout / name
        if path.is_dir():
            shutil.copytree(path, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(path, target / name)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="part of a mutant's name")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="at most so many for each")
    parser.add_argument("--first", type=int, default=1, help="the least seed")
    arguments = parser.parse_args()
    chosen = [
        mutant
        for mutant in MUTANTS
        if not arguments.names or any(name in mutant.name for name in arguments.names)
    ]
    os.nice(19)
    missed = 0
    for mutant in chosen:
        with tempfile.TemporaryDirectory(prefix="ctrecorder-mutant-") as work:
            copy(CHECKOUT, Path(work))
            mutant.apply(Path(work))
            outcome = find(mutant, Path(work), arguments.seeds, arguments.first)
        missed += not outcome.found
        print(
            f"{mutant.name:58} {outcome.by:40} {outcome.seconds:4.0f} s  "
            f"{outcome.found or 'NOT FOUND'}",
            flush=True,
        )
    print(f"{len(chosen)} mutants, {missed} not found")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
