"""Verification of a run: what its server and its clients signed, and what is said of it, agree.

What is checked, for every seed of a run: the chain of the server's receipts; every client's
signature; that the receipts say what was signed, and count leverage and epsilon as they must; that
the folder holds what the server's manifest says, and the report what its signed outcome says; and,
where a client's own store is there, as in a simulation, that its ledger holds the same entries, the
same reasons, and all that it held when the run ended. What was not checked is told as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from neulig_fl.config.values import SERVER
from neulig_fl.core.errors import InputError, nearest
from neulig_fl.core.files import sha256
from neulig_fl.core.run_folders import GIVEN_FILE
from neulig_fl.ledger import chain, manifest, receipts
from neulig_fl.report import composition
from neulig_fl.verification import given_scenario, report_check
from neulig_fl.verification.audit import Audit
from neulig_fl.verification.findings import OWN, SCENARIO, Checked, Findings, Signer
from neulig_fl.verification.report_check import PAGE_FILE, REPORT_FILE


def verify(
    run: Path, trust: Mapping[str, str] | None = None, stores: Path | None = None
) -> list[Findings]:
    """Verify a run's folder, or that of one of its seeds.

    Args:
        run: the folder.
        trust: the public key that a client, or `server`, must have had, by name.
        stores: the folder of the clients' stores, where the run's own does not hold them.

    Returns:
        What was found, seed by seed; then of the seeds' summary, where there is one.

    Raises:
        InputError: there is no run in the folder, or `trust` names no party of it, or no key.
    """
    pins = dict(trust or {})
    receipts.require_pins(pins)
    _require_files(run)
    found = [_verified(folder, pins, stores) for folder in _seeds(run)]
    summary = report_check.of_seeds(run, found)
    return found if summary is None else [*found, summary]


def _require_files(run: Path) -> None:
    """Refuse a folder with a pipe or a device in it, on which reading would wait for ever."""
    for path in sorted(run.rglob("*")):
        if path.exists() and not path.is_file() and not path.is_dir():
            raise InputError(f"{path}: is neither a file nor a folder; a run leaves nothing else")


def _seeds(run: Path) -> list[Path]:
    names = (REPORT_FILE, manifest.FILE)
    if any((run / name).is_file() for name in names):
        if any(run.glob("seed-*/")):
            raise InputError(f"{run}: holds a run's files beside those of seeds; it is one of both")
        return [run]
    found = {path.parent for name in names for path in run.glob(f"seed-*/{name}")}
    if not found:
        raise InputError(
            f"{run}: holds neither {REPORT_FILE} nor {manifest.FILE}, nor does a seed-N in it; "
            "give the folder of a run that ended"
        )
    return sorted(found, key=lambda path: (len(path.name), path.name))


def _verified(folder: Path, pins: Mapping[str, str], stores: Path | None) -> Findings:
    audit = Audit(folder, pins, stores)
    failures = tuple(audit.failures())
    for name in pins:
        if name not in (*audit.identities, SERVER) and receipts.TRUST_FILE not in {
            failure.file.name for failure in failures
        }:
            known = nearest(name, [*audit.identities, SERVER])
            raise InputError(f"no client is called {name!r} in {folder}; {known}")
    clients = tuple(_client(audit, name) for name in sorted(audit.identities))
    return Findings(
        folder=folder,
        checked=() if failures else tuple(_checked(audit, clients)),
        unchecked=tuple(_unchecked(audit, clients)),
        failures=failures,
        entries=len(audit.entries),
        head=chain.head(audit.entries),
        server=_server(audit),
        clients=clients,
        error=audit.error,
    )


def _server(audit: Audit) -> Signer | None:
    if audit.made is None:
        return None
    return Signer(SERVER, audit.made.server.key, audit.pins.source(SERVER))


def _client(audit: Audit, name: str) -> Checked:
    said = audit.made.clients.get(name, {}) if audit.made else {}
    return Checked(
        name=name,
        key=audit.identities[name].key,
        pinned=audit.pins.source(name),
        signed=len(receipts.signed_entries(audit.entries, name)),
        own=len(audit.own[name]) if name in audit.own else None,
        closed=str(said["reason"]) if "reason" in said else None,
    )


# ---------------------------------------------------------------- what holds


def _checked(audit: Audit, clients: Sequence[Checked]) -> Iterator[str]:
    """What holds, where nothing failed; a line each."""
    if audit.made is not None:
        files = ", ".join(sorted(audit.made.files))
        yield f"{manifest.FILE}: {_signed(_server(audit))}; it names {files}"
    yield (
        f"{receipts.FILE}: {len(audit.entries)} entries, their chain and their clients' "
        f"signatures; head {str(chain.head(audit.entries))[:16]}"
    )
    for client in clients:
        own = _own(client)
        yield f"client {client.name}: {_signed(client)}; {client.signed} receipts signed{own}"
    if audit.error is None:
        page = "" if audit.other_version else f", and {PAGE_FILE} what {REPORT_FILE} says"
        yield f"{REPORT_FILE}: it says what the signed outcome says{page}"
        if audit.recounted:
            yield (
                f"{manifest.PREDICTIONS}: accuracies, gaps, agreement, intervals and comparisons "
                f"of {REPORT_FILE}, counted again from it"
            )
        yield _epsilon(audit)
    place = given_scenario.given(audit.folder)
    if place is not None:
        yield f"{GIVEN_FILE}: it says what {SCENARIO} says; folders of paths apart"
    yield f"protection and noise of each entry: what {SCENARIO} asks for"
    if audit.counted.entries:
        yield (
            f"leverage: counted again for {audit.counted.entries} entries, from the receipts; "
            "below every max_leverage of the scenario"
        )


def _signed(signer: Signer | None) -> str:
    """A key in words; without a pin it proves nothing but that one party signed all of it."""
    if signer is None:
        return "not signed"
    known = {
        OWN: f"pinned by {OWN}",
        SCENARIO: f"pinned by {SCENARIO} in this folder",
        None: "which nobody pinned",
    }
    return f"signed by {signer.key} (fingerprint {signer.fingerprint}), {known[signer.pinned]}"


def _own(client: Checked) -> str:
    if client.own is None:
        return ""
    end = "" if client.closed else ", whole to its signed end"
    return f"; its own ledger of {client.own} entries{end}"


def _epsilon(audit: Audit) -> str:
    noised = any(
        isinstance(each.get("entry"), dict) and each["entry"].get("noise_multiplier") is not None
        for each in audit.entries
    )
    if noised:
        return "epsilon: added up again from the noise that the clients signed"
    return "epsilon: no record was noised, and none is claimed"


# ---------------------------------------------------------------- what was not looked at


def _unchecked(audit: Audit, clients: Sequence[Checked]) -> Iterator[str]:
    """What was not checked, and why; a line each."""
    if not audit.sound or audit.made is None:
        yield "reasons, leverage, report and scenario: what they rest on does not hold"
    yield from _unpinned(audit, clients)
    for client in clients:
        if client.own is None:
            yield f"client {client.name}: its own ledger is not here and was not looked at"
        if client.closed is not None:
            yield (
                f"client {client.name}: a cut at the end of its ledger would not be found, for it "
                f"did not sign the end ({client.closed})"
            )
        if client.name in audit.torn:
            yield (
                f"client {client.name}: the last line of its ledger, which has no end: it was "
                "being written when its process was killed, and counts for nothing"
            )
    for doubt in audit.doubts:
        yield f"whether a reply was lost: client {doubt}"
    for name in audit.counted.more:
        yield (
            f"client {name}: it signed more leverage than these receipts come to; rows of other "
            "runs, what others told it, or sums whose receipts were lost"
        )
    if audit.unread:
        names = ", ".join(audit.unread)
        yield f"max_leverage of {names}: a policy file of the scenario cannot be read here"
    if audit.counted.entries:
        yield "max_leverage of nodes' own policies: they are not in the scenario"
    if audit.error is None:
        yield from _attested(audit)
    if given_scenario.given(audit.folder) is None:
        yield f"{GIVEN_FILE}: not here, so the report's scenario.hash was not calculated again"
    yield "whether a record is honest: that features are those of the expert is nobody's proof"
    yield "report.html: draw it again with `neulig-fl report RUN --format html`"
    yield "progress.jsonl, flower.log, address-book.json, and what clients keep besides ledgers"


def _unpinned(audit: Audit, clients: Sequence[Checked]) -> Iterator[str]:
    server = _server(audit)
    if server is not None and server.pinned is None:
        yield (
            f"who the server was: nobody pinned its key, {server.key} (fingerprint "
            f"{server.fingerprint}); compare it with the server's, then give {OWN} {SERVER}=KEY"
        )
    unknown = [client.name for client in clients if client.pinned is None]
    if unknown:
        yield f"who {', '.join(unknown)} were: nobody pinned their keys; {OWN} NAME=KEY does"
    signers = [*([server] if server else []), *clients]
    file = audit.folder / SCENARIO
    if any(signer.pinned == SCENARIO for signer in signers) and file.is_file():
        yield (
            f"whether {SCENARIO} is the one that you agreed to: its pins are worth that much; "
            f"its SHA-256 is {sha256(file)}"
        )


def _attested(audit: Audit) -> Iterator[str]:
    """What of a report rests on somebody's word."""
    if audit.recounted:
        yield (
            "predictions, true classes and Portland's trajectory: the server's word, which it "
            "signed; no model was run again"
        )
    else:
        yield (
            "accuracies, intervals and Portland's trajectory: the server's word, which it signed; "
            f"{manifest.PREDICTIONS} is not here or does not hold, so nothing was counted again"
        )
    yield f"{', '.join(composition.UNSIGNED)}: in {REPORT_FILE}, and nobody signed them"
    if audit.other_version:
        yield f"{PAGE_FILE}: neulig-fl {audit.other_version} wrote it, which may write it otherwise"
