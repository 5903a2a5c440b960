"""All metadata of the package. Tool settings are in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
REPOSITORY = "keras-svag/keras-svag"  # on GitHub; also in mkdocs.yml
GITHUB = f"https://github.com/{REPOSITORY}"


def read_version():
    """The version, read as text: importing the package would import Keras."""
    text = (ROOT / "keras_svag" / "version.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE).group(1)


def read_long_description():
    """The README, with links to the files of this version; nothing where there is none."""
    readme = ROOT / "README.md"
    if not readme.exists():
        return ""
    # Relative links, which work in a clone and on GitHub, lead nowhere on PyPI.
    tag, relative = f"v{read_version()}", r"(?!https?://|#)"
    images = f"https://raw.githubusercontent.com/{REPOSITORY}/{tag}/"
    text = readme.read_text(encoding="utf-8")
    text = re.sub(rf"(!\[[^\]]*\]\(){relative}", rf"\g<1>{images}", text)
    return re.sub(rf"\]\({relative}", f"]({GITHUB}/blob/{tag}/", text)


setup(
    name="keras-svag",
    version=read_version(),
    description=(
        "Is SGD well modelled by its stochastic differential equation? SVAG and gradient noise "
        "measurements for Keras."
    ),
    long_description=read_long_description(),
    long_description_content_type="text/markdown",
    license_expression="Apache-2.0",
    license_files=["LICENSE"],
    author="The keras_svag authors",
    url=GITHUB,
    project_urls={
        "Documentation": "https://keras-svag.github.io/keras-svag/",
        "Source": GITHUB,
        "Issues": f"{GITHUB}/issues",
        "Changelog": f"{GITHUB}/blob/main/CHANGELOG.md",
        "Paper": "https://arxiv.org/abs/2102.12470",
    },
    keywords=["keras", "sgd", "sde", "svag", "gradient noise", "linear scaling rule"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        # Up to the newest for which there is a TensorFlow; those of .github/workflows/tests.yml.
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    # The trainers and configs of the checkout are installed side by side, so that trainers/flags.py
    # finds the configs in both places. Not below keras_svag, whose import takes seconds: programs
    # handle signals before it.
    packages=[
        *find_packages(include=["keras_svag", "keras_svag.*"]),
        "keras_svag_bin.configs",
        "keras_svag_bin.trainers",
    ],
    package_dir={
        "keras_svag_bin.configs": "configs",
        "keras_svag_bin.trainers": "trainers",
    },
    package_data={"keras_svag": ["py.typed", "**/*.jinja"]},
    entry_points={
        "console_scripts": [
            "svag-branched-batch-size = keras_svag_bin.trainers.branched_batch_size:main",
            "svag-compare = keras_svag_bin.trainers.commands:compare",
            "svag-judge = keras_svag_bin.trainers.commands:judge",
            "svag-linear-scaling = keras_svag_bin.trainers.linear_scaling:main",
            "svag-noisy-gradient-descent = keras_svag_bin.trainers.noisy_gradient_descent:main",
            "svag-plot = keras_svag_bin.trainers.commands:plot",
            "svag-sde-validity = keras_svag_bin.trainers.sde_validity:main",
            "svag-status = keras_svag_bin.trainers.commands:status",
            "svag-train = keras_svag_bin.trainers.train:main",
            "svag-weak-convergence = keras_svag_bin.trainers.weak_convergence:main",
        ]
    },
    # The lower bounds were tried with `make oldest`: keras 3.12.0, numpy 1.26.0 and the others in
    # .ci/oldest.txt, with tensorflow-cpu 2.16.1 and with jax 0.5.3. The newest that were tried are
    # keras 3.15.1, tensorflow-cpu 2.21.0, jax 0.10.2 and numpy 2.4.6; with Python 3.13 a quick
    # study and some tests also with jax 0.12.0.1 and numpy 2.5.5.
    install_requires=[
        "absl-py>=2.0",
        "cloudpickle>=3.0",  # functions of notebooks and scripts, to worker processes
        "filelock>=4.0",
        "jinja2>=3.1",
        "keras>=3.12",
        "matplotlib>=3.8",
        "ml-collections>=1.0",
        "numpy>=1.26",
        "rich>=13.7",
        "scipy>=1.11",
    ],
    # As with Keras itself, the backend is the user's choice: the distributions of TensorFlow ship
    # the same files, so a hard `tensorflow` would collide with the other two.
    extras_require={
        "tensorflow": ["tensorflow>=2.16"],
        "tensorflow-cpu": ["tensorflow-cpu>=2.16"],
        "cuda": ["tensorflow[and-cuda]>=2.16"],
        # Stops at 2.20, while tensorflow goes on.
        "tpu": ["tensorflow-tpu>=2.16"],
        # 0.5.3 with Keras 3.12 was tried, and 0.10.2 with Keras 3.15.
        "jax": ["jax>=0.5.3"],
        "jax-cuda": ["jax[cuda12]>=0.5.3"],
        "jax-tpu": ["jax[tpu]>=0.5.3"],
        # The compiler for TPUs, on a machine without one; jax[tpu] pins the libtpu of its version.
        "tpu-compile": ["jax[tpu]>=0.10.2"],
        "tfds": [
            "tensorflow-datasets>=4.9.10",
            # tensorflow-datasets 4.9.10 imports it, but does not declare it.
            "importlib_resources",
        ],
        # The data of configs/digits.py.
        "digits": ["scikit-learn>=1.3"],
        # Event files of studies, which are left out without it.
        "tensorboard": ["tensorboard>=2.16"],
        # For studies in gs:// and s3://. Only the lower bound of fsspec was tried, by itself.
        "remote": ["fsspec>=2024.6", "gcsfs>=2024.6", "s3fs>=2024.6"],
        # What `python -m benchmarks.run` compares with; nothing else needs it.
        "benchmarks": ["torch>=2.0"],
        # What they warn about, which fails the build, changes from one version to the next.
        "docs": [
            "markdown>=3.6",
            "mkdocs==1.6.*",
            "mkdocs-material==9.*",
            "mkdocstrings==1.*",
            "mkdocstrings-python==2.*",
        ],
        "test": [
            "build>=1.0",
            # tests/faults/cluster_test.py, which is skipped without it.
            "distributed",
            "hypothesis",
            "ipykernel",
            # As for the formatter below.
            "mypy==2.4.*",
            "nbclient>=0.8",
            "nbformat",
            "pandas",
            "pillow",
            "pytest>=8",
            "pytest-xdist>=3.5",
            # What a formatter does changes from one minor version to the next.
            "ruff==0.17.*",
            # As in the extras `digits` and `tensorboard`.
            "scikit-learn>=1.3",
            "tensorboard>=2.16",
        ],
    },
)
