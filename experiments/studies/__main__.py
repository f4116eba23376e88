"""Runs, lists and shows the studies; see `experiments.studies`."""

from __future__ import annotations

import argparse
import math
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments import studies
from experiments.studies.framework import changes, gallery, provenance, running
from experiments.studies.framework.study import Result, Study, Verdict, judge
from gan_jax.cli.building import available_cores
from gan_jax.cli.command_line import keep_compiled_programs
from gan_jax.files import replace_file
from gan_jax.pictures import save, to_array
from gan_jax.pictures.animations import to_gif, to_mp4
from gan_jax.pictures.figures import DPI

QUICK_RESULTS = pathlib.Path("runs/studies-quick")
FULL_RESULTS = pathlib.Path("runs/studies-full")
CHANGED_RESULTS = pathlib.Path("runs/studies-set")
FRAME_MILLISECONDS = 600


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m experiments.studies", description=studies.__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("names", nargs="*", help="studies to run, or 'all'; none lists them")
    parser.add_argument("--quick", action="store_true", help="small runs with looser claims")
    parser.add_argument("--full", action="store_true", help="the papers' scale, where a study is scaled down")
    parser.add_argument("--seeds", type=int, help="how many seeds, instead of the study's own number")
    parser.add_argument(
        "--jobs",
        type=int,
        help="how many processes share the cases, each with its part of the cores (default: one for each core)",
    )
    parser.add_argument("--fresh", action="store_true", help="forget what is stored of these studies")
    parser.add_argument("--figures", action="store_true", help="only draw and judge again what is stored")
    parser.add_argument(
        "--gallery", action="store_true", help="write docs/gallery.md from the stored results"
    )
    parser.add_argument(
        "--claims", action="store_true", help="list the studies with their claims and last values"
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="say which stored results are older than the code that computes them; 1 where that is not recorded",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=NUMBER",
        help="run studies with another number of their own, such as rounds; their claims are shown, not judged",
    )
    parser.add_argument(
        "--format", choices=("png", "svg", "pdf"), help="draw stored results again in this format"
    )
    parser.add_argument("--size", metavar="WxH", help="and in this size, in pixels at 150 dots per inch")
    parser.add_argument(
        "--film",
        type=pathlib.Path,
        help="write a study's frames to this file, .mp4 or .gif, from stored results",
    )
    parser.add_argument("--results", type=pathlib.Path, help="where results are kept")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Does what the command line asks; 1 where a claim does not hold, 2 where it cannot be understood."""
    given = parse(arguments)
    default = QUICK_RESULTS if given.quick else FULL_RESULTS if given.full else studies.RESULTS
    folder = given.results or default
    known = studies.names()
    chosen = known if given.names == ["all"] else list(dict.fromkeys(given.names))
    if unknown := [name for name in chosen if name not in known]:
        print(f"There is no study {unknown[0]!r}: choose 'all' or of {', '.join(known)}.", file=sys.stderr)
        return 2
    if given.seeds is not None and given.seeds < 1:
        print(f"--seeds is 1 or more, got {given.seeds}.", file=sys.stderr)
        return 2
    if given.jobs is not None and given.jobs < 1:
        print(f"--jobs is 1 or more, got {given.jobs}.", file=sys.stderr)
        return 2
    if given.quick and given.full:
        print("Give --quick or --full, not both.", file=sys.stderr)
        return 2
    if given.gallery:
        print(f"Wrote {gallery.write(folder)}.")
        return 0
    if given.check:
        return check(chosen or known, folder)
    if given.claims or not chosen:
        show(chosen or known, folder, given.claims)
        return 0
    try:
        if given.film is not None:
            return film(chosen, folder, given.film)
        if given.format is not None or given.size is not None:
            return draw_again(chosen, folder, given.format or "png", size_of(given.size))
        changed = changes.parse(given.set)
        loaded = [studies.load(name, changed) for name in chosen]
    except changes.ChangeError as error:
        print(error, file=sys.stderr)
        return 2
    if changed and given.results is None:
        named = [f"{name.lower()}={value}" for name, value in sorted(changed.items())]
        folder = CHANGED_RESULTS / ",".join(named + ["quick"] * given.quick + ["full"] * given.full)
    if others := [path for study in loaded if (path := other_file(study.name, folder)) is not None]:
        print(
            f"{others[0]} is no file of a study: move it, or name another folder by --results.",
            file=sys.stderr,
        )
        return 2
    if not (given.fresh or given.figures):
        for study in loaded:
            path = folder / f"{study.name}.json"
            wanted = running.command(study, given.quick, given.full, changed)
            if path.exists() and (other := running.other_command(running.read(path), wanted)) is not None:
                print(
                    f"{path} is of `{other}`: name another folder by --results, or begin anew with --fresh.",
                    file=sys.stderr,
                )
                return 2
    keep_compiled_programs()
    failed = 0
    for study, found, seconds in judged(loaded, folder, given, changed):
        took = "" if seconds is None else f" ({seconds:.0f} s)"
        print(f"{study.name}: {study.title}{took}")
        for verdict in found:
            print(f"  {verdict.text} [{verdict.measured()}]" if changed else f"  {line(verdict)}")
        sys.stdout.flush()
        failed += sum(verdict.fails for verdict in found)
    return 1 if failed and not changed else 0


def other_file(name: str, folder: pathlib.Path) -> pathlib.Path | None:
    """What a study would replace and has not written: a file by the name of its record or its figure."""
    path, figure = folder / f"{name}.json", folder / f"{name}.png"
    if not path.exists():
        return figure if figure.exists() else None
    try:
        stored = running.read(path)
    except (OSError, ValueError):
        return path
    return None if isinstance(stored, dict) and isinstance(stored.get("runs"), dict) else path


def judged(
    loaded: Sequence[Study], folder: pathlib.Path, given: argparse.Namespace, changed: Mapping[str, float]
) -> Iterator[tuple[Study, list[Verdict], float | None]]:
    """Runs or redraws the studies: each with its verdicts, and the seconds that its cases took, as it ends."""
    if given.figures:
        yield from ((study, redraw(study, folder), None) for study in loaded)
        return
    options = {name: getattr(given, name) for name in ("quick", "seeds", "fresh", "full")}
    runs = [running.Run(study, folder, **options, changed=changed) for study in loaded]
    for run, found in running.finished(runs, given.jobs or available_cores()):
        yield run.study, found, run.seconds


def redraw(study: Study, folder: pathlib.Path) -> list[Verdict]:
    """Draws a study's figure and judges its claims again, from what is stored."""
    stored, results = results_in(study, folder)
    found = judge(study, results, stored["quick"])
    launches = stored.get("launches", {})
    path = folder / f"{study.name}.json"
    running.write(path, running.record(study, stored["runs"], launches, stored["quick"], found))
    running.draw(study, results, folder)
    return found


