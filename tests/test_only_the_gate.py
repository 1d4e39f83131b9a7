"""Nothing leads from a client's model or data to a Flower message but the gate.

The source is walked, not run. What a client says at all, and where every part of that comes from,
is written down here word by word: whoever lets a client say something more has to say it here too.

1. Records are made and packed by `gate` alone, and by it alone put into a client's store and taken
   out of it; what left before is given again by `asked_again` alone. For secure sums `client.secagg.gate` is the gate: there a record becomes a vector, which goes
   nowhere but into `secagg.mask`.
2. What a client holds is handed to the gate unopened.
3. `ClientHandler` and `Summing` reply with what `REPLIES` lists, and their words come from where `SOURCES`
   says.
4. The app's handlers hand a message to `flower_messages.answer_message` and return what that returns; it
   alone makes replies, of what `ClientHandler` answered or of a public reason.
5. The client's side has no other way out: no state of Flower's, no network, no other process.
6. Its doors (`clients/app.py`, `client.handler`, `gate` and those of sums) reach nothing by a name made at
   run time, which a walk could not follow.

Each rule is tried on a copy of the source into which a way round it is planted.
"""

from __future__ import annotations

import ast
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
APP, PARTY, GATE, EDGE = (
    "clients.app",
    "neulig_fl.client.handler",
    "neulig_fl.client.gate",
    "neulig_fl.runtime.flower_messages",
)
STORE, RECORDS = "neulig_fl.client.store", "neulig_fl.records.kinds"
PAYLOADS = "neulig_fl.records.payloads"
AGAIN = "neulig_fl.client.asked_again"
"""Gives what left once more to a server that is resumed, with the entry that charged it."""

SUMMING, SUM_GATE = "neulig_fl.client.secagg.protocol", "neulig_fl.client.secagg.gate"
GATES = (GATE, SUM_GATE)
HOLDINGS = "neulig_fl.client.holdings"
DOORS = (APP, PARTY, HOLDINGS, SUMMING, AGAIN, *GATES)

MAKES = {RECORDS: "build", PAYLOADS: "pack"}
"""What makes a record, and its bytes."""

MADE = "made_of"
"""What a kind's own file makes a record with; `build` alone calls it."""

KEEPS = {"keep", "find", "receipted", "charge", "keep_sent", "sent"}
"""What in a client's store writes or reads released bytes."""

UNOPENED = {
    "fault", "rows", "rows_by_task", "images_by_task", "sent_images", "sizes", "data_hash",
    "record_hash", "expert", "start",
}  # fmt: skip
"""What may be asked of a client's holdings besides its records; none of it loads the expert, and
`start` is the checkpoint that everybody has, `images_by_task` the content ids of public queries."""

REPLIES = {
    (PARTY, "ClientHandler"): {
        "answer": {
            "(self._hello(body), b'')",
            "(self._prepare(gate.admit_preparing(side, asked), opening.run), b'')",
            "self._release(side, asked, payload)",
            "self._sum(side, let_in, payload)",
            "again",
            "(self._close(side, asked, payload), b'')",
        },
        "_hello": {"client_hello(self._store().identity, self.name, versions.own(), run)"},
        "_prepare": {"{'trained': trained}"},
        "_release": {"(reply, released.payload)"},
        "_sum": {"summing.answer(let_in.request.asked)"},
        "_close": {"closing(own, self.name, side.store.run or '', server.key, entries)"},
    },
    (SUMMING, "Summing"): {
        "answer": {
            "self._advertise(body)",
            "self._share(held, message, body.get('histories'))",
            "self._mask(held, message)",
            "self._confirm(held, message)",
            "self._reveal(held, message)",
            "before",
        },
        "_before": {"None", "(dict(held.last['reply']), b'')", "(reply, released.payload)"},
        "_advertise": {"self._kept(held, sent, history=said.to_body())"},
        "_share": {"self._kept(held, sent)"},
        "_confirm": {"self._kept(replace(held, state=state), sent)"},
        "_reveal": {"self._kept(replace(held, state=state), sent)"},
        "_kept": {"({'message': sent.hex(), **more}, b'')"},
        "_mask": {"(reply, released.payload)"},
    },
}
"""Everything that a client says, by module, class and method."""

