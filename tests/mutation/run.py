"""Mutation testing: makes one small mistake after the other, and looks if a test notices it.

    python -m tests.mutation.run theory --sample=60 --results=mutants.jsonl
    python -m tests.mutation.run trainer/step.py --tests tests/trainer tests/optimizers
    python -m tests.mutation.run theory --sample=60 --results=mutants.jsonl --again  # survivors

Tests are collected once. Each mutant is a fork of that process, in which the code of one function
is replaced; it meets the tests that call this function, the fastest first. A mutant of a class or a
module is imported anew, and meets all tests. Linux only. Processes that tests start otherwise than
by fork do not have the mutant. `--results` gets one line per mutant, and what it has is not run
again. `PYTEST_ADDOPTS="-k 'not slow_name'"` leaves tests out. `python -m tests.mutation.table`
makes the table.
"""

import argparse
import functools
import gc
import json
import pathlib
import random
import sys
import threading
import time
import types

import pytest

from tests.mutation.forks import ROOT, import_anew, in_fork
from tests.mutation.mutations import Mutants

PACKAGE = ROOT / "keras_svag"
EQUIVALENT = pathlib.Path(__file__).with_name("equivalent.json")
CACHED = functools._lru_cache_wrapper
# Capturing, tracebacks and looking for garbage would take most of the time.
QUIET = ("-q", "-s", "--tb=native", "-p", "no:cacheprovider", "-p", "no:unraisableexception")
NOTICED, SURVIVED, TIMEOUT, NOT_RUN = "noticed", "survived", "timeout", "not run"


class MutationRun:
    """Plugin of pytest that runs the collected tests once per mutant instead of once."""

    def __init__(self, options, files):
        self._options = options
        self._sources = {file: file.read_text("utf-8") for file in files}

    def pytest_runtestloop(self, session):
        if session.testsfailed:
            raise session.Interrupted("errors while tests were collected")
        self._items = session.items
        self._functions = functions_of_the_package()
        caches = [o for o in gc.get_objects() if isinstance(o, CACHED) and is_ours(o)]
        gc.freeze()  # the garbage collector of a fork would copy all that it looks at
        trace_all = functools.partial(trace, session.items, caches)
        self._seconds, self._callers = in_fork(trace_all)
        with open(self._options.results, "a", encoding="utf-8") as results:
            for file, source in self._sources.items():
                for row in self._run_file(file, source):
                    print(json.dumps(row), file=results, flush=True)
        return True

    def _run_file(self, file, source):
        name, mutants = file.relative_to(PACKAGE).as_posix(), Mutants(source)
        chosen = range(len(mutants.keys))
        if self._options.sample:
            rng = random.Random(f"{self._options.seed}/{name}")
            chosen = sorted(rng.sample(chosen, min(self._options.sample, len(chosen))))
        equivalent = json.loads(EQUIVALENT.read_text("utf-8")).get(name, {})
        done = {
            row["key"]
            for row in read_results(self._options.results)
            if row["file"] == name
            and (
                not self._options.again
                or row["outcome"] not in (SURVIVED, NOT_RUN)
                or row["key"] in equivalent
            )
        }
        for number in chosen:
            if mutants.keys[number] in done:
                continue
            started = time.monotonic()
            outcome, test = self._run_mutant(file, mutants[number])
            yield {
                "file": name,
                "key": mutants.keys[number],
                "outcome": outcome,
                "test": test,
                "seconds": round(time.monotonic() - started, 2),
            }

    def _run_mutant(self, file, mutant):
        code = compile(mutant.tree, str(file), "exec")
        if mutant.function is None:
            return self._run_module(file, code)
        callers = self._callers.get((str(file), mutant.function[1]), ())
        if not callers:
            return NOT_RUN, None
        items = [self._items[i] for i in sorted(callers, key=self._seconds.__getitem__)]
        new = find_code(code, mutant.function)
        functions = self._functions[(str(file), *mutant.function)]
        if any(f.__code__.co_freevars != new.co_freevars for f in functions):
            return self._run_module(file, code)

        def run():
            for function in functions:
                function.__code__ = new
            return run_tests(items)

        return self._judge(run, sum(self._seconds[i] for i in callers))

    def _run_module(self, file, code):
        seconds = dict(zip([item.nodeid for item in self._items], self._seconds))
        # Files that call something of the module come first.
        callers = {i for key, of in self._callers.items() if key[0] == str(file) for i in of}
        calling = {str(self._items[i].path) for i in callers}
        others = {str(item.path) for item in self._items} - calling

        def run():
            for paths in (sorted(calling), sorted(others)):
                import_anew(file, code)
                plugin = FastestFirst(seconds)
                if paths and pytest.main(["-x", *QUIET, *paths], plugins=[plugin]) != 0:
                    return plugin.failed or "import"
            return None

        return self._judge(run, 2 * sum(self._seconds))

    def _judge(self, run, seconds):
        try:
            test = in_fork(run, timeout=30 + 10 * seconds)
        except TimeoutError:
            return TIMEOUT, None
        except ChildProcessError:
            return NOTICED, "end of the process"
        return (NOTICED, test) if test else (SURVIVED, None)


