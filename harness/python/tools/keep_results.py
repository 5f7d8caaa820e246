"""Keeps a report of `traintrue run --report DIR` as a folder of golden/results: gzipped traces and results.json.

The page next to the folder is written again up to `## In words`; from that heading on it is a person's text, and stays.
"""

from __future__ import annotations

import argparse
import gzip
import json
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List

WORDS = "\n## In words\n"
RESULTS = Path(__file__).resolve().parents[3] / "golden" / "results"


def outcomes_of(report: Path) -> List[Dict[str, Any]]:
    """The outcomes in a report."""
    return json.loads((report / "report.json").read_text())["outcomes"]


def outcome(found: Dict[str, Any]) -> Dict[str, Any]:
    """One scenario for results.json. Its findings are left out: the kept traces give them again."""
    broke = sorted({finding["invariant"] for finding in found["findings"]})
    return {"scenario": found["scenario"], "verdict": found["verdict"], "reason": found["reason"], "broke": broke}


def keep_traces(report: Path, scenario: str, folder: Path) -> None:
    """Gzips a scenario's traces, without names and times in the archive, so that the same trace gives the same file.

    Repeats are left out: they only show whether the trainer is deterministic.
    """
    for trace in sorted((report / "traces" / scenario).glob("*.jsonl")):
        if "-again-" in trace.name:
            continue
        place = folder / "traces" / trace.parent.name / f"{trace.name}.gz"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(gzip.compress(trace.read_bytes(), compresslevel=9, mtime=0))


def page(results: Dict[str, Any], outcomes: List[Dict[str, Any]]) -> str:
    """The generated part of the page: a table of the outcomes, and one finding per broken invariant."""
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines = [f"# {results['name']}", "", f"{versions}.", "", "```", results["command"], "```", ""]
    lines += ["| scenario | verdict | what broke, or why not |", "|---|---|---|"]
    for one in results["outcomes"]:
        why = ", ".join(f"`{name}`" for name in one["broke"]) or one["reason"] or ""
        lines.append(f"| `{one['scenario']}` | {one['verdict']} | {why} |")
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


def words(place: Path) -> str:
    """The part of an existing page that a person wrote."""
    text = place.read_text() if place.is_file() else ""
    return text[text.index(WORDS) :] if WORDS in text else ""


def main() -> None:
    """Reads the reports, asks the trainer to describe itself, and writes folder and page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("reports", type=Path, nargs="+", help="folders of --report; for a scenario in several, the last counts")
    parser.add_argument("--command", required=True, help="the command line that made the report")
    parser.add_argument("--versions", required=True, help="NAME=VERSION,…")
    parser.add_argument("--trainer", required=True, help="the trainer's command")
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
    folder = RESULTS / args.name
    # Only the traces: the folder may have scenarios of its own.
    shutil.rmtree(folder / "traces", ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    for scenario, (_, report) in found.items():
        keep_traces(report, scenario, folder)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    place = RESULTS / f"{args.name}.md"
    place.write_text(page(results, [one for one, _ in found.values()]) + words(place))


if __name__ == "__main__":
    main()