SOURCES = {
    "run": {"opening.run", "None"},
    "server": {"gate.admit_closing"},
    "entries": {"(side.store.entries(), side.store.identity)"},
    "own": {"(side.store.entries(), side.store.identity)"},
    "trained": {"self.encoder(group)"},
    "released": {"gate.release", "sum_gate.contribute", "sum_gate.charge_again"},
    "again": {"asked_again.reply"},
    "before": {"self._before(held)"},
    "entry": {"released.entry"},
    "reply": {"{'rows': released.rows, 'sha256': entry['sha256'], 'entry': entry}"},
    "summing": {"Summing"},
    "said": {"sum_gate.statement"},
    "sent": {f"secagg.{step}" for step in ("advertise", "share", "confirm", "reveal")},
}
"""Where the words of those replies come from: the expression, or what is called."""

WORDS = ("reply", "entry", "released", "released.entry", "trained")
"""What a reply consists of: no method of these is called."""

CONTRIBUTED = "side.store.charge(payload, rows, fact)"
"""What `gate.contribute` returns: charged on the way."""

CHARGED_AGAIN = "side.store.charge(payload, held.asked.rows(holdings.rows_by_task), fact)"
"""What `gate.charge_again` returns: a vector whose process died before it was charged."""

GIVEN_AGAIN = {"None", "(_told(entry), _sent(store, entry))"}
"""What `asked_again.reply` returns; the bytes are those of the entry, by their hash."""

VECTOR = {"vector": {"weighted"}, "chunks": {"secagg.mask"}, "payload": {"room.getvalue()"}}
"""Where a masked vector comes from, in `gate.contribute`."""

MESSAGES = {
    "answer_message": "Message(encode(*respond(context, action, body, payload)), reply_to=message)",
    "_error": "Message(Error(code=code, reason=reason), reply_to=message)",
    "_push": "Message(content, node, MESSAGE_TYPES[ask.action], ttl=lifetime)",
}
"""The only messages that are made outside `engines/`, by function; the last is the server's."""

HAND_ON = "answer_message(message, context, _respond)"
"""All that a handler of the app does."""

ANNOTATIONS = ("Context", "Message", "ClientApp")
"""What the app may import of Flower."""

REASONS = {
    "refusal.public_reason or type(refusal).__name__",
    "error.public_reason or type(error).__name__",
    "f'unexpected {type(error).__name__}'",
}
"""What an error tells."""

FLOWER = {"Message", "RecordDict", "ArrayRecord", "ConfigRecord", "MetricRecord", "Array", "Error"}
"""What Flower's messages are made of."""

WAYS_OUT = {
    "aiohttp", "ftplib", "grpc", "http", "httpx", "multiprocessing", "requests", "smtplib", "socket",
    "socketserver", "ssl", "subprocess", "urllib", "urllib3", "websockets", "xmlrpc",
}  # fmt: skip
AT_RUN_TIME = {
    "getattr",
    "setattr",
    "eval",
    "exec",
    "globals",
    "vars",
    "__import__",
    "import_module",
}


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


def _trees(root: Path) -> dict[str, ast.Module]:
    """Every module of the library and of the client app, by dotted name."""
    found = {}
    for folder in ("neulig_fl", "clients"):
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(part for part in parts if part != "__init__")
            found[name] = _parsed(path.read_text(encoding="utf-8"))
    return found


def _imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Every import at any depth: dotted name and the name that it is bound to."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, alias.asname or alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield f"{node.module}.{alias.name}", alias.asname or alias.name


