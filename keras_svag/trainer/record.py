"""State of a run whose batch grows, saved with the weights of its model."""

import numpy as np

from keras_svag import _keras

ATTRIBUTE = "_batch_growth"
# Of a row of `keras_svag.advice.Recorder`.
COLUMNS = (
    "step",
    "batch_size",
    "learning_rate",
    "last_rate",
    "gradient_noise",
    "gradient_signal",
    "weight_norm",
)


class GrowthRecord(_keras.KerasSaveable):
    """Batch sizes of a run, the steps at which each began, and the latest readings of noise.

    They are no variables of the optimizer: Keras restores none of its variables if their number
    differs from that in the file. Without a schedule `sizes` is empty and nothing is saved.
    """

    def __init__(self):
        self.clear()

    def clear(self):
        """Forgets everything."""
        self.sizes, self.steps, self.rows, self.confirmations = [], [], [], 0

    def _obj_type(self):
        # Keras has a list of what an object that is saved may be; a loss is saved as it is.
        return "Loss"

    def __reduce__(self):
        # The base class would write a file, as of a model.
        return type(self), (), vars(self)

    def save_own_variables(self, store):
        """Writes the record into the entry of a file."""
        if self.sizes:
            store["sizes"] = np.array(self.sizes, np.int64)
            store["steps"] = np.array(self.steps, np.int64)
            store["confirmations"] = np.array(self.confirmations, np.int64)
            rows = [[row[name] for name in COLUMNS] for row in self.rows]
            store["rows"] = np.array(rows, np.float64).reshape(len(rows), len(COLUMNS))

    def load_own_variables(self, store):
        """Reads the record from the entry of a file, empty if there is none."""
        self.clear()
        if "sizes" in set(store.keys()):
            self.sizes = [int(size) for size in store["sizes"]]
            self.steps = [int(step) for step in store["steps"]]
            self.confirmations = int(store["confirmations"])
            self.rows = [_row(values) for values in store["rows"]]


def _row(values):
    row = dict(zip(COLUMNS, map(float, values), strict=True))
    return {**row, "step": int(row["step"]), "batch_size": int(row["batch_size"])}


def record_of(model):
    """Returns the record of a model; an `SVAGModel` has one, to any other it is added."""
    if not hasattr(model, ATTRIBUTE):
        setattr(model, ATTRIBUTE, GrowthRecord())
    return getattr(model, ATTRIBUTE)
