"""Keeps a report of `traintrue run --report DIR` as a folder of golden/results: results.json and the traces, packed.

The page next to the folder is written again up to `## In words`; from that heading on it is a person's text, and stays.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
import re
import shlex
import subprocess
import tarfile
from collections import defaultdict
from pathlib import Path
from typing import Any, Callable, Dict, List, Set, Tuple

WORDS = "\n## In words\n"
RESULTS = Path(__file__).resolve().parents[3] / "golden" / "results"
# A folder may take 200 kB; results.json and scenarios of its own need a part of it.
ARCHIVE_MOST = 185_000
VERDICTS = ["held", "waived", "not-judged", "broken"]

# A scenario and one of its runs.
Run = Tuple[str, str]
Traces = Dict[Run, List[Path]]
# A verdict, what broke and what was compared.
Judged = Tuple[str, Set[str], Set[str]]
Judge = Callable[[List[Path]], Judged]


def outcomes_of(report: Path) -> List[Dict[str, Any]]:
    """The outcomes in a report."""
    return json.loads((report / "report.json").read_text())["outcomes"]


def outcome(found: Dict[str, Any]) -> Dict[str, Any]:
    """One scenario for results.json. Its findings are left out: the kept traces give them again."""
    broke = sorted({finding["invariant"] for finding in found["findings"]})
    return {"scenario": found["scenario"], "verdict": found["verdict"], "reason": found["reason"], "broke": broke}


def traces_of(folder: Path) -> Traces:
    """The traces of a scenario, by run. Repeats are left out: they only show whether the trainer is deterministic."""
    traces: Traces = defaultdict(list)
    for trace in sorted(folder.glob("*.jsonl")):
        if "-again-" not in trace.name:
            with trace.open() as lines:
                traces[folder.name, json.loads(lines.readline())["run"]].append(trace)
    return traces


def packed(traces: Traces) -> bytes:
    """One archive of all traces, as runs of one plan repeat each other; without times, so that the same traces give the same."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:xz", preset=9 | lzma.PRESET_EXTREME) as tar:
        for trace in sorted(path for paths in traces.values() for path in paths):
            entry = tarfile.TarInfo(f"{trace.parent.name}/{trace.name}")
            entry.size = trace.stat().st_size
            tar.addfile(entry, io.BytesIO(trace.read_bytes()))
    return archive.getvalue()


def judge_with(traintrue: str, scenarios: Path) -> Judge:
    """What `traintrue check` makes of traces: the worst verdict, what broke and what was compared."""

    def judged(traces: List[Path]) -> Judged:
        check = [traintrue, "check", *map(str, traces), "--scenarios", str(scenarios), "--format", "json"]
        found = json.loads(subprocess.run(check, capture_output=True, text=True).stdout)["outcomes"]
        broke = {finding["invariant"] for one in found for finding in one["findings"]}
        compared = {name for one in found for name in one["compared"]}
        return max((one["verdict"] for one in found), key=VERDICTS.index), broke, compared

    return judged


def fitted(traces: Traces, page_text: str, judged: Judge) -> Tuple[bytes, List[Run]]:
    """The archive, and the runs that had to be left out of it, the largest first.

    A run that the page quotes stays, and so does one without which its scenario would be judged otherwise.
    """
    quoted = set(re.findall(r"^`[a-z/-]+` in (\S+), run (\S+), line", page_text, re.MULTILINE))
    size = {run: sum(trace.stat().st_size for trace in paths) for run, paths in traces.items()}
    candidates = sorted(traces.keys() - quoted, key=lambda run: (-size[run], run))
    kept, left_out, archive = dict(traces), [], packed(traces)
    for run in candidates:
        if len(archive) <= ARCHIVE_MOST:
            break
        of_scenario = [path for (scenario, _), paths in kept.items() if scenario == run[0] for path in paths]
        without = [path for path in of_scenario if path not in kept[run]]
        if without and judged(without) == judged(of_scenario):
            del kept[run]
            left_out.append(run)
            archive = packed(kept)
    return archive, sorted(left_out)


def page(results: Dict[str, Any], outcomes: List[Dict[str, Any]]) -> str:
    """The generated part of the page: a table of the outcomes, and one finding per broken invariant."""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines = [f"# {results['name']}", "", f"{versions}.", "", "```", results["command"], "```", ""]
    lines += ["| scenario | verdict | what broke, or why not |", "|---|---|---|"]
    for one in results["outcomes"]:
        why = ", ".join(f"`{name}`" for name in one["broke"]) or one["reason"] or ""
        lines.append(f"| `{one['scenario']}` | {one['verdict']} | {why} |")
    lines += left_out_of(results)
    for found in outcomes:
        seen = set()
        for finding in found["findings"]:
            if finding["invariant"] in seen:
                continue
            seen.add(finding["invariant"])
            place = f"run {finding['run']}, line {finding['line']}"
            lines += ["", f"`{finding['invariant']}` in {found['scenario']}, {place}:", ""]
            lines += [f"    expected   {finding['expected']}", f"    actual     {finding['actual']}"]
            lines += [f"    cause      {finding['cause']}"]
    return "\n".join(lines) + "\n"


def left_out_of(results: Dict[str, Any]) -> List[str]:
    """Says which runs have no traces in the archive."""
    runs = [f"`{one['scenario']}`: {', '.join(one['left_out'])}" for one in results["outcomes"] if one.get("left_out")]
    return ["", f"Runs whose traces are not kept, for room; no verdict rests on them: {'; '.join(runs)}."] if runs else []


def words(place: Path) -> str:
    """The part of an existing page that a person wrote."""
    text = place.read_text() if place.is_file() else ""
    return text[text.index(WORDS) :] if WORDS in text else ""


def keep(folder: Path, results: Dict[str, Any], found: List[Dict[str, Any]], traces: Traces, check: str) -> None:
    """Writes results.json, the archive and the page. Scenarios of its own, which the folder may have, stay."""
    own = next(place for place in (folder / "scenarios", RESULTS / "scenarios") if place.is_dir())
    judged = judge_with(check, own)
    archive, left_out = fitted(traces, page(results, found), judged)
    for one in results["outcomes"]:
        if runs := [run for scenario, run in left_out if scenario == one["scenario"]]:
            one["left_out"] = runs
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / "traces.tar.xz").write_bytes(archive)
    place = folder.with_name(f"{folder.name}.md")
    place.write_text(page(results, found) + words(place))


def main() -> None:
    """Reads the reports, asks the trainer to describe itself, and writes folder and page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("reports", type=Path, nargs="+", help="folders of --report; for a scenario in several, the last counts")
    parser.add_argument("--command", required=True, help="the command line that made the report")
    parser.add_argument("--versions", required=True, help="NAME=VERSION,…")
    parser.add_argument("--trainer", required=True, help="the trainer's command")
    parser.add_argument("--check", default="traintrue", help="the traintrue that judges what is kept")
    args = parser.parse_args()
    found = {one["scenario"]: (one, report) for report in args.reports for one in outcomes_of(report)}
    described = subprocess.run([*shlex.split(args.trainer), "describe"], check=True, capture_output=True, text=True)
    results = {
        "schema": 1,
        "name": args.name,
        "versions": dict(pair.split("=", 1) for pair in args.versions.split(",")),
        "command": args.command,
        "description": json.loads(described.stdout),
        "outcomes": [outcome(one) for one, _ in found.values()],
    }
    traces: Traces = {}
    for scenario, (_, report) in found.items():
        traces.update(traces_of(report / "traces" / scenario))
    keep(RESULTS / args.name, results, [one for one, _ in found.values()], traces, args.check)


if __name__ == "__main__":
    main()