class FastestFirst:
    """Plugin of pytest that puts fast tests first and keeps the name of the one that failed."""

    failed = None

    def __init__(self, seconds):
        self._seconds = seconds

    def pytest_collection_modifyitems(self, items):
        items.sort(key=lambda item: self._seconds.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed = report.nodeid


def run_tests(items):
    """Runs tests until one fails, and returns its name; `None` if all pass."""
    for item, next_item in zip(items, [*items[1:], None]):
        if any(report.failed for report in run_test(item, next_item)):
            return item.nodeid
    return None


def run_test(item, next_item):
    """Runs a test and returns the reports of its set-up, call and teardown."""
    runner = item.config.pluginmanager.get_plugin("runner")
    return runner.runtestprotocol(item, log=False, nextitem=next_item)


def trace(items, caches):
    """Seconds of each test, and the tests that call each function, by file and first line."""
    seconds, callers, of_fixtures = [], {}, {}
    called = set()

    def profile(frame, event, _):
        if event == "call":
            called.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))

    class Fixtures:
        @pytest.hookimpl(wrapper=True)
        def pytest_fixture_setup(self, fixturedef):
            before = set(called)
            called.clear()
            result = yield
            # Those of a session are set up for the first test alone.
            of_fixtures[fixturedef] = set(called)
            called.update(before)
            return result

    if items:
        items[0].config.pluginmanager.register(Fixtures())
    threading.setprofile(profile)
    for number, (item, next_item) in enumerate(zip(items, [*items[1:], None])):
        for cache in caches:
            cache.cache_clear()
        called.clear()
        started = time.process_time()
        sys.setprofile(profile)
        reports = run_test(item, next_item)
        sys.setprofile(None)
        seconds.append(time.process_time() - started)
        if any(report.failed for report in reports):
            raise RuntimeError(f"{item.nodeid} fails without any mistake")
        for fixtures in item._fixtureinfo.name2fixturedefs.values():
            called.update(*(of_fixtures.get(fixture, ()) for fixture in fixtures))
        for key in called:
            if key[0].startswith(str(PACKAGE)):
                callers.setdefault(key, set()).add(number)
    return seconds, callers


def is_ours(cached):
    return str(getattr(cached, "__module__", "")).startswith(("keras_svag", "tests"))


def find_code(code, function):
    """The code of a function in that of its module."""
    name, line = function
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            if (constant.co_qualname, constant.co_firstlineno) == (name, line):
                return constant
            if found := find_code(constant, function):
                return found
    return None


def functions_of_the_package():
    """The functions in memory by file, name and first line: a list, since it may be made twice."""
    found = {}
    for function in gc.get_objects():
        if isinstance(function, types.FunctionType):
            code = function.__code__
            if code.co_filename.startswith(str(PACKAGE)):
                key = code.co_filename, code.co_qualname, code.co_firstlineno
                found.setdefault(key, []).append(function)
    return found


def read_results(path):
    """The rows of the mutants that were run."""
    path = pathlib.Path(path)
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("modules", nargs="+", help="files or folders below keras_svag")
    parser.add_argument("--tests", nargs="+", help="defaults to the folders of the same names")
    parser.add_argument("--results", default="mutants.jsonl", help="a file that is added to")
    parser.add_argument("--sample", type=int, help="mutants per file, at random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="runs those again that survived")
    options = parser.parse_args()
    files = []
    for module in options.modules:
        path = PACKAGE / module
        files += [path] if path.is_file() else sorted(path.rglob("*.py"))
    options.tests = options.tests or sorted(
        {f"tests/{m.partition('/')[0]}" for m in options.modules}
    )
    return pytest.main([*QUIET, *options.tests], plugins=[MutationRun(options, files)])


if __name__ == "__main__":
    sys.exit(main())
