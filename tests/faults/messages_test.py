"""E6 and E12: what is wrong with a folder or its files is said in one sentence, at once."""

import contextlib
import errno
import os
import shutil
import signal
import tempfile
import warnings

import keras
import numpy as np
import pytest

from keras_svag import Recipe, check_sde
from keras_svag.engine.files import lock, records
from keras_svag.engine.progress import Progress
from keras_svag.studies import SDEValidity, compare, load
from keras_svag.studies.status import read_status
from keras_svag.studies.training import Training
from tests.studies.helpers import files_of, read_only
from trainers import commands

DEADLINE = 60  # seconds for what takes one, on a busy machine


def build(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


def make_recipe():
    x = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    return Recipe(build, (x, x[:, :1]), keras.optimizers.SGD(0.05), "mse", 4, epochs=2)


def study(**fields):
    fields = {"ells": (1, 2), "num_seeds": 2, "max_num_seeds": 2, "num_records": 4} | fields
    return SDEValidity(make_recipe(), **fields)


def run(workdir, **fields):
    return study(**fields).run(workdir, num_workers=1, show_progress=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("messages") / "study"
    run(workdir)
    return workdir


@contextlib.contextmanager
def deadline():
    """Fails instead of waiting for ever."""

    def fail(*_):
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(DEADLINE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def assert_one_sentence(error, *words):
    message = str(error)
    assert "\n" not in message and len(message) < 600
    for word in words:
        assert word in message, message


# E6: where files live.


@pytest.mark.parametrize("place", ["file:///tmp/study", "hdfs://host:8020/x"])
def test_e6_other_urls_are_refused(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls = [run, load, read_status, lambda w: compare(w, w), lambda w: load(w).judge()]
    calls.append(lambda w: Training(make_recipe()).run(w, show_progress=False))
    for call in calls:
        with pytest.raises(ValueError) as error:
            call(place)
        assert_one_sentence(error.value, "`workdir` must be a local folder", repr(place), "gs://")
    assert list(tmp_path.iterdir()) == []  # no local folder named "file:"


def test_e6_home_folder(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert run("~/study").workdir == tmp_path / "study"
    assert Training(make_recipe()).run("~/once", show_progress=False)["status"] == "done"
    assert (tmp_path / "once" / "result.json").exists()
    assert load("~/study").workdir == tmp_path / "study"
    commands.plot(["~/study", "--folder=~/figures"])
    assert str(tmp_path / "figures") in capsys.readouterr().out
    commands.compare(["~/study", "~/study", "--plot=~/new/curves.png"])
    assert (tmp_path / "new" / "curves.png").stat().st_size > 1000
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize(
    "place", ["", "x" * 5000, "a\0b", "~nobody-of-this-name/x", 3, None], ids=lambda p: repr(p)[:9]
)
def test_e6_what_is_no_path(place):
    for call in (run, load, read_status):
        with pytest.raises(ValueError, match="`workdir`.*Received: workdir="):
            call(place)


# E12: folders.


@pytest.mark.parametrize("moment", [1, 3, 9])
def test_e12_workdir_is_moved(tmp_path, monkeypatch, moment):
    workdir, elsewhere = tmp_path / "study", tmp_path / "elsewhere"
    calls, advance = [], Progress.advance

    def move(self, *arguments):
        calls.append(arguments)
        if len(calls) == moment:
            workdir.rename(elsewhere)
        advance(self, *arguments)

    monkeypatch.setattr(Progress, "advance", move)
    with pytest.raises(records.WriteError) as error:
        run(workdir)
    assert_one_sentence(error.value, "moved or deleted", "--workdir")
    assert "Free some space" not in str(error.value)
    assert not workdir.exists()  # nothing was begun again in the old place
    assert run(elsewhere).verdict
    assert len(list(elsewhere.glob("runs/*/result.json"))) == 4


posix = pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")


@pytest.fixture
def open_folder():
    # Not `tmp_path`, into which nobody else may look.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield folder


@contextlib.contextmanager
def whole_read_only(folder):
    folders = [path for path, _, _ in os.walk(folder)]
    for path in folders:
        os.chmod(path, 0o555)
    try:
        with read_only(folder):
            yield
    finally:
        for path in folders:
            os.chmod(path, 0o755)


@posix
def test_e12_finished_study_on_a_read_only_folder_shows_its_verdict(finished, open_folder):
    workdir = shutil.copytree(finished, os.path.join(open_folder, "study"))
    before, expected = files_of(workdir), load(finished)
    with whole_read_only(workdir):
        with pytest.warns(UserWarning, match="is read-only"):
            result = run(workdir)
        assert result.report.exists() and result.path.exists()
        # More seeds would have to be trained.
        with pytest.raises(records.WriteError) as error:
            run(workdir, num_seeds=3, max_num_seeds=3)
        assert_one_sentence(error.value, "writable")
    assert result.verdict == expected.verdict and repr(result) == repr(expected)
    assert files_of(workdir) == before


@posix
def test_e12_finished_run_on_a_read_only_folder(open_folder):
    training, workdir = Training(make_recipe()), os.path.join(open_folder, "once")
    first = training.run(workdir, show_progress=False)
    before = files_of(workdir)
    with whole_read_only(workdir), pytest.warns(UserWarning, match="is read-only"):
        assert training.run(workdir, show_progress=False) == first
    assert files_of(workdir) == before


@pytest.mark.parametrize(
    "name", ["runs", "figures", "runs/b4_ell1_seed0/checkpoint", "results.csv"]
)
def test_e12_something_else_in_place_of_what_is_written(finished, tmp_path, name):
    workdir = shutil.copytree(finished, tmp_path / "study")
    shutil.rmtree(workdir / "runs")
    path = workdir / name
    if path.is_dir():
        shutil.rmtree(path)
    elif path.exists():
        path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    if name == "results.csv":
        (path / "mine").mkdir(parents=True)
    else:
        path.write_text("mine")
    with pytest.raises(records.WriteError) as error:
        run(workdir)
    assert_one_sentence(error.value, str(path), "Move away what is in its place")


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_e12_full_disk(finished, tmp_path, monkeypatch, code):
    workdir = shutil.copytree(finished, tmp_path / "study")
    before = files_of(workdir)

    def fail(*_):
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fail)
        with pytest.raises(records.WriteError) as error:
            run(workdir)
    assert_one_sentence(error.value, os.strerror(code), "Free some space")
    assert files_of(workdir) == before


def test_e12_full_temporary_folder(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "save", fail)
    x = np.zeros((2**14, 3), np.float32)
    recipe = Recipe(build, (x, x[:, :1]), keras.optimizers.SGD(0.05), "mse", 4, epochs=1)
    with pytest.raises(records.WriteError) as error:
        SDEValidity(recipe).run(tmp_path / "study", num_workers=2, show_progress=False)
    assert_one_sentence(error.value, "No space left", "TMPDIR")
    assert not (tmp_path / "study").exists()


@posix
def test_e12_network_folder_without_locks(finished, tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def refuse(file, how):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(lock, "_warned", set())
    with pytest.warns(UserWarning) as warned:
        result = run(tmp_path / "study")
    # One sentence, not one for each of the four runs.
    messages = [str(w.message) for w in warned if "locked" in str(w.message)]
    assert len(messages) == 1
    assert_one_sentence(messages[0], "No locks available", "--shard")
    assert repr(result) == repr(load(finished))


# E12: files.

RUN = "runs/b4_ell1_seed0"
FILES = ("config.json", "environment.json", "looks.json", f"{RUN}/result.json")
REPLACED = (*FILES, f"{RUN}/metrics.jsonl")


def put(path, kind):
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "FIFO":
        os.mkfifo(path)
    else:
        path.write_text({"list": "[]", "numbers": "[1]", "deep": "[" * 10**5 + "]" * 10**5}[kind])


PLACES = [(name, kind) for name in REPLACED for kind in ("folder", "FIFO", "deep")]
PLACES += [(name, kind) for name in FILES[:2] for kind in ("list", "numbers")]


@posix
@pytest.mark.parametrize(("name", "kind"), PLACES)
def test_e12_another_thing_in_place_of_a_file(finished, tmp_path, name, kind):
    for number, call in enumerate((load, read_status, run)):
        workdir = shutil.copytree(finished, tmp_path / f"study{number}")
        put(workdir / name, kind)
        with deadline():
            try:
                with warnings.catch_warnings(action="ignore"):
                    call(workdir)
            except (ValueError, records.WriteError) as error:
                assert_one_sentence(error, os.path.basename(name))
                continue
        # What is damaged in the folder of a run is restored.
        assert name.startswith("runs/") or call is not run


@posix
def test_e12_checkpoint_is_a_fifo(finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "study")
    expected = (workdir / RUN / "metrics.jsonl").read_bytes()
    (workdir / RUN / "result.json").unlink()
    put(workdir / RUN / "checkpoint" / "latest.npz", "FIFO")
    with deadline(), pytest.warns(UserWarning, match="not a regular file"):
        run(workdir)
    assert (workdir / RUN / "metrics.jsonl").read_bytes() == expected


@pytest.mark.parametrize(
    "text",
    ['{"data": 3}', '{"data": {"sha256": 3}}', '{"data": null}', '{"model": 3}', '{"model": {}}'],
)
def test_e12_environment_that_cannot_be_compared(finished, tmp_path, text):
    workdir = shutil.copytree(finished, tmp_path / "study")
    (workdir / "environment.json").write_text(text)
    with pytest.raises(ValueError) as error:
        run(workdir)
    assert_one_sentence(error.value, "environment.json", "move it away")


# E12: arguments.

LOSSES = {
    "name": "sparse_categorical_crossentropy",
    "class name": "SparseCategoricalCrossentropy",
    "object": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    "function": keras.losses.sparse_categorical_crossentropy,
}


def build_classifier(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(10)])


def check(loss, y, test_data=None, model=build_classifier):
    x = np.random.default_rng(0).normal(size=(20, 3))
    sgd = keras.optimizers.SGD(0.1)
    test_data = None if test_data is None else (x, test_data)
    return check_sde(model, sgd, loss, (x, y), batch_size=4, epochs=1, test_data=test_data)


@pytest.mark.parametrize("loss", LOSSES)
def test_e12_labels_out_of_range(loss):
    labels = np.arange(20) % 10
    with pytest.raises(ValueError) as error:
        check(LOSSES[loss], labels + 1)
    assert_one_sentence(error.value, "train_data", "from 0 to 9", "labels from 1 to 10")
    with pytest.raises(ValueError) as error:
        check(LOSSES[loss], labels, labels - 1.0)
    assert_one_sentence(error.value, "test_data", "labels from -1 to 8")


def test_e12_labels_of_one_output_of_two():
    def build_two(seed):
        keras.utils.set_random_seed(seed)
        x = keras.Input((3,))
        outputs = {"few": keras.layers.Dense(3)(x), "many": keras.layers.Dense(10)(x)}
        return keras.Model(x, outputs)

    def network(loss, few):
        targets = {"few": few, "many": y}
        return Recipe(build_two, (x, targets), keras.optimizers.SGD(0.1), loss, 4, 1).network

    x, y = np.zeros((20, 3)), np.arange(20) % 10
    of_few, of_many = ({name: LOSSES["object"]} for name in ("few", "many"))
    for loss in (LOSSES["name"], of_few | of_many, of_few):
        assert network(loss, y % 3)
        with pytest.raises(ValueError, match="from 0 to 2.*from 0 to 9"):
            network(loss, y)
    assert network(of_many, y)  # nobody reads the others


def test_e12_ignored_class_is_no_label():
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=-1)
    x, y = np.zeros((20, 3)), np.arange(20) % 10
    y[3] = -1
    recipe = Recipe(build_classifier, (x, y), keras.optimizers.SGD(0.1), loss, 4, 1)
    assert recipe.network is not None
    y[3] = -2
    with pytest.raises(ValueError, match="labels from -2 to 9"):
        Recipe(build_classifier, (x, y), keras.optimizers.SGD(0.1), loss, 4, 1).facts  # noqa: B018


@pytest.mark.parametrize(
    "ells", [(1, 2, 2.0000000000004, 4), (1, 2, 2 + 1e-6, 4), (1, 4, 4 + 1e-9)]
)
def test_e12_ells_that_would_share_a_folder_or_batches(tmp_path, ells):
    with pytest.raises(ValueError) as error:
        run(tmp_path / "study", ells=ells)
    assert_one_sentence(error.value, "`ells`", "Received: ells=")
    assert not (tmp_path / "study").exists()
