"""Modules that `import keras_svag` loads, and those that are loaded with the first study."""

import keras

from tests.backends import run_code

# Keras itself imports some of these where they are installed: so they are hidden from it too.
CODE = """
import sys

OPTIONAL = {"jinja2", "matplotlib", "ml_collections", "sklearn", "tensorboard"}
OPTIONAL.add("tensorflow_datasets")

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in OPTIONAL:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
import keras_svag

assert not OPTIONAL & set(sys.modules), OPTIONAL & set(sys.modules)
assert not [name for name in sys.modules if name.startswith("keras_svag.studies")]
try:
    keras_svag.no_such_name
except AttributeError as error:
    assert "no_such_name" in str(error)
else:
    raise AssertionError

del sys.meta_path[0]
assert keras_svag.check_sde is keras_svag.studies.check_sde
assert {"matplotlib", "tensorboard"} <= set(sys.modules)
"""


def test_import_is_light():
    run_code(CODE, backend=keras.backend.backend())
