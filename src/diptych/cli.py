"""The command line: argv -> settings -> command -> exit code. The only place that prints, shows progress or exits.

Exit codes: 0 done, 1 check found what would stop a training, 2 a problem that the person can mend (one line on stderr),
130 stopped by Ctrl-C or SIGTERM.
"""

import contextlib
import functools
import io
import itertools
import operator
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro
import yaml
from pydantic import ValidationError
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from diptych import __version__
from diptych.config import (
    CheckSettings,
    DemoSettings,
    EvaluateSettings,
    ImportSettings,
    ImportWeightsSettings,
    PackSettings,
    ResumeSettings,
    SelectSettings,
    Settings,
    StudySettings,
    TrainSettings,
    TranslateSettings,
    explain,
    setting_names,
)
from diptych.errors import DiptychError, nearest, one_line
from diptych.pairs import read_rows
from diptych.processes import LostError, ToldError, launched, leave
from diptych.recipes import load_settings, read_recipe, recipe_file, settings_from


class TrainCommand(TrainSettings):
    """Learn to translate from a few pairs and everything unpaired."""

    recipe: str | None = None
    """YAML file of settings, or one that comes with diptych (shukla, tripathy, cyclegan, pix2pix, supervised, and more;
    a wrong name lists them all); flags lie on top of it."""
    dry_run: bool = False
    """Print the resolved settings as YAML and stop, without a look at the images."""


