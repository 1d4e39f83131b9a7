"""YAML with places: what is read, what is refused, and where it stands."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.config.yaml_source import MOST_BYTES, parse, read, scalar
from neulig_fl.core.errors import ScenarioError

KEYS = st.from_regex(r"[a-z]{1,6}", fullmatch=True)
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("1e5", 1e5),
        ("+.5", 0.5),
        ("5.", 5.0),
        ("-.inf", -math.inf),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2020-01-01", "2020-01-01"),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("=", "="),
        ("!!str 5", "5"),
        ("!!float 5", 5.0),
    ],
)
def test_plain_scalars_are_read_as_yaml_1_2(text: str, value: object) -> None:
    """YAML 1.1's surprises would come back: 3e-4 as text, `no` as false, 010 as eight."""
    read_value = parse(f"a: {text}", "x.yaml").data["a"]

    assert read_value == value
    assert type(read_value) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_survives_being_written_and_read(number: float) -> None:
    """A learning rate written by Python would be read as text or as another number."""
    for written in (repr(number), f"{number:.17e}"):
        assert parse(f"a: {written}", "x.yaml").data == {"a": number}


@given(st.dictionaries(KEYS, TREES, min_size=1, max_size=4))
def test_what_pyyaml_writes_is_read_back(tree: dict[str, Any]) -> None:
    """Text, lists and mappings in some style of YAML would be read as something else."""
    for style in ("'", '"'):  # PyYAML leaves text bare by the rules of YAML 1.1: 0E0 is text there
        for flow in (True, False):
            text = yaml.safe_dump(tree, default_flow_style=flow, default_style=style)
            assert parse(text, "x.yaml").data == tree


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    """Some input would end in a traceback of PyYAML's."""
    try:
        parse(text, "x.yaml")
    except ScenarioError as error:
        name, line, column, _ = str(error).split(":", 3)
        assert name == "x.yaml"
        assert int(line) >= 1
        assert int(column) >= 1


def test_values_and_keys_are_found_where_they_stand() -> None:
    """Errors would point at the wrong line or column."""
    source = parse("a: 1\nb:\n  - {c: x}\n  - d: [1, 2]\n", "x.yaml")

    assert source.locate(()) == (1, 1)
    assert source.locate(("a",)) == (1, 4)
    assert source.locate(("b", 0, "c")) == (3, 9)
    assert source.locate(("b", 1, "d"), key=True) == (4, 5)
    assert source.locate(("b", 1, "d", 1)) == (4, 12)


def test_a_place_that_is_not_there_is_its_parents() -> None:
    """The error for a missing key would have no line."""
    source = parse("a: 1\nb:\n  - {c: x}\n", "x.yaml")

    assert source.locate(("b", 0, "missing")) == (3, 5)
    assert source.locate(("b", 0, "missing"), key=True) == (3, 5)
    assert source.locate(("nowhere", 3)) == (1, 1)


def test_merge_keys_and_aliases_are_followed() -> None:
    """Shared settings could not be written once, or would win over a mapping's own keys."""
    source = parse(
        "base: &base {x: 1, y: 2}\none: {<<: *base, y: 3}\n"
        "two: {<<: [{x: 5}, *base]}\nsame: *base\n",
        "x.yaml",
    )

    assert source.data["one"] == {"x": 1, "y": 3}
    assert source.data["two"] == {"x": 5, "y": 2}
    assert source.data["same"] == {"x": 1, "y": 2}
    assert source.locate(("one", "x")) == (1, 17)


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("seed:\t3", {"seed": 3}),
        ("seed: 3\t\nb: 4 \t # c", {"seed": 3, "b": 4}),
        ("a\t: 3", {"a": 3}),
        ("a: b\tc\t# x", {"a": "b\tc"}),
        ("a: b\t\n  c\t\n  d", {"a": "b c d"}),
        ("a:\t[1,\t2\t]\t\nb: {x:\t1,\n\ty: 2}", {"a": [1, 2], "b": {"x": 1, "y": 2}}),
        ("a:\t# c\n  b: 1\n\t\n\t# c\nd: 2", {"a": {"b": 1}, "d": 2}),
        ("a: 'x'\t\nb: &b\t3\nc: *b\t", {"a": "x", "b": 3, "c": 3}),
        ("a: |\n  x\ty\n  \tz", {"a": "x\ty\n\tz"}),
    ],
)
def test_a_tab_that_indents_nothing_is_a_space(text: str, data: object) -> None:
    """A user would be told to indent with spaces where nothing is indented, in a valid file."""
    assert parse(text, "x.yaml").data == data