def _client_side(trees: dict[str, ast.Module]) -> list[str]:
    """What the client app leads to."""
    seen: list[str] = []
    todo = [name for name in trees if name.startswith("clients")]
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.append(module)
        for name, _ in _imported(trees[module]):
            todo += [n for n in (name, name.rpartition(".")[0]) if n in trees and n != "neulig_fl"]
    return sorted(seen)


def faults(root: Path) -> list[str]:
    """Every way round the gate in the source below `root`, one line each."""
    trees = _trees(root)
    mine = _client_side(trees)
    found = [
        *(line for name, tree in trees.items() for line in _anywhere(name, tree)),
        *(line for name in DOORS for line in _holdings(trees[name], name)),
        *(line for (name, owner) in REPLIES for line in _replies(trees[name], name, owner)),
        *_contributions(trees[SUM_GATE]),
        *_given_again(trees[AGAIN]),
        *_app(APP, trees[APP]),
        *(line for name in mine for line in _ways_out(name, trees[name])),
        *(line for name in DOORS for line in _at_run_time(name, trees[name])),
    ]
    assert {*DOORS, EDGE, STORE, RECORDS, PAYLOADS} <= set(mine), (
        "the walk misses the client's side"
    )
    return found


@cache
def _anywhere(name: str, tree: ast.Module) -> tuple[str, ...]:
    """The rules that hold in every module; a tree that did not change is walked once."""
    return (*_records_and_store(name, tree), *_messages(name, tree))


# ---------------------------------------------------------------- 1 and 2: records, store, holdings


