"""Damaged folders: one sentence, and nothing of it is used, whatever the files hold."""

import hashlib
import shutil
import warnings

import keras
import numpy as np
import pytest

from keras_svag import Recipe
from keras_svag.engine.files import records
from keras_svag.studies import SDEValidity, Training, load
from keras_svag.studies.status import read_status
from tests.studies.helpers import files_of

pytestmark = pytest.mark.usefixtures("without_figures")


def build(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])


RUN = "b4_ell1_seed0"


def study(seed=0):
    x = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)
    recipe = Recipe(build, (x, x[:, :1]), keras.optimizers.SGD(0.05), "mse", 4, epochs=2)
    return SDEValidity(recipe, ells=(1, 2), num_seeds=2, max_num_seeds=2, num_records=4, seed=seed)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("damage") / "study"
    run(workdir)
    return workdir


def run(workdir):
    return study().run(workdir, num_workers=1, show_progress=False)


def change_result(workdir, **changes):
    """A result that is as it was written, but for some of its entries; `None` removes one."""
    path = workdir / "runs" / RUN / "result.json"
    content = {**records.read_sealed(path), **changes}
    records.write_sealed(path, {k: v for k, v in content.items() if v is not None})


def copy_from_another_study(workdir, *names):
    """Puts files of a run of another study in the place of those of the same name."""
    other = workdir.with_name("other")
    study(seed=1).run(other, num_workers=1, show_progress=False)
    for name in names:
        shutil.copy(other / "runs" / RUN / name, workdir / "runs" / RUN / name)


def write(name, text):
    return lambda workdir: (workdir / "runs" / RUN / name).write_text(text)


DAMAGES = {
    "E3: no dict": write("result.json", "[]"),
    "E3: nothing in it": write("result.json", "{}"),
    "E3: cut": write("result.json", '{"status":'),
    "E3: not sealed": write("result.json", '{"status": "done"}'),
    "E3: unknown status": lambda workdir: change_result(workdir, status="finished"),
    "E3: locked": lambda workdir: change_result(workdir, status="locked"),
    "E3: a key is missing": lambda workdir: change_result(workdir, seconds=None),
    "E3: another run": lambda workdir: change_result(workdir, seed=1),
    "E3: another learning rate": lambda workdir: change_result(workdir, learning_rate=0.1),
    "E3: wrong type": lambda workdir: change_result(workdir, ell="1"),
    "E3: another study": lambda workdir: copy_from_another_study(workdir, "result.json"),
    "E3: of another study with its records": lambda workdir: copy_from_another_study(
        workdir, "result.json", "metrics.jsonl"
    ),
    "E2: records of another study": lambda workdir: copy_from_another_study(
        workdir, "metrics.jsonl"
    ),
    "E4: fewer records": lambda workdir: cut_records(workdir),
    "E2: no records": write("metrics.jsonl", ""),
}


def cut_records(workdir):
    path = workdir / "runs" / RUN / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize("case", DAMAGES)
def test_damaged_run_is_said_left_out_and_restored(finished, tmp_path, case):
    workdir, expected = shutil.copytree(finished, tmp_path / "copy"), load(finished)
    DAMAGES[case](workdir)
    before = files_of(workdir)
    with pytest.warns(UserWarning, match=f"{RUN}.*is damaged.*Repeat the command") as warned:
        loaded = load(workdir)
    assert len([w for w in warned if "is damaged" in str(w.message)]) == 1
    assert RUN not in {row["name"] for row in loaded.table} and len(loaded.table) == 3
    status = read_status(workdir)
    assert status.damaged == [RUN] and status.done == 3 and RUN in str(status)
    assert files_of(workdir) == before  # who reads does not train
    with pytest.warns(UserWarning, match=f"{RUN}.*is damaged.*restored from its last checkpoint"):
        result = run(workdir)
    assert records.to_json(result.details) == records.to_json(expected.details)
    assert_same_runs(workdir, finished)