MERGE_BOMB = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"x.yaml:1:1: the file is empty"),
        ("# only a comment\n", r"x.yaml:1:1: the file is empty"),
        ("- a\n- b", r"x.yaml:1:1: the file is no mapping"),
        ("just text", r"x.yaml:1:1: the file is no mapping"),
        ("a: 1\n\n  a: 2", r"x.yaml:3:4: .* a colon stands where none can"),
        ("a: 1\nb: 2\na: 3", r"x.yaml:3:1: the key 'a' is there twice, first at line 1"),
        ("a: {b: 1, 'b': 2}", r"x.yaml:1:11: the key 'b' is there twice"),
        ("a:\n\tb: 1", r"x.yaml:2:1: .* write spaces instead"),
        ("a: x\n\tb: 1", r"x.yaml:2:1: .* write spaces instead"),
        ("a: b\n  \tc: d", r"x.yaml:2:3: .* write spaces instead"),
        ("a:\n-\tb: 1", r"x.yaml:2:2: .* write spaces instead"),
        ("a: |\t\n  x", r"x.yaml:1:5: .* write spaces instead"),
        ("a: 1\n? \n", r"x.yaml:2:2: a key is empty; write `key: value`"),
        ("? \n: 4", r"x.yaml:1:2: a key is empty"),
        ("a: 1\n: 3", r"x.yaml:2:1: not valid YAML: a key is empty"),
        ("a: {: 3}", r"x.yaml:1:5: not valid YAML: a key is empty"),
        ("'': 3", r"x.yaml:1:1: a key is empty"),
        ("a: [1,\n  2\nb: 1", r"x.yaml:3:2: .* bracket opened at line 1 is not closed"),
        ("a: 1\nb: 'x\n", r"x.yaml:3:1: .* quote opened at line 2 is never closed"),
        ("a: *b", r"x.yaml:1:4: .* there is no anchor"),
        ("a: 1\n---\nb: 1", r"x.yaml:2:1: .* a file holds one document"),
        ("a: @b", r"x.yaml:1:4: .* put it in quotes"),
        ("a: - b", r"x.yaml:1:4: .* begin a new line"),
        ('a: "\\q"', r"x.yaml:1:6: .* use single quotes"),
        ("a: ]", r"x.yaml:1:4: .* a value is missing here"),
        ("10: a", r"x.yaml:1:1: a key must be text \(got '10'\); put it in quotes"),
        ("{a: b}: c", r"x.yaml:1:1: a key must be text \(got a list or mapping\)"),
        ("a: !!python/name:os.system ''", r"x.yaml:1:4: the tag '!!python/name:os.system' has no"),
        ("a: !!set {b}", r"x.yaml:1:4: the tag '!!set' has no place here"),
        ("a: !!int many", r"x.yaml:1:4: 'many' cannot be read as int"),
        ("a: !!bool maybe", r"x.yaml:1:4: 'maybe' cannot be read as bool"),
        ('a: "\\ud800"', r"x.yaml:1:4: '.ud800' cannot be read as str"),
        ("a: 1\nb: \x07", r"x.yaml:2:4: the character U\+0007 has no place in YAML"),
        ("a: {<<: 3}", r"x.yaml:1:9: `<<` takes a mapping"),
        ("a: &a [*a]", r"x.yaml:1:4: nested more than 50 levels"),
        ("a: &a {<<: [*a]}", r"x.yaml:1:4: nested more than 50 levels"),
        ("a: " + "[" * 60 + "]" * 60, r"x.yaml:1:54: nested more than 50 levels"),
        ("a: " + "[" * 5000, r"x.yaml:1:54: nested more than 50 levels"),
        (BOMB, r"x.yaml:1:\d+: more than 100000 values once aliases are followed"),
        (MERGE_BOMB, r"x.yaml:1:\d+: more than 100000 values once aliases are followed"),
    ],
)
def test_what_is_not_a_scenarios_yaml_is_refused_with_its_place(text: str, message: str) -> None:
    """A user would see PyYAML's words, no line, or nothing at all."""
    with pytest.raises(ScenarioError, match=message):
        parse(text, "x.yaml")


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    """A file saved by a Windows editor would have an unknown first key."""
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: a\r\nseed: 1\r\n")

    source = read(path)

    assert source.data == {"name": "a", "seed": 1}
    assert source.locate(("name",)) == (1, 7)


def test_bytes_that_are_not_utf_8_are_located(tmp_path: Path) -> None:
    """A Latin-1 file would end in UnicodeDecodeError."""
    path = tmp_path / "x.yaml"
    path.write_bytes(b"a: 1\nb: \xe9t\xe9\n")

    with pytest.raises(ScenarioError, match=r"x\.yaml:2:4: byte 0xe9 is not UTF-8"):
        read(path)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    """A wrong path, a folder or a huge file would end in a traceback or fill the memory."""
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"#" * (MOST_BYTES + 1))

    with pytest.raises(ScenarioError, match=r"none\.yaml: there is no such file"):
        read(tmp_path / "none.yaml")
    with pytest.raises(ScenarioError, match="is a folder; name a YAML file in it"):
        read(tmp_path)
    with pytest.raises(ScenarioError, match="more than 1000000"):
        read(huge)


@pytest.mark.parametrize(
    ("text", "value"),
    [("5", 5), ("[A, B]", ["A", "B"]), ("", None), ("a: b", "a: b"), ("[", "["), ("no", "no")],
)
def test_a_value_from_a_command_line_is_yaml_or_itself(text: str, value: object) -> None:
    """`--set` would read numbers as text, or fail on text that is not YAML."""
    assert scalar(text) == value