def _attributes(tree: ast.Module, names: set[str]) -> Iterator[tuple[int, str, str]]:
    """Line, whole text and owner of every `owner.name`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in names:
            yield node.lineno, ast.unparse(node), ast.unparse(node.value)


def _records_and_store(name: str, tree: ast.Module) -> Iterator[str]:
    bound = dict(_imported(tree))
    for module, makes in MAKES.items():
        if name in (*GATES, module):
            continue
        short = module.rpartition(".")[2]
        if f"{module}.{makes}" in bound:
            yield f"{name} takes {makes} from records.{short}"
        modules = {bound.get(module, short), short, module}
        for line, text, owner in _attributes(tree, {makes}):
            if owner in modules:
                yield f"{name}:{line} makes a record: {text}"
    if name != RECORDS:
        for line, text, _ in _attributes(tree, {MADE}):
            yield f"{name}:{line} makes a record: {text}"
    opened = STORE in bound or f"{STORE}.ClientStore" in bound
    if name != SUMMING and not opened:
        return
    if opened and name not in (*GATES, PARTY, STORE, AGAIN):
        yield f"{name} opens a client's store"
    if name not in (*GATES, STORE, AGAIN):
        for line, text, _ in _attributes(tree, KEEPS):
            yield f"{name}:{line} reads or writes released bytes: {text}"


def _holdings(tree: ast.Module, name: str) -> Iterator[str]:
    for node in ast.walk(tree):
        text = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Call) else ""
        if isinstance(node, ast.Attribute) and text.startswith("holdings."):
            if node.attr not in UNOPENED:
                yield f"{name}:{node.lineno} opens what a client holds: {text}"
        elif (
            text.startswith("ClientHoldings(") and text != "ClientHoldings(self, request, payload)"
        ):
            yield f"{name}: makes holdings otherwise: {text}"


# ---------------------------------------------------------------- 3: replies


def _replies(tree: ast.Module, module: str, owner: str) -> Iterator[str]:
    replying = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == owner)
    methods = {n.name: n for n in replying.body if isinstance(n, ast.FunctionDef)}
    for name, said in REPLIES[module, owner].items():
        for node in ast.walk(methods[name]):
            if isinstance(node, ast.Return | ast.Yield | ast.YieldFrom):
                text = ast.unparse(node.value) if node.value else "None"
                if text not in said:
                    yield f"{module}:{node.lineno} {name} says {text}"
        yield from _sources(methods[name], module, SOURCES)
        yield from _changes(methods[name], module)


def _sources(method: ast.FunctionDef, module: str, sources: dict[str, set[str]]) -> Iterator[str]:
    """What is put into the words of a reply, by name."""
    given = {id(leaf): value for leaf, value in _assignments(method)}
    for node in ast.walk(method):
        if not isinstance(node, ast.Name) or isinstance(node.ctx, ast.Load):
            continue
        if node.id in sources:
            value = given.get(id(node))
            text = ast.unparse(value) if value else "elsewhere"
            called = ast.unparse(value.func) if isinstance(value, ast.Call) else text
            if not {text, called} & sources[node.id]:
                yield f"{module}:{node.lineno} {node.id} comes from {text}"


def _changes(method: ast.FunctionDef, module: str) -> Iterator[str]:
    """Nothing is put into a reply later."""
    for node in ast.walk(method):
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            yield f"{module}:{node.lineno} a reply may be changed: {ast.unparse(node)}"
        called_at = node.func if isinstance(node, ast.Call) else None
        if isinstance(called_at, ast.Attribute) and ast.unparse(called_at.value) in WORDS:
            yield f"{module}: a reply is changed: {ast.unparse(called_at)}"


def _contributions(tree: ast.Module) -> Iterator[str]:
    """In the gate for sums a vector goes into the mask alone, and leaves as what comes out of it."""
    for inside, node in _functions(tree):
        text = ast.unparse(node) if isinstance(node, ast.Call) else ""
        charged = {("contribute", CONTRIBUTED), ("charge_again", CHARGED_AGAIN)}
        if text.startswith("side.store.charge(") and (inside, text) not in charged:
            yield f"{SUM_GATE}:{node.lineno} {inside} charges otherwise: {text}"  # type: ignore[attr-defined]
    named = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    method = named["contribute"]
    yield from _sources(method, SUM_GATE, VECTOR)
    yield from _sources(named["charge_again"], SUM_GATE, {"payload": {"side.store.sent"}})
    returned = [
        ast.unparse(n.value) for n in ast.walk(method) if isinstance(n, ast.Return) and n.value
    ]
    if returned != [CONTRIBUTED]:
        yield f"{SUM_GATE} contribute returns {returned}"
    into = [
        ast.unparse(call.func)
        for call in ast.walk(method)
        if isinstance(call, ast.Call) and any(ast.unparse(a) == "vector" for a in call.args)
    ]
    uses = [n for n in ast.walk(method) if isinstance(n, ast.Name) and n.id == "vector"]
    if into != ["secagg.mask"] or len(uses) != 2:  # once bound, once handed on
        yield f"{SUM_GATE} hands a vector to {into}, and names it {len(uses)} times"


def _given_again(tree: ast.Module) -> Iterator[str]:
    """What left before leaves again as it left: the store's bytes, and the entry's own words."""
    named = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    for name, said in {
        "reply": GIVEN_AGAIN,
        "_told": {"{'rows': entry['rows'], 'sha256': entry['sha256'], 'entry': entry}"},
        "_sent": {"found"},
    }.items():
        for node in ast.walk(named[name]):
            if isinstance(node, ast.Return) and node.value and ast.unparse(node.value) not in said:
                yield f"{AGAIN}:{node.lineno} {name} says {ast.unparse(node.value)}"
        yield from _sources(named[name], AGAIN, {"found": {"store.sent"}})


def _assignments(method: ast.FunctionDef) -> Iterator[tuple[ast.AST, ast.expr]]:
    """Everything that a plain assignment stores to, with what it stores."""
    for node in ast.walk(method):
        if isinstance(node, ast.Assign):
            yield from ((leaf, node.value) for each in node.targets for leaf in ast.walk(each))


# ---------------------------------------------------------------- 4: messages


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Every node, with the innermost function that it stands in."""

    def visit(node: ast.AST, inside: str) -> Iterator[tuple[str, ast.AST]]:
        for child in ast.iter_child_nodes(node):
            own = child.name if isinstance(child, ast.FunctionDef) else inside
            yield own, child
            yield from visit(child, own)

    yield from visit(tree, "")


