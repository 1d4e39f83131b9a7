"""Attacks with scenarios and policies: YAML that is long, deep, wide, or not what it seems."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from neulig_fl.config import problems, yaml_nodes, yaml_source
from neulig_fl.core.errors import ScenarioError
from neulig_fl.study.checking import open_scenario


@pytest.mark.parametrize(
    "number", ["0x" + "f" * 5_000, "9" * 5_000, "0o" + "7" * 5_000, "-" + "1" * 101]
)
@pytest.mark.parametrize("key", ["seed", "name", "queries"])
def test_a_number_of_thousands_of_digits_is_an_error_with_its_line(
    number: str, key: str, tmp_path: Path
) -> None:
    """Without it Python refuses to write the number into the error, and that is the error."""
    path = tmp_path / "x.yaml"
    path.write_text(f"name: x\n{key if key != 'name' else 'seed'}: {number}\n")
    with pytest.raises(ScenarioError, match=r"x\.yaml:2:\d+: .* cannot be read as int") as caught:
        open_scenario(path)
    assert len(str(caught.value)) < 1_000
    path.write_text("name: x\nclients: []\nstages: []\n")
    with pytest.raises(ScenarioError, match="seed"):
        open_scenario(path, [f"seed={number}"])


def test_of_eighty_thousand_wrong_keys_the_first_are_put_into_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it a file of a megabyte keeps `check` busy for a quarter of a minute."""
    asked, real = [], problems.nearest
    monkeypatch.setattr(
        problems, "nearest", lambda word, names: [asked.append(word), real(word, names)][1]
    )
    path = tmp_path / "x.yaml"
    path.write_text("name: x\nclients: 1\nseeed: 4\n" + "".join(f"k{i}: 1\n" for i in range(2_000)))
    with pytest.raises(ScenarioError) as caught:
        open_scenario(path)
    lines = str(caught.value).splitlines()
    assert len(asked) <= 10 * problems.MOST_SHOWN
    assert "x.yaml:3:1: seeed: unknown key; allowed:" in str(caught.value)
    assert "did you mean seed" in str(caught.value)
    assert lines[-1].endswith(f"and {2_000 + 3 - 20} more"), (
        "clients, stages and seeed are wrong too"
    )


def test_a_long_text_is_read_by_libyaml_and_a_short_one_as_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without it 80,000 keys take as long as ten times as many, or every file is read otherwise."""
    used = []
    real = yaml.compose

    def compose(text: str, Loader: type) -> object:  # noqa: N803 (the name is PyYAML's)
        used.append(Loader is yaml_nodes._Loader)
        return real(text, Loader=Loader)

    monkeypatch.setattr(yaml_nodes.yaml, "compose", compose)
    short, long = "a: 1\n", "".join(f"key-{i}: [1, x, 'y']\n" for i in range(5_000))
    assert yaml_source.parse(short, "x").data == {"a": 1}
    assert len(yaml_source.parse(long, "x").data) == 5_000
    assert used == [True, not yaml.__with_libyaml__]


PIECES = st.sampled_from(
    [
        "a: ", "b", "- ", "\n", "  ", "[", "]", "{", "}", ", ", "'c d'", '"e\\n"', " # f\n", "&x ",
        "*x", "<<: ", "| \n  g\n", "1.5", "0x1F", "~", "yes", "k: v\n", "- w\n", "  n: m\n", "\u00e9",
        "\u2028", "---\n", "%", "`", ":", "\r\n",
    ]
)  # fmt: skip


@pytest.mark.skipif(not yaml.__with_libyaml__, reason="PyYAML was built without libyaml")
@given(st.lists(PIECES, min_size=1, max_size=12).map("".join))
def test_both_readers_say_the_same(text: str) -> None:
    """Without it a scenario would mean one thing while it is short and another when it has grown."""
    found = []
    for long in (10**9, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(yaml_nodes, "_LONG", long)
            try:
                source = yaml_source.parse(text, "x")
                found.append((source.data, source.values, source.keys))
            except ScenarioError as error:
                found.append(str(error))
    assert found[0] == found[1]


@pytest.mark.parametrize("long", [0, 10**9])
@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 20_000,
        "a: " + "{b: " * 20_000,
        "- " * 20_000,
        "a: " + "[" * 20_000 + "]" * 20_000,
        "".join(" " * i + f"k{i}:\n" for i in range(400)),
    ],
    ids=["lists", "mappings", "one line", "closed", "steps"],
)
def test_no_depth_ends_the_process(text: str, long: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it brackets alone would end a process in the middle of a C library."""
    monkeypatch.setattr(yaml_nodes, "_LONG", long)
    with pytest.raises(ScenarioError, match=r"x:\d+:\d+: nested more than 50 levels deep"):
        yaml_source.parse(text, "x")


def test_what_is_merged_again_and_again_counts_each_time() -> None:
    """Without it a kilobyte of `<<: [*a, *a, ...]` keeps the reader busy for minutes."""
    base = ", ".join(f"k{i}: 1" for i in range(500))
    text = f"a: &a {{{base}}}\nb: {{<<: [{', '.join(['*a'] * 500)}]}}\n"
    with pytest.raises(ScenarioError, match="more than 100000 values once aliases are followed"):
        yaml_source.parse(text, "x")


def test_yaml_says_where_its_words_are_without_them(tmp_path: Path) -> None:
    """Without it a scenario of somebody else's clears the screen of whoever checks it."""
    with pytest.raises(ScenarioError) as caught:
        yaml_source.parse('a: 1\n"x\\e[2J": 1\n"x\\e[2J": 2', "x.yaml")
    assert str(caught.value).isprintable()
