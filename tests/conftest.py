"""What pytest must do before any test module is imported.

absltest's temporary folders need parsed flags, and the tests that train on two
replicas need two logical CPU devices before TensorFlow is first used.
"""

import gc
import os
import tempfile
import types

import pytest
from absl import flags
from absl.testing import absltest  # noqa: F401  defines --test_tmpdir

import ft_tf  # noqa: F401  sets how TensorFlow computes

_SCRATCH = tempfile.TemporaryDirectory(prefix='ft_tf_test_')

# Files of tests that take half a minute and more, the longest first.
_LONGEST = (
  'wheel_test.py',
  'notebooks_test.py',
  'fuzz_command_lines_test.py',
  'fuzz_folders_test.py',
  'kills_test.py',
  'fuzz_files_test.py',
  'compression_test.py',
  'conformance_test.py',
  'machines_test.py',
  'comparison_test.py',
  'student_test.py',
  'pretrained_test.py',
  'quantisation_aware_test.py',
  'loop_test.py',
  'recipe_steps_test.py',
  'parts_test.py',
  'compare_quantisation_test.py',
  'compare_test.py',
  'compress_test.py',
  'compressions_test.py',
  'page_outputs_test.py',
  'applications_test.py',
  'twin_test.py',
  'api_test.py',
  'run_folders_test.py',
  'programs_test.py',
  'filling_test.py',
  'signals_test.py',
  'distillation_test.py',
  'given_teachers_test.py',
  'distiller_test.py',
  'distiller_tasks_test.py',
  'disk_full_test.py',
  'refused_commands_test.py',
  'doctor_test.py',
  'quantised_test.py',
  'paraphraser_test.py',
  'hostile_test.py',
  'teacher_test.py',
  'stages_test.py',
)


def pytest_configure():
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  # TensorFlow reads the level above; importing sets up the devices.
  from tensorflow.lite.python import lite  # noqa: PLC0415

  from tests import fixtures  # noqa: F401, PLC0415

  # Conversions collect the garbage of large networks, at every file. Here they
  # would look through all that earlier tests have left.
  lite.gc = types.SimpleNamespace(collect=lambda: 0)

  flags.FLAGS.mark_as_parsed()
  flags.FLAGS.test_tmpdir = _SCRATCH.name


def pytest_unconfigure():
  _SCRATCH.cleanup()


def pytest_collection_modifyitems(items):
  """Puts the longest files first.

  One that a process starts last would leave the other processes idle; those
  of the most tests, with which pytest-xdist would begin, are not the longest.
  """
  rank = {name: number for number, name in enumerate(_LONGEST)}
  items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
  """Starts every test at one seed, so that a failure repeats.

  Weights that no test seeds would otherwise differ from run to run, and now and
  then give a logit so near 0 that no relative tolerance holds.
  """
  # TensorFlow must not be imported before ft_tf has said how it computes.
  import keras  # noqa: PLC0415

  keras.utils.set_random_seed(0)


def pytest_runtest_teardown(item, nextitem):
  """Takes what a module's tests leave out of later garbage collections.

  TensorFlow keeps graphs that it has differentiated for good; to look through
  all of them again and again makes later tests several times slower.
  """
  if nextitem is None or nextitem.path != item.path:
    gc.collect()
    gc.freeze()