def _messages(name: str, tree: ast.Module) -> Iterator[str]:
    if name.startswith("neulig_fl.runtime.engines"):
        return  # carries messages, and runs the apps: it holds no client's data
    for inside, node in _functions(tree):
        if not isinstance(node, ast.Call):
            continue
        text, called = ast.unparse(node), ast.unparse(node.func).rpartition(".")[2]
        if called == "Message" and (name != EDGE or text != MESSAGES.get(inside)):
            yield f"{name}:{node.lineno} makes a message: {text}"
        elif called in FLOWER and name != EDGE:
            yield f"{name}:{node.lineno} makes a part of a message: {text}"
        if name == EDGE and called == "_error" and ast.unparse(node.args[2]) not in REASONS:
            yield f"{name}:{node.lineno} tells of an error: {text}"
    for whole, bound in _imported(tree):
        if whole.startswith("flwr.") and whole.rpartition(".")[2] != bound != whole:
            yield f"{name} gives {whole} another name"


def _app(name: str, tree: ast.Module) -> Iterator[str]:
    for whole, _ in _imported(tree):
        if whole.startswith("flwr") and whole.rpartition(".")[2] not in ANNOTATIONS:
            yield f"{name} imports {whole}"
    for function in (node for node in tree.body if isinstance(node, ast.FunctionDef)):
        steps = [ast.unparse(node) for node in function.body]
        if function.decorator_list and steps[1:] != ["return " + HAND_ON]:
            yield f"{name} {function.name} does more than hand the message on: {steps[1:]}"
        if function.name == "_respond":
            returned = [ast.unparse(n) for n in ast.walk(function) if isinstance(n, ast.Return)]
            if returned != ["return handler.answer(action, body, payload)"]:
                yield f"{name} answers {returned}"
            if sum(step.startswith("handler = ClientHandler(scenario, ") for step in steps) != 1:
                yield f"{name} answers with another handler"


# ---------------------------------------------------------------- 5 and 6: other ways


def _ways_out(name: str, tree: ast.Module) -> Iterator[str]:
    for whole, _ in _imported(tree):
        if whole.partition(".")[0] in WAYS_OUT:
            yield f"{name} imports {whole}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "context.state":
            yield f"{name}:{node.lineno} uses Flower's state, which is not the client's own"


