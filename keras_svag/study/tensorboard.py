"""The records of a run as TensorBoard scalars, at effective steps; needs no TensorFlow."""

import math
import pathlib
import time

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from keras_svag.study import records

FILE_NAME = "events.out.tfevents.0.keras_svag"
# What stands on the axis.
AXIS = ("step", "effective_step")


class EventLog:
    """Writes records to an event file, one after the other.

    Args:
        folder: where the file shall be; a file of an interrupted run there is replaced.
        rows: records that are there already, dicts as in `metrics.jsonl`.
    """

    def __init__(self, folder, rows=()):
        self._path = pathlib.Path(folder) / FILE_NAME
        opened = records.atomic_path(self._path, sync=False)
        with opened as temporary, open(temporary, "wb") as file:
            writer = RecordWriter(file)
            writer.write(
                Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString()
            )
            for row in rows:
                writer.write(_event(row))

    def append(self, row):
        """Adds a record.

        Args:
            row: dict from the name of a scalar to its value, with `effective_step`.
        """
        with records.writing(self._path), open(self._path, "ab") as file:
            RecordWriter(file).write(_event(row))


def _event(row):
    values = [
        Summary.Value(tag=name, simple_value=value)
        for name, value in row.items()
        if name not in AXIS and value is not None and math.isfinite(value)
    ]
    event = Event(wall_time=time.time(), step=row["effective_step"], summary=Summary(value=values))
    return event.SerializeToString()
