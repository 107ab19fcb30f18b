"""Faults, and the tests that make each of them happen. The test run writes docs/faults.md from it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path


@dataclass(frozen=True)
class Fault:
    """`tests`: FILE::NAME below tests/; `note`: what of it can not be made to happen here, or falls short."""

    part: str
    number: int
    text: str
    tests: tuple[str, ...] = ()
    note: str = ""


_M, _D, _W, _S = "A. Manifest", "D. Disk, kernel, clock", "E. Workers", "I. Streams, queue, lifecycle"
_SYSTEMD = "systemd/test_service.py::"
FAULTS = (
    Fault(
        _M,
        1,
        "a syntax error replaces the manifest",
        (
            "e2e/test_daemon.py::test_a_bad_edit_changes_nothing_and_is_said",
            "reconcile/test_intake.py::test_a_bad_text_keeps_what_was_accepted_and_says_what_is_wrong",
        ),
    ),
    Fault(_M, 2, "an unknown key", ("manifest/test_sections.py::test_fields_that_are_refused",)),
    Fault(_M, 3, "a duplicate key", ("manifest/test_yamltext.py::test_what_is_refused",)),
    Fault(
        _M,
        4,
        "values that YAML makes something else of",
        (
            "manifest/test_yamltext.py::test_only_plain_decimals_and_words_are_not_text",
            "manifest/test_sections.py::test_fields_that_are_refused",
        ),
    ),
    Fault(
        _M,
        5,
        "billion laughs",
        (
            "manifest/test_yamltext.py::test_billion_laughs_ends_within_a_second",
            "manifest/test_yamltext.py::test_bounded",
        ),
    ),
    Fault(
        _M,
        6,
        "recursion, tags, several documents, NUL, tabs, bytes that are no UTF-8",
        ("manifest/test_yamltext.py::test_what_is_refused", "manifest/test_yamltext.py::test_any_bytes"),
    ),
    Fault(
        _M,
        7,
        "depth, width and size without end",
        (
            "manifest/test_yamltext.py::test_bounded",
            "manifest/test_yamltext.py::test_depth_is_what_the_limit_says",
            "manifest/test_yamltext.py::test_size_is_what_the_limit_says",
        ),
    ),
    Fault(_M, 8, "an empty file, a list, a text", ("manifest/test_yamltext.py::test_what_is_refused",)),
    Fault(
        _M,
        9,
        "names and paths that lead elsewhere",
        (
            "manifest/test_sections.py::test_names_that_are_refused",
            "effects/test_files.py::test_no_path_leads_out_of_the_roots",
            "effects/test_files.py::test_what_is_no_regular_file_is_refused_at_once",
        ),
    ),
    Fault(
        _M,
        10,
        "the manifest is gone, closed, or a folder",
        (
            "reconcile/test_intake.py::test_a_missing_manifest_keeps_what_was_accepted_until_it_is_back",
            "effects/test_watch.py::test_a_folder_that_may_not_be_entered_is_reported_until_it_may",
        ),
    ),
    Fault(
        _M,
        11,
        "every way in which programs replace a file",
        (
            "effects/test_watch.py::test_a_reader_sees_each_edit",
            "effects/test_settle.py::test_what_is_written_in_pieces_is_waited_for",
        ),
    ),
    Fault(
        _M,
        12,
        "a hundred edits in five seconds",
        ("e2e/test_edits.py::test_a_hundred_edits_in_five_seconds_are_a_few_workers_and_the_last_one_wins",),
    ),
    Fault(
        _M,
        13,
        "comments, order and white space",
        ("e2e/test_edits.py::test_comments_and_order_are_no_edit", "manifest/test_accept.py::test_digest_stays"),
    ),
    Fault(
        _M,
        14,
        "a model is removed while it loads",
        ("reconcile/test_loop.py::test_a_model_that_is_removed_while_it_loads_is_gone_at_once",),
    ),
    Fault(
        _M,
        15,
        "two models of one file",
        (
            "e2e/test_hub.py::test_one_file_for_two_models_is_fetched_once",
            "e2e/test_gc.py::test_what_was_declared_once_goes_after_its_grace_and_what_is_declared_stays",
        ),
    ),
    Fault(
        _M,
        16,
        "a file larger than max_size",
        ("e2e/test_hub.py::test_what_can_not_be_had_has_a_reason_and_costs_no_byte",),
    ),
    Fault(
        _M,
        17,
        "more is declared than memory has room for",
        (
            "e2e/test_memory.py::test_whom_there_is_no_room_for_says_why_not",
            "e2e/test_memory.py::test_one_that_is_larger_than_the_budget_is_never_tried",
        ),
    ),
    Fault(
        _M,
        18,
        "an address that is taken or none",
        (
            "e2e/test_http.py::test_an_address_that_is_taken_refuses_the_edit_until_it_is_free",
            "manifest/test_sections.py::test_addresses_that_are_refused",
        ),
    ),
    Fault(_D, 55, "no room for a download", ("effects/test_download.py::test_no_room_is_known_before_the_first_byte",)),
    Fault(
        _D,
        56,
        "a file system that becomes read-only",
        (
            "effects/test_download.py::test_a_disk_that_fails_is_told_and_what_is_here_stays",
            "e2e/test_failpoints.py::test_a_state_that_can_not_be_written_is_said_and_serving_goes_on",
        ),
    ),
    Fault(
        _D,
        57,
        "a system call fails",
        (
            "e2e/test_failpoints.py::test_a_state_that_can_not_be_written_is_said_and_serving_goes_on",
            "effects/test_download.py::test_a_disk_that_fails_is_told_and_what_is_here_stays",
        ),
        "at the places that have a failpoint; at random calls by `make soak-kills ARGS=--faults`, on request",
    ),
    Fault(
        _D,
        58,
        "64 descriptors and 500 connections",
        ("e2e/test_limits.py::test_more_connections_than_descriptors_are_waited_out_without_haste",),
    ),
    Fault(_D, 59, "no inotify", ("effects/test_watch.py::test_where_watching_fails_the_tick_goes_on_and_it_recovers",)),
    Fault(
        _D,
        60,
        "the clock jumps",
        (
            "e2e/test_clock.py::test_a_jump_stops_nothing_and_hurries_nothing",
            "e2e/test_clock.py::test_what_was_done_in_a_wrong_future_lasts_no_longer_than_it_should",
            "effects/test_certificates.py::test_the_clock_is_named",
            "core/test_updates.py::test_a_look_is_due_when_the_last_one_is_too_old",
        ),
    ),
    Fault(
        _D,
        61,
        "the daemon is stopped for a while and goes on",
        (
            "e2e/test_limits.py::test_a_daemon_that_was_stopped_for_a_while_kills_nobody_when_it_goes_on",
            "effects/test_workers.py::test_one_that_works_or_speaks_does_not_hang",
        ),
        "for 5 s, not for 90",
    ),
    Fault(
        _D,
        62,
        "a state directory that is another's, or open",
        (
            "effects/test_state.py::test_an_open_folder_of_somebody_else_is_refused_and_left_alone",
            "effects/test_state.py::test_only_we_may_read_whatever_the_umask",
        ),
    ),
    Fault(_D, 63, "a second daemon", ("e2e/test_daemon.py::test_a_second_daemon_is_refused_naming_the_pid",)),
    Fault(
        _D,
        64,
        "a state file that is broken",
        ("effects/test_state.py::test_a_broken_database_is_moved_aside_and_begun_anew",),
    ),
    Fault(
        _W,
        65,
        "a worker dies idle",
        (
            "e2e/test_observe.py::test_retry_tries_again_what_was_given_up",
            _SYSTEMD + "test_a_worker_that_is_killed_leaves_the_others_alone",
        ),
    ),
    Fault(
        _W,
        66,
        "a worker dies in mid-stream",
        ("e2e/test_daemon.py::test_a_killed_worker_ends_its_stream_with_an_error_and_comes_back",),
    ),
    Fault(
        _W,
        67,
        "a worker dies with requests in its queue",
        (
            "e2e/test_queue.py::test_what_waits_in_the_queue_of_a_worker_that_dies_is_answered_by_the_next",
            "e2e/test_queue.py::test_what_waits_is_told_when_no_worker_comes_any_more",
            "effects/test_workers.py::test_a_kill_ends_each_open_request_with_one_error",
        ),
    ),
    Fault(_W, 68, "it crashes again and again", ("e2e/test_observe.py::test_retry_tries_again_what_was_given_up",)),
    Fault(
        _W,
        69,
        "it is killed for memory",
        (
            "effects/test_workers.py::test_a_kill_for_memory_is_told_from_others",
            "effects/test_cgroup.py::test_each_kill_has_one_victim",
        ),
        "the kernel's count is a file of the test's: no memory controller in the rig",
    ),
    Fault(_W, 70, "it never ends to load", ("effects/test_workers.py::test_a_bad_start_is_a_failure_with_its_reason",)),
    Fault(_W, 71, "it prints without end", ("effects/test_workers.py::test_a_bad_start_is_a_failure_with_its_reason",)),
    Fault(
        _W,
        72,
        "frames that are none",
        ("effects/test_workers.py::test_a_worker_that_goes_bad_is_replaced_and_its_request_ends",),
    ),
    Fault(
        _W,
        73,
        "no GPU",
        (
            "engine/test_placement.py::test_a_gpu_that_is_not_there_is_no_gpu",
            "core/test_admission.py::test_one_candidate_gets_room_whenever_there_is_any_and_no_more_goes_than_must",
        ),
        "no GPU here: what one runs out of is reckoned, not met",
    ),
    Fault(
        _W,
        74,
        "a model is replaced under streams",
        (
            "e2e/test_daemon.py::test_an_alias_is_live_and_a_context_reloads_behind_a_running_stream",
            "e2e/test_memory.py::test_a_new_setting_is_loaded_beside_the_old_one_or_after_it",
        ),
    ),
    Fault(
        _W,
        75,
        "ten thousand requests, fifty loads and unloads",
        ("e2e/test_flat.py::test_ten_thousand_requests_and_fifty_loads_leave_nothing_behind",),
    ),
    Fault(
        _S,
        111,
        "a client leaves",
        (
            "e2e/test_daemon.py::test_a_client_that_leaves_frees_its_slot",
            "e2e/test_service.py::test_who_leaves_at_once_is_noticed_whatever_was_sent_behind",
        ),
    ),
    Fault(
        _S,
        112,
        "a silent stream",
        (
            "e2e/test_silence.py::test_a_stream_waits_for_longer_than_a_minute_and_is_answered",
            "e2e/test_http.py::test_a_stream_of_a_loading_model_begins_at_once",
        ),
        "75 seconds of it, not five minutes",
    ),
    Fault(
        _S,
        113,
        "a full queue",
        ("engine/test_serve.py::test_a_full_queue_is_429", "engine/test_batch.py::test_the_queue_is_bounded"),
    ),
    Fault(
        _S,
        114,
        "one client floods",
        ("engine/test_batch.py::test_no_client_is_served_twice_before_all_that_wait_are_served_once",),
    ),
    Fault(
        _S,
        115,
        "characters and stops over several tokens",
        ("engine/test_pure.py::test_streamed_text_is_the_text_before_the_first_stop",),
    ),
    Fault(
        _S,
        116,
        "cancelled, then the same beginning again",
        (
            "engine/test_llama.py::test_abort_stops_a_prompt_long_before_its_end_and_leaves_the_model_good",
            "engine/test_serve.py::test_whoever_leaves_gets_one_end_and_the_others_do_not_notice",
        ),
    ),
    Fault(
        _S,
        117,
        "SIGTERM under load, and a second one",
        (
            "e2e/test_daemon.py::test_sigterm_lets_a_running_stream_end_whole",
            "e2e/test_service.py::test_while_it_drains_nothing_new_begins_and_the_open_stream_ends_whole",
            "e2e/test_service.py::test_a_second_sigterm_ends_it_at_once",
        ),
    ),
    Fault(
        _S,
        118,
        "a reload that is refused",
        (
            "e2e/test_service.py::test_a_reload_by_signal_says_reloading_then_ready_and_what_was_refused",
            _SYSTEMD + "test_it_starts_reloads_and_refuses_a_bad_edit",
        ),
    ),
    Fault(
        _S,
        119,
        "kill -9 at any moment",
        (
            "e2e/test_daemon.py::test_a_killed_daemon_leaves_no_orphan_and_converges_again",
            "e2e/test_failpoints.py::test_killed_there_it_converges",
        ),
        "two hundred at random by `make soak-kills`",
    ),
    Fault(
        _S,
        120,
        "READY too early, and a loop that hangs",
        (
            "e2e/test_service.py::test_it_says_starting_then_ready_when_it_is",
            _SYSTEMD + "test_a_loop_that_hangs_is_killed_and_the_journal_shows_where",
        ),
    ),
    Fault(
        _S,
        121,
        "no service manager, or a dead one",
        (
            "effects/test_systemd.py::test_without_systemd_nothing_fails",
            "effects/test_systemd.py::test_a_reader_that_went_is_no_failure",
        ),
    ),
    Fault(
        _S,
        122,
        "an upgrade that is killed, and a downgrade",
        (
            "effects/test_state.py::test_a_kill_in_the_middle_of_a_migration_loses_nothing",
            "effects/test_state.py::test_the_database_of_a_newer_version_is_not_written_to",
        ),
    ),
    Fault(
        _S,
        123,
        "the command line against everything",
        (
            "cli/test_offgrid.py::test_each_failure_is_one_line_and_its_code",
            "cli/test_offgrid.py::test_ctrl_c_stops_the_answer_and_not_the_program",
            "cli/test_client.py::test_a_daemon_that_dies_is_one_line_and_3",
        ),
    ),
)


def outcomes(reports: Iterable[Path]) -> dict[str, str]:
    """FILE::NAME -> passed or failed, of JUnit reports; a test with parameters passed when all of them did."""
    found: dict[str, str] = {}
    for report in reports:
        for case in ET.parse(report).iter("testcase"):
            file = "/".join(str(case.get("classname")).split(".")[1:]) + ".py"
            name = f"{file}::{str(case.get('name')).partition('[')[0]}"
            bad = any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))
            found[name] = "failed" if bad or found.get(name) == "failed" else "passed"
    return found


def page(found: dict[str, str]) -> str:
    """`docs/faults.md`. What did not run in this group of tests is told so."""
    parts = [
        "# Faults\n\nWritten by `make test`; those of systemd by `make test-systemd`. Each row is made to happen.\n"
    ]
    for part, group in groupby(FAULTS, lambda fault: fault.part):
        parts.append(f"\n## {part}\n\n| # | fault | test | outcome |\n| --- | --- | --- | --- |\n")
        parts.extend(_row(fault, found) for fault in group)
    return "".join(parts)


def _row(fault: Fault, found: dict[str, str]) -> str:
    ran = [
        found.get(test, "by make test-systemd" if test.startswith("systemd/") else "not run") for test in fault.tests
    ]
    outcome = "failed" if "failed" in ran else "passed" if "passed" in ran else "not run" if fault.tests else "-"
    tests = "<br>".join(f"`{test}`" for test in fault.tests)
    return (
        f"| {fault.number} | {fault.text} | {tests}{'<br>' if tests and fault.note else ''}{fault.note} | {outcome} |\n"
    )
