"""README and docs: what they show runs, what they count is counted, what they name is there.

Fenced blocks are tried in the order of their page, one folder for each page. `yaml` is a scenario,
or a part that replaces the same keys of the quickstart; with a file name behind the language it is
also written there. `python` is executed; of `sh`, every `neulig-fl` command. All of it runs on the
quickstart and on a model made small, under the local engine.

The tables of keys in docs/scenario.md come from the scenario's models, those of files in
docs/files.md from the files' first lines. After a change there: `python tests/test_docs.py`;
it also puts the figures that pages quote there anew (benchmarks/quotes.py).
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import json
import math
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import house
import pytest
import tiny
import typer
import yaml
from safetensors.torch import save_file

from neulig_fl import cli
from neulig_fl.cli import exits, methods
from neulig_fl.config import methods as scenario_methods
from neulig_fl.config import policy_rules, stages, tasks
from neulig_fl.config import schema as scenario_schema
from neulig_fl.config.scenario import Model
from neulig_fl.config.values import MOMENT
from neulig_fl.config.yaml_source import parse, read
from neulig_fl.core import errors
from neulig_fl.merging import methods as merge_methods
from neulig_fl.models.families import open_family
from neulig_fl.records.protections import gaussian
from neulig_fl.study.checking import load
from neulig_fl.study.scenario_schema import json_schema
from neulig_fl.study.study_files import open_study

ROOT = Path(__file__).resolve().parents[1]
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")]
PAGES = [*TOP, *sorted((ROOT / "docs").glob("*.md"))]
SCENARIO_PAGE = ROOT / "docs" / "scenario.md"
METHODS_PAGE = ROOT / "docs" / "merge-methods.md"
ARCHITECTURE_PAGE = ROOT / "docs" / "architecture.md"
FILES_PAGE = ROOT / "docs" / "files.md"
INTERNALS_PAGE = ROOT / "docs" / "internals.md"
COMMANDS_PAGE = ROOT / "docs" / "commands.md"
PROTECTIONS_PAGE = ROOT / "docs" / "protections.md"
FENCE = re.compile(r"^```([a-z]+)(?: +(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KEYS = re.compile(r"(<!-- keys of (\w+) -->\n).*?(<!-- end of keys -->)", re.DOTALL)
METHODS = re.compile(r"(<!-- methods -->\n).*?(<!-- end of methods -->)", re.DOTALL)
FILES = re.compile(r"(<!-- files -->\n).*?(<!-- end of files -->)", re.DOTALL)
ROOMS = re.compile(r"(<!-- rooms -->\n).*?(<!-- end of rooms -->)", re.DOTALL)
TRIED = ("yaml", "python", "sh")
NOT_TRIED = ("make", "git", "cp", ".", "pre-commit", "python")
"""First words of commands that set a machine up, or that CI runs itself."""

ANCHORS = {
    "Model": "model",
    "Preprocess": "model-preprocess",
    "TaskOptions": "tasks",
    "Client": "clients",
    "Policy": "clients-policy",
    "AllowRule": "clients-policy-allow",
    "Budgets": "clients-policy-budgets",
    "Experts": "experts",
    "Queries": "queries",
    "PortlandOptions": "portland",
    "MergingOptions": "merging",
    "Stage": "stages",
    "Share": "stages-share",
    "GaussianOptions": "stages-share-protection-gaussian",
    "MethodEntry": "methods",
    "SecureAggregationOptions": "secure_aggregation",
    "Timeouts": "timeouts",
    "Resources": "resources",
}
"""Where docs/scenario.md has the table of each section."""

SHORT = {
    "run": ("--engine", "local"),
    "pretrain": ("--steps", "2", "--out", "pretrained.safetensors"),
    "bench": ("--repeats", "1"),
}
"""What a command of a page gets besides: nothing takes long or is written outside its folder."""

SMALL = {
    "experts": {"epochs": 1},
    "queries": {"pool": 6, "evaluation": 6, "train": 4},
    "portland": {"epochs": 2},
    "timeouts": {"answer": 60},
}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    file: str | None
    text: str

    @property
    def place(self) -> str:
        """Where it stands, as an editor reads it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Block(page, line, found[1], found[2], found[3])