def results_in(study: Study, folder: pathlib.Path) -> tuple[dict[str, Any], list[Result]]:
    """What is stored of a study, and the results of its complete seeds."""
    path = folder / f"{study.name}.json"
    if not path.is_file():
        raise SystemExit(f"Nothing is stored of {study.name} in {folder}: run it first.")
    stored = running.read(path)
    count = running.complete_seeds(study, stored["runs"])
    if not count:
        raise SystemExit(f"No seed of {study.name} is complete in {folder}: run it first.")
    return stored, running.results_of(stored["runs"], study, count)


def draw_again(
    names: Sequence[str], folder: pathlib.Path, format: str, size: tuple[float, float] | None
) -> int:
    """Writes studies' figures beside their stored numbers in another format or size."""
    for name in names:
        study = studies.load(name)
        _, results = results_in(study, folder)
        drawn = study.figure(results)
        if size is not None:
            drawn.set_size_inches(*size)
        path = folder / f"{study.name}.{format}"
        save(drawn, path)
        print(f"Wrote {path}.")
    return 0


def size_of(text: str | None) -> tuple[float, float] | None:
    """`1920x1080`, pixels, in inches.

    Raises:
      ChangeError: if it is no width and height.
    """
    if text is None:
        return None
    sides = text.split("x")
    if len(sides) != 2 or not all(side.isdecimal() and 100 <= int(side) <= 20_000 for side in sides):
        raise changes.ChangeError(f"--size is WIDTHxHEIGHT in pixels, 100 to 20000 each; got {text!r}.")
    return int(sides[0]) / DPI, int(sides[1]) / DPI


def film(names: Sequence[str], folder: pathlib.Path, path: pathlib.Path) -> int:
    """Writes the frames of a study's first seed as a film."""
    filmed = [name for name in studies.names() if studies.load(name).film is not None]
    study = studies.load(names[0])
    if len(names) > 1 or study.film is None:
        raise changes.ChangeError(f"--film takes one study that has frames: {', '.join(filmed)}.")
    if path.suffix not in (".mp4", ".gif"):
        raise changes.ChangeError(f"--film writes .mp4 or .gif, got {path.name!r}.")
    _, results = results_in(study, folder)
    pictures = [to_array(drawn) for drawn in study.film(results[0])]
    encode = to_gif if path.suffix == ".gif" else to_mp4
    content = encode(pictures, milliseconds=FRAME_MILLISECONDS)
    if content is None:
        raise changes.ChangeError(
            "MP4 is written by ffmpeg, which is not installed: install it, or name a .gif."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, content)
    print(f"Wrote {len(pictures)} frames to {path}.")
    return 0


def line(verdict: Verdict) -> str:
    """A verdict in a line."""
    missed = "" if verdict.holds else f"; missed by {-verdict.margin:.4g}"
    word = "holds" if verdict.holds else "FAILS" if verdict.reproduces else "does not hold"
    return f"{word}  {verdict.text} [{verdict.measured()}, asked {verdict.sense} {verdict.bound:g}{missed}]"


def show(names: Sequence[str], folder: pathlib.Path, claims: bool) -> None:
    """Every study in a line, with the minutes that the stored results took; its claims if they are asked for."""
    for name in names:
        study = studies.load(name)
        path = folder / f"{study.name}.json"
        stored = running.read(path) if path.is_file() else {"runs": {}}
        seconds = [case["seconds"] for by_case in stored["runs"].values() for case in by_case.values()]
        took = f"{math.ceil(sum(seconds) / 60)} min" if seconds else "not run"
        print(f"{name:<21}{took:>8}  {study.title}")
        if claims:
            found = running.stored_verdicts(study, folder)
            for text in [line(verdict) for verdict in found] if found else study.texts:
                print(f"  {text}")


def check(names: Sequence[str], folder: pathlib.Path) -> int:
    """Says which stored results are older than the code; 1 where of some it is not recorded what computed them."""
    unknown = 0
    for name in names:
        path = folder / f"{name}.json"
        found = provenance.state(
            f"{studies.__name__}.{name}", running.read(path) if path.is_file() else {"runs": {}}
        )
        print(found)
        unknown += found.unknown
    return 1 if unknown else 0


if __name__ == "__main__":
    sys.exit(main())
