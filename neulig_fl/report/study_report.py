"""A study's report: study.json (the contract), study.md, the tidy table, and what is printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neulig_fl.core import regular_files, strict_json
from neulig_fl.core.errors import InputError, RunError
from neulig_fl.core.files import PRIVATE, write_atomically
from neulig_fl.core.run_folders import STUDY_PAGE
from neulig_fl.report import contract, faults
from neulig_fl.report.parts.study import StudyReport as Model

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.console import Console

    from neulig_fl.report.charts._figure import Chart

FILE_NAME = "study.json"
MARKDOWN = "study.md"


@dataclass(frozen=True)
class StudyReport:
    """The report of one study.

    Attributes:
        data: the content of study.json.
        path: study.json on disk.
    """

    data: dict[str, Any]
    path: Path

    @classmethod
    def load(cls, folder: Path | str) -> StudyReport:
        """The report of a study's folder (or of a study.json), validated.

        Raises:
            InputError: no report is there, or it is not a valid one.
        """
        path = Path(folder)
        path = path / FILE_NAME if path.is_dir() else path
        try:
            data = strict_json.parsed(regular_files.read(path))
            validate(data)
        except FileNotFoundError as error:
            raise InputError(
                f"{path}: no study's report is there; `neulig-fl study FILE` writes it once every "
                "run has ended"
            ) from error
        except (OSError, ValueError, RunError) as error:
            raise InputError(
                f"{path}: not a study's report ({error}); run the study again"
            ) from error
        return cls(data, path)

    def frame(self) -> DataFrame:
        """Every figure of every run: the rows of runs.csv.

        Returns:
            A pandas DataFrame: case, the grid's keys, then the columns of a report's `frame`.

        Raises:
            InputError: pandas is not installed, or a run's report is gone.
        """
        from neulig_fl.report import study_tidy

        return study_tidy.frame(self.data, self.path.parent)

    def markdown(self) -> str:
        """The text of study.md."""
        from neulig_fl.report import study_markdown

        return study_markdown.render(self.data)

    def page(self) -> str:
        """Every figure and table, as one HTML file that loads nothing."""
        from neulig_fl.report import page

        return page.render_study(self.data)

    def write_page(self) -> Path:
        """Write study.html beside study.json; its path.

        Raises:
            RunError: the disk refuses; what was there stays.
        """
        return write_atomically(self.path.with_name(STUDY_PAGE), self.page(), PRIVATE)

    def figure(self, name: str) -> Chart:
        """One of the page's figures, as an altair chart that holds its data.

        Args:
            name: such as `accuracy-against-revealed`.

        Raises:
            InputError: no figure has this name, or the study has nothing to draw in it.
        """
        from neulig_fl.report import charts

        return charts.figure(self.data, name, charts.OF_STUDIES).chart

    def write_figures(self, folder: Path | str) -> list[Path]:
        """Write every figure as PDF, SVG and PNG, and its numbers as CSV; their paths.

        Raises:
            RunError: the disk refuses.
        """
        from neulig_fl.report import charts, figure_files

        return figure_files.write(charts.figures(self.data, charts.OF_STUDIES), Path(folder))

    def print(self, console: Console | None = None) -> None:
        """Print each case's last stage and the answer, on one screen.

        Args:
            console: where to; the standard output if not given.
        """
        from neulig_fl.core.consoles import PlainConsole
        from neulig_fl.report import study_table

        study_table.show(self.data, console or PlainConsole(), self.path)

    def _repr_markdown_(self) -> str:
        """What a notebook shows."""
        return self.markdown()

    def __repr__(self) -> str:
        runs = len(self.data["runs"])
        return f"StudyReport({self.data['name']!r}, {runs} runs, {str(self.path)!r})"


def validate(study: Mapping[str, Any]) -> None:
    """Check a study against its model.

    Raises:
        RunError: one line for each fault (the first 20), each with the place and the value.
    """
    faults.require(FILE_NAME, Model, study)


def write(study: dict[str, Any], folder: Path) -> StudyReport:
    """Validate, then write study.md, runs.csv, runs.parquet (with pyarrow) and study.json.

    study.json comes last: a folder that has one has the others.

    Raises:
        RunError: the study is not valid (nothing is written), or the disk refuses.
        InputError: the report of a finished run is gone.
    """
    from neulig_fl.report import study_markdown, study_tidy

    validate(study)
    write_atomically(folder / MARKDOWN, study_markdown.render(study), PRIVATE)
    study_tidy.write(study, folder)
    path = write_atomically(folder / FILE_NAME, contract.to_json(study), PRIVATE)
    return StudyReport(study, path)
