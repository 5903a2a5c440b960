"""TensorBoard logs of a study, without TensorFlow: scalars, hyperparameters, figures.

Nothing is written where the package tensorboard is not installed.
"""

import io
import math
import time

from keras_svag.engine.files import records, storage

try:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb
    from tensorboard.summary.writer.record_writer import RecordWriter
except ImportError:
    HAS_TENSORBOARD = False
else:
    HAS_TENSORBOARD = True

FILE_NAME = "events.out.tfevents.0.keras_svag"
MISSING = (
    "No TensorBoard logs are written, since tensorboard is not installed: "
    "pip install 'keras-svag[tensorboard]'"
)
# Not scalars of their own: the x axis.
AXIS = ("step", "effective_step")


class EventLog:
    """Event file of a run, which replaces that of an interrupted session.

    `rows` are the records so far, as in `metrics.jsonl`. Runs with equal `hyperparameters` form a
    session group in the HParams plugin.
    """

    def __init__(self, folder, rows=(), hyperparameters=None):
        self._path = folder / FILE_NAME
        if not HAS_TENSORBOARD:
            return
        first = [_event(0, hparams_pb(hyperparameters))] if hyperparameters else []
        _write_file(self._path, [*first, *map(_scalars, rows)])

    def append(self, row):
        """Appends a record: scalars by name, with `effective_step`."""
        if not HAS_TENSORBOARD:
            return
        with records.writing(self._path):
            storage.append(self._path, _frames([_scalars(row)]))

    def sync(self):
        """Makes the file survive a crash of the machine."""
        if not HAS_TENSORBOARD:
            return
        with records.writing(self._path):
            storage.sync(self._path)


def write_images(folder, images):
    """Writes PNG images (bytes by tag) to an event file, replacing it."""
    if not HAS_TENSORBOARD:
        return
    values = [
        Summary.Value(tag=name, image=Summary.Image(encoded_image_string=data, **_size(data)))
        for name, data in images.items()
    ]
    # Without wall time, so that equal images give equal files.
    event = Event(step=0, summary=Summary(value=values)).SerializeToString()
    _write_file(folder / FILE_NAME, [event], sync=True)


def _write_file(path, events, sync=False):
    version = Event(file_version="brain.Event:2").SerializeToString()
    records.make_folder(path.parent)
    records.write_bytes(path, _frames([version, *events]), sync)


def _frames(events):
    """Serialized events with their lengths and checksums, as in an event file."""
    content = io.BytesIO()
    writer = RecordWriter(content)
    for event in events:
        writer.write(event)
    return content.getvalue()


def _scalars(row):
    values = [
        Summary.Value(tag=name, simple_value=value)
        for name, value in row.items()
        if name not in AXIS and value is not None and math.isfinite(value)
    ]
    return _event(row["effective_step"], Summary(value=values))


def _event(step, summary):
    return Event(wall_time=time.time(), step=step, summary=summary).SerializeToString()


def _size(png):
    """Width and height, in bytes 16 to 23 of a PNG file."""
    width, height = (int.from_bytes(png[start : start + 4], "big") for start in (16, 20))
    return {"width": width, "height": height}