COMMANDS: dict[str, type[Settings]] = {
    "check": CheckSettings,
    "pack": PackSettings,
    "select": SelectSettings,
    "train": TrainCommand,
    "resume": ResumeSettings,
    "translate": TranslateSettings,
    "evaluate": EvaluateSettings,
    "study": StudySettings,
    "demo": DemoSettings,
    "import": ImportSettings,
    "import-weights": ImportWeightsSettings,
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; return the exit code. One of several processes ends with it."""
    code = _main(argv)
    leave(code)
    return code


def _main(argv: list[str] | None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr is: any name can be printed on any terminal
    speaking = True  # of several processes the first does, and the one that something happens to
    try:
        if argv == ["--version"]:
            say(f"diptych {__version__}")
            return 0
        speaking = speaks()
        with contextlib.nullcontext() if speaking else contextlib.redirect_stdout(io.StringIO()):  # for --help
            settings = parse(argv)
        _check_launch(settings)
        return run(settings)
    except LostError as problem:
        print(f"diptych: error: {problem}", file=sys.stderr)
        return 2
    except DiptychError as problem:
        if not speaking or isinstance(problem, ToldError):
            # The launcher ends this process as soon as another has ended, which says the same, or why.
            time.sleep(SECONDS_TO_BE_TOLD)
        if not isinstance(problem, ToldError):
            print(f"diptych: error: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("diptych: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as problem:
        print(f"diptych: error: {one_line(f'{problem}; free space or mend the folder, then go on')}", file=sys.stderr)
        return 2


SECONDS_TO_BE_TOLD = 5.0
SHARED = (TrainSettings, ResumeSettings, TranslateSettings, EvaluateSettings, SelectSettings)
"""The commands whose work several processes share."""


def _check_launch(settings: Settings) -> None:
    """Raises `DiptychError` for several processes that would all do the same."""
    if launched().size > 1 and not isinstance(settings, SHARED):
        name = next(name for name, model in COMMANDS.items() if isinstance(settings, model))
        raise DiptychError(f"{name} is the work of one process; start it without torchrun")


def parse(argv: list[str]) -> Settings:
    """The settings that `argv` asks for; raises `DiptychError` for unknown or wrong flags, `SystemExit` for --help."""
    command = argv[0] if argv and argv[0] in COMMANDS else None
    if command is not None:
        _check_flags(argv[1:], command)
    recipe = _value_of("--recipe", argv)
    kinds: list[Any] = []
    for name, model in COMMANDS.items():
        if name == "train" and recipe is not None:
            kinds.append(Annotated[model, tyro.conf.subcommand(name, default=_defaults_from(recipe))])
        else:
            kinds.append(Annotated[model, tyro.conf.subcommand(name)])
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            settings: Settings = tyro.cli(
                functools.reduce(operator.or_, kinds),
                args=argv,
                prog="diptych",
                description="Image-to-image translation from a few pairs and many unpaired images.",
                config=(tyro.conf.OmitSubcommandPrefixes,),
            )
            return settings
    except SystemExit as stop:
        if not stop.code:
            raise
        cause: BaseException | None = stop
        while cause is not None and not isinstance(cause, ValidationError):
            cause = cause.__context__
        if cause is not None and command is not None:
            raise DiptychError(explain(cause, COMMANDS[command])) from None
        raise DiptychError(_one_line(said.getvalue(), command)) from None


def _check_flags(words: list[str], command: str) -> None:
    """The parser itself would first miss whatever stands behind an unknown flag."""
    flags = [f"--{name.replace('_', '-')}" for name in setting_names(COMMANDS[command])]
    known = {"-h", "--help", *flags, *(f"--no-{flag.removeprefix('--')}" for flag in flags)}
    for word in words:
        flag = word.partition("=")[0]
        if re.match("--?[A-Za-z]", flag) and flag.replace("_", "-") not in known:
            raise DiptychError(f"unknown flag {flag}{nearest(flag, flags) or ';'} see diptych {command} --help")


def _value_of(flag: str, argv: list[str]) -> str | None:
    for word, following in itertools.zip_longest(argv, argv[1:]):
        if word == flag:
            return following
        if word.startswith(flag + "="):
            return word.removeprefix(flag + "=")
    return None


def _defaults_from(recipe: str) -> TrainCommand:
    """The recipe as the flags' defaults; what it leaves open stays required.

    Its weights are left out: the parser would want flags for those names alone. They are laid under the flags later.
    """
    file = recipe_file(recipe)
    values = read_recipe(file)
    open_ = {name: tyro.MISSING for name, field in TrainSettings.model_fields.items() if field.is_required()}
    checked = settings_from(dict.fromkeys(open_, "open") | values, str(file))
    return TrainCommand.model_construct(
        **dict(checked) | {"weights": {}} | {name: missing for name, missing in open_.items() if name not in values},
        recipe=recipe,
        dry_run=False,
    )


_FRAME = re.compile(r"\x1b\[[0-9;]*m|[╭╮╰╯│─]|-{3,}")
"""What the parser draws around its messages, in colour on a terminal, in plain ASCII where there is no UTF-8."""


def _one_line(box: str, command: str | None) -> str:
    """What the parser said in its box, in one line of ours."""
    lines = _FRAME.sub("", box).splitlines()[1:]  # without the title
    text = " ".join(" ".join(lines).split())
    way_out = f"see diptych {command} --help" if command else "see diptych --help"
    if unknown := re.search(r"Unrecognized options: ([^\s,]+)", text):
        if command is None:
            return f"unknown command {unknown[1]!r}{nearest(unknown[1], COMMANDS) or ';'} {way_out}"
        return f"nothing takes the word {unknown[1]!r}; {way_out}"
    if "Expected one of {" in text:
        return f"say what to do: {', '.join(COMMANDS)}; {way_out}"
    if "Missing from" in text:
        missing = [found[1] for line in lines if (found := re.match(r" {5,6}(--\S+|[A-Z]+)", line))]
        return f"{command} needs {', '.join(missing)}; {way_out}"
    if missing_value := re.search(r"Missing value for argument '(.+?)'", text):
        name = missing_value[1]
        return (
            f"{name} needs a value; {way_out}" if name.startswith("-") else f"{command} needs {name.upper()}; {way_out}"
        )
    if choice := re.search(r"invalid choice '(.*)' for argument '(.+?)'\. Expected one of \((.*?)\)", text):
        allowed = sorted(set(re.findall(r"'(.+?)'", choice[3])) - {"None"}, key=lambda word: (len(word), word))
        return f"{choice[2]} {choice[1]}: choose one of {', '.join(allowed)}"
    if wrong := re.search(r"Error parsing (\S+): (.*?) (?:Argument helptext|For full helptext)", text):
        why = re.sub(r"invalid literal for int\(\) with base 10: (.*)", r"\1 is no whole number", wrong[2])
        why = re.sub(r"could not convert string to float: (.*)", r"\1 is no number", why)
        why = why.replace("Failed to parse key-value pairs!", "takes names and numbers in turn, such as cycle_a 10")
        return f"{wrong[1]}: {why}; {way_out}"
    return text.partition(" For full helptext")[0]


def run(settings: Settings) -> int:
    """Run the command that these settings belong to; return the exit code."""
    from diptych import commands  # brings numpy and Pillow, which --help does not need

    if isinstance(settings, TrainCommand):
        values = settings.model_dump(exclude={"recipe", "dry_run"})
        if settings.recipe is not None:
            under = read_recipe(recipe_file(settings.recipe)).get("weights") or {}
            values["weights"] = under | settings.weights
        wanted = TrainSettings(**values)
        if settings.dry_run:
            from diptych.build import resolve

            say(yaml.safe_dump(resolve(wanted).model_dump(mode="json"), sort_keys=False).rstrip())
            return 0
        return _train(lambda display, stop: commands.train(wanted, display, stop))
    if isinstance(settings, ResumeSettings):
        return _train(lambda display, stop: commands.resume(settings, display, stop))
    if isinstance(settings, DemoSettings):
        from diptych.demo import demo

        with Watcher() as display:
            report = demo(settings, display)
        print(report)
        return 0
    if isinstance(settings, StudySettings):
        return _study(settings)
    if isinstance(settings, CheckSettings):
        return _check(settings)
    with Watcher() as display:
        if isinstance(settings, SelectSettings):
            commands.select(settings, display)
            answer = _next_after_select(settings) if speaks() else ""
        elif isinstance(settings, TranslateSettings):
            written = commands.translate(settings, display)
            answer = f"{len(written)} translated, in {settings.out}"
        elif isinstance(settings, ImportSettings):
            from diptych.importers import IMPORTERS

            layout = commands.import_dataset(settings, display)
            method = "shukla" if IMPORTERS[settings.name].paired else "cyclegan"
            answer = f"Written: {layout}. Next: diptych train {method} --data {layout.parent} --out RUN"
        elif isinstance(settings, PackSettings):
            folder = commands.pack(settings, display)
            answer = f"Written: {folder}. Next: diptych train METHOD --data {folder} --out RUN"
        elif isinstance(settings, ImportWeightsSettings):
            folder = commands.import_weights(settings, display)
            answer = f"Written: {folder}. Next: diptych translate {folder} IMAGES --out DIR"
        else:
            assert isinstance(settings, EvaluateSettings)
            record = commands.evaluate(settings, display)
            if speaks():
                display.show(_scores_table(record))
            answer = _explanation(record)
            if settings.out is not None:
                answer += f"\nWritten: {settings.out / 'metrics.json'}"
    say(answer)
    return 0


def speaks() -> bool:
    """Whether this process is the one that prints."""
    return launched().rank == 0


def say(answer: str) -> None:
    """Print, once however many processes there are."""
    if speaks():
        print(answer)


def _check(settings: CheckSettings) -> int:
    from diptych import commands
    from diptych.checking.findings import SEVERITIES

    with Watcher() as display:
        checked = commands.check(settings, display)
        if checked.findings:
            table = Table(box=None, pad_edge=False, show_header=False)
            for finding in checked.findings:
                table.add_row(finding.severity, Text(one_line(finding.text)))
            display.show(table)
    counts = ", ".join(f"{checked.count(kind)} {kind}{'s' * (checked.count(kind) != 1)}" for kind in SEVERITIES)
    print(f"{counts}. Look at {settings.out / 'check.html'}")
    return 1 if checked.count("error") else 0


def _study(settings: StudySettings) -> int:
    from diptych.studies import study as studies

    if settings.dry_run:
        print(studies.dry_run(settings))
        return 0
    with Watcher() as display:
        outcome = studies.study(settings, display)
    print(f"{outcome.table}\nLook at {outcome.page}")
    if outcome.errors:
        raise DiptychError(studies.failure(outcome, settings.out))
    return 0


def _next_after_select(settings: SelectSettings) -> str:
    pairs, labels = settings.out / "pairs.csv", settings.partners or "LABELS"
    rows = read_rows(pairs)
    waiting = sum(not right for _, right in rows)
    among = f" among the {settings.unpaired} in {settings.out / 'unpaired.csv'}" if settings.unpaired else ""
    shown = f"shown in {settings.out / 'chosen.png'} and {settings.out / 'map.png'}"
    chosen = f"{len(rows)} images chosen{among}, {shown}."
    if waiting:
        return f"{chosen} Next: write the {waiting} missing partners into column b of {pairs}"
    files = f"--pairs {pairs}" + (f" --unpaired {settings.out / 'unpaired.csv'}" if settings.unpaired else "")
    maps = f"with --b-classes CSV if {labels} holds class maps"
    return f"{chosen} Next, {maps}: diptych train shukla --a {settings.photos} --b {labels} {files} --out RUN"


def _scores_table(record: Mapping[str, Any]) -> Table:
    """The numbers of one run; of several, those of each beside their differences to the first."""
    from diptych.evaluation.record import comparison_rows, table_rows

    table = Table(box=None, pad_edge=False)
    table.add_column("metric")
    if "runs" not in record:
        table.add_column("value", justify="right")
        table.add_column("95 % interval" if record["bootstrap"] else "")
        for row in table_rows(record):
            table.add_row(*map(Text, row))
        return table
    for name in record["runs"]:
        table.add_column(Text(name), justify="right")
    first = next(iter(record["runs"]))
    for name in record["differences"]:
        table.add_column(Text(f"{name} - {first}"))
    for cells in comparison_rows(record["runs"], record["differences"]):
        table.add_row(*map(Text, cells))
    return table


def _explanation(record: Mapping[str, Any]) -> str:
    """What stands below the numbers: of several runs each one's, or once what they share."""
    from diptych.evaluation.record import explanation

    if "runs" not in record:
        return "\n".join(explanation(record))
    lines = {name: explanation(one) for name, one in record["runs"].items()}
    shared = [line for line in next(iter(lines.values())) if all(line in others for others in lines.values())]
    own = [f"{name}: {line}" for name, others in lines.items() for line in others if line not in shared]
    return "\n".join([*shared, *own])


def _train(start: Callable[["Watcher", Callable[[], bool]], tuple[Path, int]]) -> int:
    """Run a training; Ctrl-C, or SIGTERM as schedulers send it, lets the step finish and saves; then Ctrl-C stops it at
    once, while schedulers may say it more than once."""
    asked = False

    def on_signal(*_: object) -> None:
        nonlocal asked
        if not display.train_began:
            raise KeyboardInterrupt  # nothing has been trained: there is nothing to save
        if not asked:
            asked = True
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if speaks():  # below the printing, whatever the signal came in the middle of
                os.write(2, b"diptych: finishing this step, then saving (Ctrl-C again stops at once)\n")

    display = Watcher()
    before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with display:
            folder, step = start(display, lambda: asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if step < load_settings(folder).steps:
        say(f"Stopped and saved at step {step}. Go on with: diptych resume {folder}")
        return 130
    say(f"Trained to step {step}. Look at {folder / 'report.html'}")
    say(f"Next: diptych translate {folder} IMAGES --out DIR")
    return 0


SECONDS_BETWEEN_DRAWINGS = 0.1  # on a terminal
SECONDS_BETWEEN_LINES = 15.0  # elsewhere


class Watcher:
    """Shows long work: a live display on a terminal, a line now and then elsewhere."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, quiet=not speaks())
        self.progress = _TrainingProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self.console.is_terminal,
            auto_refresh=False,  # a thread that redraws while a note is printed may draw over it
        )
        self.tasks: dict[str, TaskID] = {}
        self.last_line = self.last_drawn = time.monotonic()
        self.train_began: dict[str, tuple[float, int]] = {}
        self.count_began: dict[str, tuple[float, int]] = {}

    def __enter__(self) -> "Watcher":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def count(self, what: str, done: int, total: int) -> None:
        self._advance(what, done, total, "")
        if done <= self.count_began.get(what, (0.0, done))[1]:  # it begins, or begins again
            self.count_began[what] = (time.monotonic(), done)
        began, first = self.count_began[what]
        if self._time_for_a_line():
            left = (time.monotonic() - began) / max(done - first, 1) * (total - done)
            self.note(f"{what}: {done} of {total}" + (f"  ETA {_clock(left)}" if done > first else ""))

    def trained(self, run: str, step: int, steps: int, images_per_second: float, terms: Mapping[str, float]) -> None:
        speed = f"{images_per_second:.1f} images/s"
        self.progress.terms = terms
        self._advance(f"training {run}", step, steps, speed)
        began, first = self.train_began.setdefault(run, (time.monotonic(), step))
        if self._time_for_a_line():
            left = (time.monotonic() - began) / max(step - first, 1) * (steps - step)
            named = "  ".join(f"{name} {value:.3f}" for name, value in terms.items())
            self.note(f"{run} {step}/{steps}  {speed}  ETA {_clock(left)}  {named}")

    def note(self, text: str) -> None:
        self.progress.console.print(text, highlight=False, soft_wrap=True, markup=False)

    def show(self, table: Table) -> None:
        """Print a table to standard output; only a terminal's width breaks its lines."""
        Console(width=None if sys.stdout.isatty() else 10_000).print(table)

    def _advance(self, what: str, done: int, total: int, speed: str) -> None:
        if what not in self.tasks:
            self.tasks[what] = self.progress.add_task(what, total=total, speed=speed)
        # A bar that is full makes room for the next.
        self.progress.update(self.tasks[what], completed=done, total=total, speed=speed, visible=done < total)
        if time.monotonic() - self.last_drawn > SECONDS_BETWEEN_DRAWINGS or done == total:
            self.progress.refresh()
            self.last_drawn = time.monotonic()

    def _time_for_a_line(self) -> bool:
        if self.console.is_terminal or time.monotonic() - self.last_line < SECONDS_BETWEEN_LINES:
            return False
        self.last_line = time.monotonic()
        return True


class _TrainingProgress(Progress):
    """The bars, and under them each term by name."""

    terms: Mapping[str, float] = {}

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.terms:
            yield Text("  ".join(f"{name} {value:.3f}" for name, value in self.terms.items()), style="dim")


def _clock(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{second:02d}"