def _at_run_time(name: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in AT_RUN_TIME:
            yield f"{name}:{node.lineno} goes by a name made at run time: {ast.unparse(node)}"
        if isinstance(node, ast.Attribute) and node.attr == "__dict__":
            yield f"{name}:{node.lineno} goes by a name made at run time: {ast.unparse(node)}"


# ---------------------------------------------------------------- the tests


def test_only_the_gate_lets_anything_out() -> None:
    """Without it a way round every policy could be written, and nobody would notice."""
    assert faults(ROOT) == []


IMPORTS = "from neulig_fl.client.store import ClientStore\n"
RELEASE = "        return reply, released.payload\n"
HANDLER = "    return answer_message(message, context, _respond)\n"

PLANTED = {
    "features in the payload": (
        "neulig_fl/client/handler.py", RELEASE, "        return reply, holdings.features()['features'].tobytes()\n",
        "opens what a client holds",
    ),
    "the payload under another name": (
        "neulig_fl/client/handler.py", "released = gate.release(", "released = self._other(",
        "released comes from self._other",
    ),
    "parameters beside the payload": (
        "neulig_fl/client/handler.py", RELEASE,
        "        reply['extra'] = str(self.encoder('A')[0].state_dict())\n" + RELEASE,
        "a reply may be changed",
    ),
    "more in the reply": (
        "neulig_fl/client/handler.py", RELEASE, "        reply.update(x=1)\n" + RELEASE, "a reply is changed",
    ),
    "the accuracy in the reply to prepare": (
        "neulig_fl/client/handler.py", 'return {"trained": trained}', 'return {"trained": trained, **fact}',
        "_prepare says {'trained': trained, **fact}",
    ),
    "something else for trained": (
        "neulig_fl/client/handler.py", 'return {"trained": trained}',
        'trained = fact["accuracy"]\n        return {"trained": trained}', "trained comes from fact",
    ),
    "a word bound in another way": (
        "neulig_fl/client/handler.py", RELEASE,
        "        with open(self.root / 'x') as entry:\n            pass\n" + RELEASE,
        "entry comes from elsewhere",
    ),
    "a record in the client hello": (
        "neulig_fl/client/handler.py", "self.name, versions.own(), run)", "self.name, str(self.root), run)",
        "_hello says client_hello(",
    ),
    "another action": (
        "neulig_fl/client/handler.py", '            if action == "release":',
        '            if action == "debug":\n                return {}, (self.root / "x").read_bytes()\n'
        '            if action == "release":',
        "answer says ({}, (self.root",
    ),
    "records packed by the party": (
        "neulig_fl/client/handler.py", IMPORTS, IMPORTS + "from neulig_fl.records.payloads import pack\n",
        "neulig_fl.client.handler takes pack from records.payloads",
    ),
    "a record made by its kind's own file": (
        "neulig_fl/client/handler.py", "        request = gate.understood",
        "        kinds.load('parameters').made_of(self.holdings)\n        request = gate.understood",
        "makes a record: kinds.load('parameters').made_of",
    ),
    "a kind that makes another's record": (
        "neulig_fl/records/kinds/logits.py", "return holdings.logits()",
        "return PROBABILITIES.made_of(holdings)", "makes a record: PROBABILITIES.made_of",
    ),
    "stored bytes without asking": (
        "neulig_fl/client/handler.py", "        request = gate.understood",
        "        side.store.find(str(body))\n        request = gate.understood",
        "reads or writes released bytes: side.store.find",
    ),
    "a release that is not charged": (
        "neulig_fl/client/gate.py", "guard.treated(kinds.build(request.kind, holdings), case)",
        "guard.treated(holdings.parameters(), case)", "opens what a client holds: holdings.parameters",
    ),
    "a side door": (
        "neulig_fl/data/query_sets.py", "from neulig_fl.config.scenario import Scenario\n",
        "from neulig_fl.records import kinds as r\nfrom neulig_fl.config.scenario import Scenario\n"
        "build = r.build\n",
        "neulig_fl.data.query_sets:",
    ),
    "a store opened elsewhere": (
        "neulig_fl/server/released_records.py", "from neulig_fl.records.release_plan import Setting\n",
        "from neulig_fl.client.store import ClientStore\nfrom neulig_fl.records.release_plan import Setting\n",
        "neulig_fl.server.released_records opens a client's store",
    ),
    "a message of the app's own": (
        "clients/app.py", HANDLER, "    return Message(message.content, reply_to=message)\n",
        "clients.app:",
    ),
    "a handler that does more": (
        "clients/app.py", HANDLER, "    print(context)\n" + HANDLER, "does more than hand the message on",
    ),
    "an answer of the app's own": (
        "clients/app.py", "return handler.answer(action, body, payload)", "return {}, bytes(payload)",
        "answers ['return ({}, bytes(payload))']",
    ),
    "Flower's state": (
        "clients/app.py", "    config = client_config(context)\n",
        "    config = client_config(context)\n    context.state['x'] = 1\n", "uses Flower's state",
    ),
    "an exception's text": (
        "neulig_fl/runtime/flower_messages.py", 'f"unexpected {type(error).__name__}"', 'f"unexpected {error}"',
        "tells of an error",
    ),
    "a second reply": (
        "neulig_fl/runtime/flower_messages.py", "Message(Error(code=code, reason=reason), reply_to=message)",
        "Message(encode({}, b''), reply_to=message)", "makes a message",
    ),
    "a connection": (
        "neulig_fl/client/experts.py", "import json\n", "import json\nimport socket\n",
        "neulig_fl.client.experts imports socket",
    ),
    "a vector that no mask is on": (
        "neulig_fl/client/secagg/gate.py", "payload = room.getvalue()",
        'payload = b"".join(piece.tobytes() for piece in vector)', "payload comes from",
    ),
    "a look at the vector on its way": (
        "neulig_fl/client/secagg/gate.py", "            after, chunks = secagg.mask(",
        "            print(list(vector))\n            after, chunks = secagg.mask(",
        "and names it 3 times",
    ),
    "masks that are none": (
        "neulig_fl/client/secagg/gate.py", "after, chunks = secagg.mask(", "after, chunks = _unmasked(",
        "chunks comes from _unmasked",
    ),
    "a masked vector that is not charged": (
        "neulig_fl/client/secagg/gate.py", "return side.store.charge(payload, rows,",
        "return Released(payload, rows,", "contribute returns ['Released(",
    ),
    "the record beside the masked vector": (
        "neulig_fl/client/secagg/protocol.py", "        return reply, released.payload\n",
        "        reply['plain'] = str(holdings.parameters())\n        return reply, released.payload\n",
        "opens what a client holds: holdings.parameters",
    ),
    "a sum without the gate": (
        "neulig_fl/client/secagg/protocol.py", "released = sum_gate.contribute(", "released = self._other(",
        "released comes from self._other",
    ),
    "the stored state in a message of a sum": (
        "neulig_fl/client/secagg/protocol.py", 'return {"message": sent.hex(), **more}, b""',
        'return {"message": sent.hex(), **more}, self.side.store.kept_sum()',
        "_kept says ({'message': sent.hex(), **more}, self.side.store.kept_sum())",
    ),
    "something else as a message of a sum": (
        "neulig_fl/client/secagg/protocol.py", "state, sent = secagg.reveal(", "state, sent = self._other(",
        "sent comes from self._other",
    ),
    "what left before, without its entry": (
        "neulig_fl/client/asked_again.py", "return _told(entry), _sent(store, entry)",
        "return {}, _sent(store, entry)", "reply says ({}, _sent(store, entry))",
    ),
    "other bytes as what left before": (
        "neulig_fl/client/asked_again.py", "found = store.sent(entry)",
        "found = (store.root / 'x').read_bytes()", "found comes from (store.root / 'x')",
    ),
    "a vector that was not masked, charged again": (
        "neulig_fl/client/secagg/gate.py", 'payload = side.store.sent({"sha256"', 'payload = dict({"sha256"',
        "payload comes from dict(",
    ),
    "stored bytes through a sum": (
        "neulig_fl/client/secagg/protocol.py", "        holdings = self.holdings(held.asked.request)\n",
        "        holdings = self.holdings(held.asked.request)\n        self.side.store.find('x')\n",
        "reads or writes released bytes: self.side.store.find",
    ),
    "a name made at run time": (
        "neulig_fl/client/gate.py", "kinds.build(request.kind, holdings)",
        "getattr(kinds, 'bui' + 'ld')(request.kind, holdings)", "goes by a name made at run time",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is walked."""
    root = tmp_path_factory.mktemp("source")
    for folder in ("neulig_fl", "clients"):
        for path in (ROOT / folder).rglob("*.py"):
            target = root / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return root


@pytest.mark.parametrize("how", PLANTED)
def test_a_planted_way_round_the_gate_is_found(how: str, source: Path) -> None:
    """Without it the walk above could pass because it sees nothing."""
    name, before, after, told = PLANTED[how]
    path = source / name
    honest = path.read_text(encoding="utf-8")
    assert before in honest, f"{name} has changed: plant it anew"
    try:
        path.write_text(honest.replace(before, after, 1), encoding="utf-8")
        found = faults(source)
    finally:
        path.write_text(honest, encoding="utf-8")
    assert any(told in line for line in found), found


def test_the_copy_itself_has_no_way_round(source: Path) -> None:
    """Without it the planted ones could be found for another reason."""
    assert faults(source) == []