def assert_same_runs(workdir, expected):
    """Same records to the byte, and results but for the seconds."""
    for name in ("metrics.jsonl", "result.json"):
        for path in (expected / "runs").glob(f"*/{name}"):
            other = workdir / path.relative_to(expected)
            if name == "metrics.jsonl":
                assert other.read_bytes() == path.read_bytes(), path
            else:
                pair = [records.read_sealed(p) for p in (other, path)]
                assert pair[0] | {"seconds": 0} == pair[1] | {"seconds": 0}, path


def test_damaged_run_without_checkpoint_is_trained_again(finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "copy")
    cut_records(workdir)
    shutil.rmtree(workdir / "runs" / RUN / "checkpoint")
    with pytest.warns(UserWarning, match="trained again"):
        run(workdir)
    assert_same_runs(workdir, finished)


def test_e3_run_folder_of_another_study_is_refused(finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "copy")
    copy_from_another_study(workdir, "result.json", "metrics.jsonl", "checkpoint/latest.npz")
    with pytest.warns(UserWarning, match="another study"):
        assert len(load(workdir).table) == 3
        with pytest.raises(ValueError, match=r"latest\.npz` must be one of this run.* study "):
            run(workdir)


def test_folder_in_place_of_the_records(finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "copy")
    path = workdir / "runs" / RUN / "metrics.jsonl"
    path.unlink()
    path.mkdir()
    with pytest.warns(UserWarning, match=f"{RUN}.*not a regular file"):
        assert len(load(workdir).table) == 3


def test_judge_names_the_damaged_runs(finished, tmp_path):
    workdir = shutil.copytree(finished, tmp_path / "copy")
    cut_records(workdir)
    with pytest.warns(UserWarning, match="is damaged"):
        judged = load(workdir).judge(closeness=1.3)
    assert records.read_json(judged.path)["damaged_runs"] == [RUN]


@pytest.mark.parametrize("text", ["[]", '{"4": 3}', '{"4": [{'])
def test_looks(finished, tmp_path, text):
    workdir = shutil.copytree(finished, tmp_path / "copy")
    before = (workdir / "looks.json").read_text()
    (workdir / "looks.json").write_text(text)
    for call in (load, run):
        with pytest.raises(ValueError, match=r"looks\.json.*damaged.*move it away"):
            call(workdir)
    (workdir / "looks.json").unlink()
    run(workdir)
    assert (workdir / "looks.json").read_text() == before


SETTINGS = {
    "config.json": ('{"study": "sde_validity"}', "[]", "{}"),
    "environment.json": ('{"facts": {"a": 1}}', '{"facts": null}', "{}", "[]"),
}


@pytest.mark.parametrize("name, text", [(n, t) for n, texts in SETTINGS.items() for t in texts])
def test_settings(finished, tmp_path, name, text):
    workdir = shutil.copytree(finished, tmp_path / "copy")
    (workdir / name).write_text(text)
    for call in (load, read_status):
        with pytest.raises(ValueError, match="copy"):
            call(workdir)


def train(workdir):
    training = Training(study().recipe, num_records=4)
    return training.run(workdir, show_progress=False)


def test_damaged_network_is_saved_again(tmp_path):
    result = train(tmp_path)
    path = tmp_path / "runs" / RUN / "model.keras"
    assert result["model_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    weights = keras.saving.load_model(path).get_weights()
    before = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert train(tmp_path) == result and path.read_bytes() == before
    path.write_bytes(before[:100] + bytes([before[100] ^ 8]) + before[101:])
    with pytest.warns(UserWarning, match="model.keras` is damaged. It is saved again"):
        train(tmp_path)
    for a, b in zip(keras.saving.load_model(path).get_weights(), weights, strict=True):
        np.testing.assert_array_equal(a, b)
    # A damaged summary is written again too.
    (tmp_path / "result.json").write_text('{"status"')
    assert train(tmp_path)["last_record"] == result["last_record"]
    assert records.read_sealed(tmp_path / "result.json")["status"] == "done"
