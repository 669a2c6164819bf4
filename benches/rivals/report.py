"""What was found: as text, as Markdown for the README, as JSON, and as a page with bars."""

import json
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from figures import FIGURES, Figure, over_rounds, ratio, remarks, write_ratio
from rivals import CENTRIFUGO, LONGWIRE_CENTRIFUGE

STYLE = Path(__file__).resolve().parents[2] / "loadgen/src/html/style.css"
LONGWIRE = "longwire"
# Fewer say little.
RIVALS_MIN = 3
# The bars of a chart, in units of its own.
WIDTH, LABEL, BAR, ROW = 560, 170, 230, 26


@dataclass
class Report:
    """Everything about one comparison."""

    date: str
    machine: str
    connections: int
    rounds: int
    load: str
    command: str
    versions: dict[str, str]
    measured: dict[str, list[dict]]
    not_measured: dict[str, str]
    whole: dict[str, dict] = field(init=False)

    def __post_init__(self):
        self.whole = {name: over_rounds(rounds) for name, rounds in self.measured.items()}

    def ratio_of(self, name: str, figure: Figure) -> float | None:
        return ratio(self.whole[name][figure.key], self.whole[LONGWIRE][figure.key])

    def cell(self, name: str, figure: Figure) -> str:
        if (value := self.whole[name][figure.key]) is None:
            return "-"
        value = figure.write(value)
        return value if name == LONGWIRE else f"{write_ratio(self.ratio_of(name, figure))} ({value})"

    def row(self, name: str) -> list[str]:
        cells = [self.cell(name, figure) for figure in FIGURES]
        return [name, *cells, str(self.whole[name]["lost_messages"]), self.versions[name]]

    def table(self) -> list[list[str]]:
        heading = ["", *(figure.heading for figure in FIGURES), "Lost messages", "Version"]
        return [heading, *(self.row(name) for name in self.whole)]

    def notes(self) -> list[str]:
        """What the table does not say."""
        said = [f"{name}: {remark}" for name, whole in self.whole.items() for remark in remarks(whole)]
        said += self.over_the_same_protocol()
        return said + [f"{name}: not measured: {reason}" for name, reason in self.not_measured.items()]

    def over_the_same_protocol(self) -> list[str]:
        """Centrifugo beside Longwire when both speak Centrifugo's protocol, if both were measured."""
        if not {CENTRIFUGO, LONGWIRE_CENTRIFUGE} <= self.whole.keys():
            return []
        own, other = self.whole[LONGWIRE_CENTRIFUGE], self.whole[CENTRIFUGO]
        ratios = ", ".join(
            f"{figure.heading} {write_ratio(ratio(other[figure.key], own[figure.key]))}" for figure in FIGURES
        )
        return [f"{CENTRIFUGO} to {LONGWIRE_CENTRIFUGE}: {ratios}"]

    def complaint(self, wanted: int) -> str | None:
        """Why this is no comparison, if `wanted` rivals were asked for; None if it is one."""
        own, others = self.whole[LONGWIRE], len(self.whole.keys() - {LONGWIRE, LONGWIRE_CENTRIFUGE})
        if own["lost_messages"] or own["lost_connections"] or own["disorders"]:
            return "longwire lost or disordered messages or lost connections"
        if own["p99_us"] is None:
            return "longwire did not hold the rate"
        needed = min(RIVALS_MIN, wanted)
        return f"{others} rivals were measured, not {needed}" if others < needed else None

    def setting(self) -> str:
        rounds = "One round." if self.rounds == 1 else f"Medians of {self.rounds} rounds."
        return f"{self.date}, {self.machine}. {self.load} {rounds}"

    def text(self) -> str:
        table = self.table()
        widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
        return "\n".join([self.setting(), "", *lines, "", *self.notes()]).rstrip() + "\n"

    def markdown(self) -> str:
        table = self.table()
        lines = ["| " + " | ".join(row) + " |" for row in table]
        lines.insert(1, "|---" * len(table[0]) + "|")
        notes = [f"- {note}" for note in self.notes()]
        return "\n".join([self.setting(), "", *lines, "", *notes]).rstrip() + "\n"

    def json(self) -> str:
        ratios = {
            name: {figure.key: self.ratio_of(name, figure) for figure in FIGURES}
            for name in self.whole
            if name != LONGWIRE
        }
        fields = dict(vars(self), ratios=ratios)
        return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"

    def html(self) -> str:
        charts = "\n".join(self.chart(figure) for figure in FIGURES)
        facts = {"setting": self.setting(), "command": self.command, **self.versions}
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>Longwire and others</title>\n<style>\n{STYLE.read_text()}</style>\n</head>\n<body>\n"
            f'<header><h1>Longwire and others, less is better</h1></header>\n<main>\n<div class="charts">\n{charts}\n'
            f"</div>\n{section('Notes', self.not_in_charts())}{section('What was run', facts)}"
            "</main>\n</body>\n</html>\n"
        )

    def not_in_charts(self) -> dict[str, str]:
        lost = {name: f"{whole['lost_messages']} messages lost" for name, whole in self.whole.items()}
        return {**lost, **{f"note {number}": note for number, note in enumerate(self.notes(), 1)}}

    def chart(self, figure: Figure) -> str:
        most = max(whole[figure.key] or 0 for whole in self.whole.values())
        bars = "\n".join(self.bar(name, figure, most, row) for row, name in enumerate(self.whole))
        height = ROW * len(self.whole)
        return (
            f"<figure><figcaption><b>{escape(figure.heading)}</b>"
            f'<span class="key">{escape(figure.meaning)}</span></figcaption>\n'
            f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(figure.heading)}">\n{bars}\n'
            "</svg></figure>"
        )

    def bar(self, name: str, figure: Figure, most: float, row: int) -> str:
        value = max(self.whole[name][figure.key] or 0, 0)
        length = BAR * value / most if most > 0 else 0
        top = ROW * row
        return (
            f'<text x="{LABEL - 8}" y="{top + 17}" text-anchor="end">{escape(name)}</text>'
            f'<rect class="bar" x="{LABEL}" y="{top + 4}" width="{length:.1f}" height="{ROW - 8}" rx="2"/>'
            f'<text x="{LABEL + length + 8:.1f}" y="{top + 17}">{escape(self.cell(name, figure))}</text>'
        )

    def write(self, out: Path):
        for name, text in (
            ("report.txt", self.text()),
            ("report.md", self.markdown()),
            ("report.json", self.json()),
            ("report.html", self.html()),
        ):
            (out / name).write_text(text)


def section(heading: str, facts: dict[str, str]) -> str:
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>\n" for name, value in facts.items()
    )
    return f"<section><h2>{escape(heading)}</h2>\n<dl>\n{rows}</dl></section>\n"
