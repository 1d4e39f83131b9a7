"""A run's report: report.json (the contract), report.md, and what is printed at the end.

Each call loads what it needs: `check` and `plan` use words of this room, and no report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neulig_fl.core.errors import InputError, nearest
from neulig_fl.core.files import PRIVATE, write_atomically
from neulig_fl.core.run_folders import RUN_PAGE

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.console import Console

    from neulig_fl.report.charts._figure import Chart

__all__ = ["Report"]


@dataclass(frozen=True, repr=False)
class Report:
    """The report of one run and one seed.

    Attributes:
        data: the content of report.json.
        path: report.json on disk; None while it has not been written.
    """

    data: dict[str, Any]
    path: Path | None = None

    @classmethod
    def load(cls, run: Path | str) -> Report:
        """The report of a run's folder (or of a report.json), validated.

        Raises:
            InputError: no report is there, or it is not a valid one; or the run has several seeds,
                whose reports `load_seeds` gives.
        """
        from neulig_fl.report import contract

        data, path = contract.read(Path(run))
        return cls(data, path)

    @classmethod
    def load_seeds(cls, run: Path | str) -> list[Report]:
        """The reports of a run, one a seed in the order of its summary; one where it has one seed.

        Raises:
            InputError: as `load`; or the summary of the seeds is not a valid one.
        """
        from neulig_fl.report import summary

        folder = Path(run)
        folder = folder.parent if folder.name == summary.FILE_NAME else folder
        if not (folder / summary.FILE_NAME).is_file():
            return [cls.load(folder)]
        seeds = summary.read(folder)["seeds"]
        return [cls.load(folder / f"seed-{seed}") for seed in seeds]

    def validate(self) -> None:
        """Check against the contract.

        Raises:
            RunError: every place that does not fit.
        """
        from neulig_fl.report import contract

        contract.validate(self.data)

    def write(self, run: Path | str) -> Report:
        """Write report.md and report.json into a run's folder; the same report, with its path.

        report.json comes last: a folder that has one has the whole report.

        Raises:
            RunError: the report is not valid (nothing is written), or the disk refuses.
        """
        from neulig_fl.report import contract

        self.validate()
        write_atomically(Path(run) / "report.md", self.markdown(), PRIVATE)
        return Report(self.data, contract.write(self.data, Path(run)))

    def markdown(self) -> str:
        """Every figure, as the text of report.md."""
        from neulig_fl.report import markdown

        return markdown.render(self.data)

    def page(self) -> str:
        """Every figure and table, as one HTML file that loads nothing."""
        from neulig_fl.report import page

        return page.render(self.data)

    def write_page(self, run: Path | str | None = None) -> Path:
        """Write report.html; its path.

        Args:
            run: the folder; the one of `path` if not given.

        Raises:
            InputError: neither a folder nor a path is there.
            RunError: the disk refuses; what was there stays.
        """
        if run is None and self.path is None:
            raise InputError("the report lies in no folder; name one: write_page(FOLDER)")
        folder = Path(run) if run is not None else (self.path or Path()).parent
        return write_atomically(folder / RUN_PAGE, self.page(), PRIVATE)

    def figure(self, name: str) -> Chart:
        """One of the page's figures, as an altair chart that holds its data.

        Args:
            name: such as `accuracy-against-bytes`; `neulig_fl.report.charts.names()` lists them.

        Raises:
            InputError: no figure has this name, or the report has nothing to draw in it.
        """
        from neulig_fl.report import charts

        return charts.figure(self.data, name).chart

    def write_figures(self, folder: Path | str) -> list[Path]:
        """Write every figure as PDF, SVG and PNG, and its numbers as CSV; their paths.

        Raises:
            RunError: the disk refuses.
        """
        from neulig_fl.report import charts, figure_files

        return figure_files.write(charts.figures(self.data), Path(folder))

    def frame(self) -> DataFrame:
        """Every figure as a table: a row for each stage, method and task (`task` average: means).

        Returns:
            A pandas DataFrame with the columns of `neulig-fl report --format csv`.

        Raises:
            InputError: pandas is not installed.
        """
        from neulig_fl.report import tidy

        try:
            from pandas import DataFrame
        except ImportError as error:
            raise InputError(
                "a frame needs pandas: `pip install pandas`; `report.tidy.records` needs nothing"
            ) from error
        return DataFrame(tidy.records(self.data), columns=list(tidy.COLUMNS))

    def print(self, console: Console | None = None) -> None:
        """Print the short form, laid out for the console's width."""
        from neulig_fl.core.consoles import PlainConsole
        from neulig_fl.report import terminal

        terminal.show(self.data, console or PlainConsole(), self.path)

    def print_brief(self, console: Console | None = None, besides: Sequence[str] = ()) -> None:
        """Print what each stage gave, on one screen.

        Args:
            console: where to; the standard output if not given.
            besides: sentences on what no report says.
        """
        from neulig_fl.core.consoles import PlainConsole
        from neulig_fl.report import brief

        brief.show(self.data, console or PlainConsole(), self.path, besides)

    def stage(self, name: str) -> dict[str, Any]:
        """One stage, by its name.

        Raises:
            InputError: there is no such stage.
        """
        stages = {stage["name"]: stage for stage in self.data["stages"]}
        if name not in stages:
            raise InputError(f"no stage is called {name!r}; {nearest(name, stages)}")
        found: dict[str, Any] = stages[name]
        return found

    def result(self, stage: str, method: str, granularity: str | None = None) -> dict[str, Any]:
        """One result.

        Args:
            stage: the stage's name.
            method: "neulig", a control, or a merge method.
            granularity: of the result; None for the first that the method has.

        Raises:
            InputError: there is no such stage or result.
        """
        from neulig_fl.report import rows

        results: list[dict[str, Any]] = self.stage(stage)["results"]
        for found in results:
            if found["method"] == method and granularity in (None, found["granularity"]):
                return found
        wanted = rows.label(method, granularity)
        known = [rows.called(r) for r in results]
        raise InputError(f"stage {stage} has no result {wanted!r}; {nearest(wanted, known)}")

    def __repr__(self) -> str:
        """One line: what was run, with which seed, and what its last stage came to."""
        from neulig_fl.report import figures, timeline

        try:
            scenario = self.data["scenario"]
            spoken = [line for line in timeline.stage_lines(self.data) if line.row]
            said = timeline.headline_words(spoken[-1]) if spoken else "no accuracy"
            stage = f"{spoken[-1].name}: " if spoken else ""
            named = f"{scenario['name']}, seed {scenario['seed']}"
        except (LookupError, TypeError):
            return "<Report that is not valid>"
        return f"<Report {figures.plain(named)}: {figures.plain(f'{stage}{said}')}>"

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        return self.markdown()