def small(said: dict[str, Any]) -> dict[str, Any]:
    """The same scenario with a tiny model, one epoch and a handful of queries."""
    said = {**said, "model": tiny.MODEL}
    for section, values in SMALL.items():
        said[section] = {**said.get(section, {}), **values}
    return said


def scenarios(page: Path) -> Iterator[tuple[Block, dict[str, Any]]]:
    """A page's scenarios; a part replaces the same keys of the whole one before it."""
    whole = read(ROOT / "scenarios" / "quickstart.yaml").data
    for block in blocks(page):
        if block.language == "yaml":
            said = parse(block.text, block.place).data
            if "base" in said:
                continue
            if {"name", "clients", "stages"} <= set(said):
                whole = said
            yield block, {**whole, **said}


def studies(page: Path) -> Iterator[Block]:
    """A page's studies."""
    for block in blocks(page):
        if block.language == "yaml" and "base" in parse(block.text, block.place).data:
            yield block


def furnish(folder: Path) -> None:
    """Put into a page's folder what its snippets presume: scenarios, images, a checkpoint."""
    for source in sorted((ROOT / "scenarios").rglob("*.yaml")):
        target = folder / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        said = read(source).data
        said = {**said, "seeds": [7, 8]} if "base" in said else small(said)
        target.write_text(yaml.safe_dump(said, sort_keys=False))
    tiny.images(folder / "my-images", ("rust", "paint", "dent"), each=24, seed=5)
    encoder = open_family(Model(**tiny.MODEL), 0).encoder()
    save_file(encoder.state_dict(), folder / "my-expert.safetensors")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a page's snippets run."""
    tiny.register_model()
    furnish(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_scenarios_in_pages_are_valid(page: Path, place: Path) -> None:
    """If this fails, a reader who copies a scenario from a page gets an error."""
    for block, said in scenarios(page):
        path = place / (block.file or "scenario.yaml")
        path.write_text(yaml.safe_dump(said))
        assert load(path).stages, block.place


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_studies_in_pages_are_valid(page: Path, place: Path) -> None:
    """If this fails, a reader who copies a study from a page gets an error."""
    for block in studies(page):
        path = place / (block.file or "study.yaml")
        path.write_text(block.text)
        assert open_study(path).cases, block.place


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_snippets_run(page: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, a page shows a command or a call that does not do what the page says."""
    said = {block: of for block, of in scenarios(page) if block.file}
    for block in blocks(page):
        if block in said:
            (place / str(block.file)).write_text(yaml.safe_dump(small(said[block])))
        elif block.language == "python":
            exec(compile(block.text, block.place, "exec"), {"__name__": "snippet"})
        elif block.language == "sh":
            for command in commands(block):
                _neulig_fl(command, block.place, capsys)


def commands(block: Block) -> Iterator[list[str]]:
    """The arguments of every `neulig-fl` command of a block."""
    for line in block.text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] not in NOT_TRIED:
            assert words[0] == "neulig-fl", f"{block.place}: {line}: neither tried nor exempt"
            yield words[1:]


def _neulig_fl(arguments: list[str], where: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Run one command in this process, which knows the tiny model, and make it short."""
    arguments = [*arguments, *SHORT.get(arguments[0], ())]
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    told = capsys.readouterr()
    assert end.value.code == 0, f"{where}: {shlex.join(arguments)}: {told.out}{told.err}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_and_paragraphs_are_whole(page: Path) -> None:
    """Every table has its line of headings, and no page says a paragraph twice (a bad merge)."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.M)
    said = [part.strip() for part in text.split("\n\n")]
    for part in said:
        for above, line in itertools.pairwise(["", *part.splitlines()]):
            if re.match(r"\|[ :]*-[-| :]*$", line):
                assert above.count("|") == line.count("|"), f"{page.name}: {above!r} over {line!r}"
    if page.name != "results.md":  # rendered reports, which have sections of the same words
        long = [part for part in said if len(part) > 60]
        assert len(long) == len(set(long)), [part for part in long if long.count(part) > 1][:1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_are_of_a_known_kind(page: Path) -> None:
    """If this fails, a snippet escapes the tests because of how its fence is written."""
    for block in blocks(page):
        assert block.language in (*TRIED, "text", "mermaid"), block.place
    fences = re.findall(r"^```", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) == 2 * len(list(blocks(page)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """If this fails, a page refers to a file that is not there."""
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("folder", ["neulig_fl", "clients", "server", "benchmarks", "scenarios"])
def test_pages_that_code_names_are_there(folder: str) -> None:
    """If this fails, a docstring or an error sends its reader to a page that nobody has."""
    for path in sorted((ROOT / folder).rglob("*")):
        if path.suffix in (".py", ".yaml"):
            for name in re.findall(r"(?<![\w/-])(?:docs/)?[\w-]+\.md\b", path.read_text("utf-8")):
                places = [ROOT / name, ROOT / "docs" / name]
                there = name in ("report.md", "study.md") or any(
                    place.is_file() for place in places
                )
                assert there, f"{path.relative_to(ROOT)}: {name}"


def test_tables_of_keys_are_current() -> None:
    """If this fails, docs/scenario.md is behind the models; running this file mends it."""
    text = SCENARIO_PAGE.read_text(encoding="utf-8")
    assert with_tables(text) == text
    documented = {found[2] for found in KEYS.finditer(text)}
    assert documented == {"Scenario", *json_schema()["$defs"]}


def test_the_tables_of_files_are_current() -> None:
    """If this fails, docs/files.md describes another house than the one that stands."""
    text = FILES_PAGE.read_text(encoding="utf-8")
    assert with_tables(text) == text


def test_the_drawing_of_rooms_is_true() -> None:
    """If this fails, docs/architecture.md draws imports that the code does not have."""
    text = ARCHITECTURE_PAGE.read_text(encoding="utf-8")
    assert with_tables(text) == text
    assert {*re.findall(r"^\| `(\w+)/` \|", text, re.MULTILINE)} == {*house.LAYER}


def test_the_architecture_names_files_that_are_there() -> None:
    """If this fails, docs/architecture.md sends its reader to a file that is not there."""
    for page in (ARCHITECTURE_PAGE, INTERNALS_PAGE):
        text = page.read_text(encoding="utf-8")
        rooms = "|".join(house.LAYER)
        for name in re.findall(rf"`((?:{rooms}|clients|server)/[\w/]+(?:\.py|/))`", text):
            if "NAME" not in name:
                inside = ROOT / "neulig_fl" / name
                assert inside.exists() or (ROOT / name).exists(), f"{page.name}: {name}"


def with_tables(text: str) -> str:
    """A page with its tables as the models and the files have them now."""
    schema = json_schema()
    sections = {"Scenario": schema, **schema["$defs"]}
    text = METHODS.sub(lambda found: found[1] + method_table() + found[2], text)
    text = FILES.sub(lambda found: found[1] + file_tables() + found[2], text)
    text = ROOMS.sub(lambda found: found[1] + drawing_of_rooms() + found[2], text)
    return KEYS.sub(lambda found: found[1] + table(found[2], sections[found[2]]) + found[3], text)


def method_table() -> str:
    """The merge methods as a Markdown table, from their files."""
    head = ["method", "released by the clients", "besides", "ensemble reads", "defaults", "source"]
    body = [
        [f"`{name}`", *methods.cells(methods.record(name, merge_methods.load(name)))]
        for name in merge_methods.names()
    ]
    lines = [head, [":--"] * len(head), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def test_the_table_of_methods_is_current() -> None:
    """If this fails, docs/merge-methods.md is behind the methods; running this file mends it."""
    text = METHODS_PAGE.read_text(encoding="utf-8")
    assert with_tables(text) == text
    assert all(f"| `{name}` |" in text for name in merge_methods.names())


def file_tables() -> str:
    """Every file with its docstring's first line: a Markdown table a folder."""
    folders: dict[str, list[str]] = {}
    for module, text in house.House.standing().sources.items():
        told = ast.get_docstring(ast.parse(text))
        if told is not None:
            path = module.replace(".", "/")
            package = (ROOT / path).is_dir()
            folder, name = (path, "__init__") if package else path.rsplit("/", 1)
            folders.setdefault(folder, []).append(f"| `{name}.py` | {told.splitlines()[0]} |")
    parts = []
    for folder in sorted(folders):
        parts += [
            f"\n### `{folder}/`\n",
            "| file | what it is |",
            "| :-- | :-- |",
            *folders[folder],
        ]
    return "\n".join(parts) + "\n\n"


def drawing_of_rooms() -> str:
    """The rooms, and which of them import which, as a Mermaid flowchart.

    An arrow that follows from others is left out.
    """
    below = house.below(house.House.standing())
    lines = ["```mermaid", "flowchart TB"]
    for rooms in reversed(house.LAYERS):
        for room in rooms:
            direct = below[room] - {
                far for near in below[room] for far in house.all_below(below, near)
            }
            lines += [f"  {room} --> {other}" for other in sorted(direct)]
    return "\n".join([*lines, "```"]) + "\n"


def table(name: str, section: dict[str, Any]) -> str:
    """One section's keys as a Markdown table."""
    lines = ["| key | value | default | meaning |", "| :-- | :-- | :-- | :-- |"]
    pages = (scenario_schema, stages, tasks, scenario_methods, policy_rules, gaussian)
    model = next(getattr(page, name) for page in pages if hasattr(page, name))
    for key, about in section["properties"].items():
        default = "needed" if key in section.get("required", []) else _default(name, key, about)
        meaning = model.model_fields[key].description
        lines.append(f"| `{key}` | {_value(about)} | {default} | {meaning} |")
    return "\n".join(lines) + "\n"


def _default(name: str, key: str, about: dict[str, Any]) -> str:
    if (name, key) == ("Share", "queries"):
        return "by kind"
    if "default" not in about:
        return "none"
    default = about["default"]
    if isinstance(default, dict) and "$ref" in about:
        return "its defaults"
    if isinstance(default, str):
        return f"`{default}`"
    if isinstance(default, list):
        return f"`[{', '.join(default)}]`"
    if isinstance(default, float) and default == int(default):
        default = int(default)
    return f"`{json.dumps(default)}`"


def _value(about: dict[str, Any]) -> str:
    """What a key's value may be, in words."""
    if "anyOf" in about:
        return ", or ".join(_value(one) for one in about["anyOf"])
    if "$ref" in about:
        return f"[below](#{ANCHORS[about['$ref'].rpartition('/')[2]]})"
    if "enum" in about:
        return ", ".join(f"`{name}`" for name in about["enum"]) or "none in this version"
    kind = about["type"]
    if kind == "array":
        return f"list of: {_value(about['items'])}"
    if kind == "object" and "patternProperties" in about:
        (inner,) = about["patternProperties"].values()
        return f"mapping of names, {_value(inner)}"
    if kind == "object" and "properties" in about:  # a protection's options
        links = ((name, each) for name, each in about["properties"].items() if "$ref" in each)
        return ", ".join(f"`{name}: {{options}}`, {_value(each)}" for name, each in links)
    if kind == "object" and "propertyNames" not in about:
        several = "array" in str(about["additionalProperties"].get("type"))
        return f"mapping of options to {'lists of values' if several else 'values'}"
    if kind == "object":
        keys = "groups" if "enum" in about.get("propertyNames", {}) else "names"
        return f"mapping of {keys} to text"
    if kind in ("integer", "number"):
        return f"{'whole number' if kind == 'integer' else 'number'}{_bounds(about)}"
    text = "date" if about.get("pattern") == MOMENT else "name" if "pattern" in about else "text"
    return {"string": text, "boolean": "`true`, `false`", "null": "null"}[kind]


EXACT = 2**53
"""Above it a JSON number is not exact; a bound that nobody meets is not worth a word."""


def _bounds(about: dict[str, Any]) -> str:
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    said = [
        f"{word} {about[key]:g}" for key, word in words.items() if about.get(key, EXACT) < EXACT
    ]
    return f", {', '.join(said)}" if said else ""


def test_every_dependency_has_its_line() -> None:
    """If this fails, docs/dependencies.md and pyproject.toml name different packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    names = [re.split(r"[<>=\[ ]", entry)[0] for entry in declared]
    page = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE) == names


def test_every_exit_code_is_in_its_page() -> None:
    """If this fails, docs/commands.md has other exit codes than those of the command."""
    classes = [e for e in vars(errors).values() if isinstance(e, type)]
    codes = {e.exit_code for e in classes if issubclass(e, errors.NeuligError)}
    page = COMMANDS_PAGE.read_text(encoding="utf-8")
    told = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert told == {exits.DONE, exits.INTERRUPTED, *codes}


def test_every_command_is_in_its_page() -> None:
    """If this fails, docs/commands.md lists other commands than there are."""
    page = COMMANDS_PAGE.read_text(encoding="utf-8")
    (rows,) = re.findall(r"^\| command \|.*\n\| :--.*\n((?:\|.*\n)+)", page, re.MULTILINE)
    named = re.findall(r"^\| `([a-z]+)` \|", rows, re.MULTILINE)
    group = typer.main.get_command(cli.app)
    assert isinstance(group, click.Group)
    assert named == [*dict.fromkeys(named)]
    assert set(named) == set(group.commands)


def test_every_privacy_scenario_is_in_its_page() -> None:
    """If this fails, docs/protections.md lists other scenarios than scenarios/privacy/ has."""
    _, start, rest = PROTECTIONS_PAGE.read_text(encoding="utf-8").partition("| scenario |")
    assert start
    named = re.findall(r"^\| `([a-z-]+)` \|", rest.partition("\n\n")[0], re.MULTILINE)
    there = [path.stem for path in (ROOT / "scenarios" / "privacy").glob("*.yaml")]
    assert sorted(named) == sorted(there)


def test_readme_is_one_page_that_leads_to_all_others() -> None:
    """If this fails, README grows into a manual again, or a page of docs is found by nobody."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 150
    for page in PAGES[1:]:
        assert f"]({page.relative_to(ROOT).as_posix()})" in text, page.name


def test_model_card_is_of_the_bundled_weights() -> None:
    """If this fails, docs/models.md is the card of other weights than those in the package."""
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    for name in scenario_schema.MICRO_MODELS:
        file = ROOT / "neulig_fl" / "models" / "families" / "micro" / f"{name}.safetensors"
        assert hashlib.sha256(file.read_bytes()).hexdigest() in page
        encoder = open_family(Model(name=name), 0).encoder()
        count = sum(math.prod(p.shape) for p in encoder.parameters())
        assert f"{count:,}" in page


@pytest.mark.slow
def test_zero_shot_figures_of_the_model_card(capsys: pytest.CaptureFixture[str]) -> None:
    """If this fails, the card's accuracies are not those of the bundled weights on the tasks."""
    page = ROOT / "docs" / "models.md"
    row = re.compile(r"^\| (\w+) \| (\d+\.\d) \| (\d+\.\d) \|$", re.MULTILINE)
    written = row.findall(page.read_text(encoding="utf-8"))
    (snippet,) = [block for block in blocks(page) if block.language == "python"]
    exec(compile(snippet.text, snippet.place, "exec"), {"__name__": "snippet"})
    found = row.findall(capsys.readouterr().out)
    assert [task for task, *_ in found] == [task for task, *_ in written]
    for (_, *now), (_, *then) in zip(found, written, strict=True):
        assert [float(v) for v in now] == pytest.approx([float(v) for v in then], abs=0.5)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_pages_are_plain(page: Path) -> None:
    """If this fails, a page names a path of one machine or holds a sign that is no plain text."""
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"(?<![\w.~])/(home|work|tmp|root|usr)\b", text)
    assert text.isascii()


if __name__ == "__main__":
    for page_ in (SCENARIO_PAGE, ARCHITECTURE_PAGE, FILES_PAGE, METHODS_PAGE):
        page_.write_text(with_tables(page_.read_text(encoding="utf-8")), encoding="utf-8")
    subprocess.run([sys.executable, ROOT / "benchmarks" / "quotes.py"], check=True)
