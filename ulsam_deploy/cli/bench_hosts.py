"""``ulsam-deploy bench --host``: the same measurement on boards behind SSH, and one table of them all."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from ulsam_deploy.boards.remote import check_host
from ulsam_deploy.cli.hosts import HostAnswer, at_hosts, overall, sent, stopped
from ulsam_deploy.device import codec
from ulsam_deploy.device.bench.result import Result
from ulsam_deploy.device.bundle.kinds import RESULT
from ulsam_deploy.device.bundle.output import Output
from ulsam_deploy.device.checks import Check
from ulsam_deploy.device.commands import timings, words
from ulsam_deploy.device.commands.arguments import targets_of
from ulsam_deploy.device.commands.ci import handover
from ulsam_deploy.device.errors import Exit, RefusedError
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.printing import complain, say

_RESULT = "result.json"


def run(arguments: argparse.Namespace) -> Exit:
    """Every host measures at once; each result that came back is kept, whatever became of the others."""
    files = {"inputs.npz": arguments.inputs} if arguments.inputs else {}
    outputs = _outputs(arguments)
    with handover(arguments, arguments.bundle.name, *outputs.values()) as told:
        with sent({"bundle": arguments.bundle}, files) as folder:
            answers = at_hosts(arguments, folder, _words(arguments), (_RESULT,))
        results = {answer.host: result for answer in answers if (result := _result(answer))}
        _keep(outputs, results)
        told.columns, told.rows = ("host", *timings.COLUMNS), _rows(results)
        told.sentence = " ".join(f"{host}: {timings.sentence(result)}" for host, result in results.items())
        for host, result in results.items():
            told.checks += [
                Check(f"{host} {each.subject}", each.name, each.verdict, each.text) for each in timings.checks(result)
            ]
        for answer in answers:
            if answer.error:
                told.checks.append(Check(answer.host, "bench", Verdict.FAIL, str(answer.error)))
    for answer in answers:
        if answer.error:
            complain(answer.error)
    code = overall(answers)
    if arguments.json:
        hosts = {
            answer.host: {
                "result": codec.encode(results[answer.host], "result") if answer.host in results else None,
                "error": str(answer.error) if answer.error else None,
                "exit_code": int(answer.code),
            }
            for answer in answers
        }
        words.print_json("bench-hosts", {"hosts": hosts, "exit_code": int(code)})
        return code
    if results:
        words.print_table(told.columns, told.rows)
    for host, result in results.items():
        say(*timings.remarks(result, host).split("\n"))
    return code


def _words(arguments: argparse.Namespace) -> list[str]:
    """The same command for the board, without what is done with its results here."""
    found = ["bench", "bundle", "-o", _RESULT, "--json", "--profile", arguments.profile]  # an error is a document so
    for name in ("rounds", "threads", "batch"):
        given = getattr(arguments, name)
        found += [f"--{name}", str(given)] if given else []
    targets = targets_of(arguments)
    found += ["--target", ",".join(targets)] if targets else []
    found += ["--cpus", ",".join(map(str, arguments.cpus))] if arguments.cpus else []
    found += ["--inputs", "inputs.npz"] if arguments.inputs else []
    found += ["--time-limit", str(arguments.time_limit), "--memory-limit", str(arguments.memory_limit)]
    return found


def _result(answer: HostAnswer) -> Result | None:
    """The result that came back; ``None`` and ``answer.error`` where none did. What a board sends is not trusted."""
    if answer.finished is None:
        return None
    text = answer.finished.files.get(_RESULT)
    if text is None:
        answer.error = answer.error or stopped(answer)
        answer.code = Exit(answer.error.exit_code)
        return None
    try:
        return Result.from_json(text, f"the result of {answer.host}")
    except RefusedError as error:
        answer.error, answer.code = error, Exit.REFUSED
        return None


def _outputs(arguments: argparse.Namespace) -> dict[str, Output]:
    """The result file of each host: one host's is ``--output`` itself, several hosts' lie beside it, their names in
    theirs.
    """
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
