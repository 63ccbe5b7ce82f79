"""``ulsam-deploy bench --host``: the same measurement on boards over SSH, with one table for all."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from ulsam_deploy.boards.remote import check_host
from ulsam_deploy.cli.documents import BenchHostsDocument, Timed
from ulsam_deploy.cli.hosts import HostReply, asides, at_hosts, overall, sent, stopped
from ulsam_deploy.device.bench.result import Result
from ulsam_deploy.device.bundle.kinds import RESULT
from ulsam_deploy.device.bundle.output import Output
from ulsam_deploy.device.checks import Check
from ulsam_deploy.device.commands import timings
from ulsam_deploy.device.commands.answer import Answer, Part, Table
from ulsam_deploy.device.commands.arguments import targets_of
from ulsam_deploy.device.commands.ci import handover
from ulsam_deploy.device.errors import Exit, RefusedError, UnavailableError, combine
from ulsam_deploy.device.findings import Verdict

_RESULT = "result.json"


def run(arguments: argparse.Namespace) -> Answer:
    """Measure on all hosts in parallel; each received result is kept, even if other hosts fail."""
    files = {"inputs.npz": arguments.inputs} if arguments.inputs else {}
    outputs = _outputs(arguments)
    with handover(arguments, arguments.bundle, *outputs.values()) as told:
        with sent({"bundle": arguments.bundle}, files) as folder:
            replies = at_hosts(arguments, folder, _words(arguments), (_RESULT,))
        results = {reply.host: result for reply in replies if (result := _result(reply, targets_of(arguments)))}
        _keep(outputs, results)
        told.columns, told.rows = ("host", *timings.COLUMNS), _rows(results)
        told.sentence = " ".join(f"{host}: {timings.sentence(result)}" for host, result in results.items())
        for host, result in results.items():
            told.checks += [
                Check(f"{host} {each.subject}", each.name, each.verdict, each.text) for each in timings.checks(result)
            ]
        for reply in replies:
            if reply.error:
                told.checks.append(Check(reply.host, "bench", Verdict.FAIL, str(reply.error)))
    code = overall(replies)
    text: list[Part] = [*asides(replies), *([Table(told.columns, told.rows)] if results else [])]
    for host, result in results.items():
        text += timings.remarks(result, host)
    hosts = {
        reply.host: Timed(results.get(reply.host), str(reply.error) if reply.error else None, int(reply.code))
        for reply in replies
    }
    return Answer(BenchHostsDocument(hosts, int(code)), text, code)


def _words(arguments: argparse.Namespace) -> list[str]:
    """The same command for the board, without the options that concern its results here."""
    found = ["bench", "bundle", "-o", _RESULT, "--json", "--profile", arguments.profile]  # so errors are documents
    for name in ("rounds", "threads", "provider", "batch"):
        given = getattr(arguments, name)
        found += [f"--{name}", str(given)] if given else []
    targets = targets_of(arguments)
    found += ["--target", ",".join(targets)] if targets else []
    found += ["--cpus", ",".join(map(str, arguments.cpus))] if arguments.cpus else []
    found += ["--inputs", "inputs.npz"] if arguments.inputs else []
    found += ["--time-limit", str(arguments.time_limit), "--memory-limit", str(arguments.memory_limit)]
    found += ["--jail", arguments.jail]
    return found


def _result(reply: HostReply, targets: Sequence[str]) -> Result | None:
    """The received result; ``None``, with ``reply.error`` set, if there is none. What a board sends is not trusted."""
    if reply.finished is None:
        return None
    text = reply.finished.files.get(_RESULT)
    if text is None:
        reply.error = reply.error or stopped(reply)
        reply.code = Exit.UNAVAILABLE if reply.code is Exit.OK else reply.code
        return None
    try:
        found = Result.from_json(text, f"the result of {reply.host}")
    except RefusedError as error:
        reply.error, reply.code = error, Exit.REFUSED
        return None
    if silent := sorted(set(targets) - {each.target for each in found.measured}):
        reply.error = reply.error or UnavailableError(f"{reply.host} said nothing about {silent[0]}")
        reply.code = combine([reply.code, Exit.UNAVAILABLE])
    return found


def _outputs(arguments: argparse.Namespace) -> dict[str, Output]:
    """The result file of each host: ``--output`` for one host; next to it, with the host's name, for several."""
    if arguments.output is None:
        return {}
    hosts = [check_host(host) for host in dict.fromkeys(arguments.host)]
    return {host: Output(output_of(arguments.output, host, len(hosts)), RESULT, arguments.force) for host in hosts}


def _keep(outputs: Mapping[str, Output], results: Mapping[str, Result]) -> None:
    """Write the result file of every host that sent one."""
    for host, output in outputs.items():
        if host in results:
            output.write(results[host].to_json().encode())


def output_of(output: Path, host: str, hosts: int) -> Path:
    """``result.json`` for one host; ``result.kitchen.json`` for ``pi@kitchen`` among several."""
    if hosts == 1:
        return output
    return output.with_name(f"{output.stem}.{host.rpartition('@')[2]}{output.suffix}")


def _rows(results: Mapping[str, Result]) -> list[tuple[str, ...]]:
    return [(host, *row) for host, result in results.items() for row in timings.rows({"": result})]
