"""``ulsam-deploy doctor --host``: what is available on boards over SSH, in one table."""

from __future__ import annotations

import argparse

from ulsam_deploy.cli.documents import DoctorHostsDocument, DoctorThere
from ulsam_deploy.cli.hosts import asides, at_hosts, document, overall, sent
from ulsam_deploy.device.commands.answer import Answer, Part, Table
from ulsam_deploy.device.commands.backends import rows
from ulsam_deploy.device.commands.documents import DoctorDocument

COLUMNS = ("host", "backend", "precision", "there", "found", "do this")


def run(arguments: argparse.Namespace) -> Answer:
    """Report what each host has; a host that can't be reached is an error, a missing engine is an answer."""
    with sent({}) as folder:
        replies = at_hosts(arguments, folder, ["doctor", "--json"])
    found = {reply.host: document(reply, DoctorDocument) for reply in replies}
    code = overall(replies)
    text: list[Part] = [*asides(replies)]
    cells: list[tuple[str, ...]] = []
    for reply in replies:
        told = found[reply.host]
        for backend in told.backends if told else ():
            cells += [(reply.host, *row[1:]) for row in rows(backend)]
        if reply.finished:
            text.append(f"{reply.host}: Python {reply.finished.python}, {reply.finished.machine}")
        text += [f"{reply.host}: {note}" for note in (told.notes if told else ())]
    text += ["", Table(COLUMNS, cells)] if cells else []
    hosts = {
        reply.host: DoctorThere(found[reply.host], str(reply.error) if reply.error else None, int(reply.code))
        for reply in replies
    }
    return Answer(DoctorHostsDocument(hosts, int(code)), text, code)
