"""Python's calls with values of any kind in the place of any argument.

Training itself is left out: what is tried is that a wrong value is refused
before it begins, in one line, and leaves nothing. `FT_TF_FAULTS_CASES` is the
number of each kind, `FT_TF_FAULTS_SEED` draws others.
"""

import decimal
import fractions
import inspect
import os
import pathlib
import shutil
import sys
from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl.testing import absltest
from hypothesis import strategies as st

from ft_tf import api, distiller, errors, recipe_flags
from tests import fixtures
from tests.faults import fuzzing

_CASES = int(os.environ.get('FT_TF_FAULTS_CASES', '150'))


class _BeganError(Exception):
  """The call has accepted what it was given."""


def _dense(image_shape):
  image = keras.Input(image_shape)
  x = keras.layers.Rescaling(1 / 255)(image)
  x = keras.layers.Conv2D(4, 3, activation='relu')(x)
  x = keras.layers.GlobalAveragePooling2D()(x)
  return keras.Model(image, keras.layers.Dense(3)(x))


def _odd_values():
  """Returns values of many types, as a notebook may hold them by mistake."""
  train = fixtures.Blobs().read('train')
  images, labels = train.images, train.labels
  numbers = [None, True, False, Ellipsis, 1j, decimal.Decimal('1.5')]
  numbers += [0, 1, -1, 3, 10**6, 2**31, 2**64, 10**30, 10**400]
  numbers += [fractions.Fraction(1)]
  numbers += [0.0, 0.5, -0.5, 1e-30, 1e308, float('nan'), float('inf')]
  numbers += [np.float32(2), np.int64(3), np.True_, np.array(3), np.nan]
  texts = ['', ' ', 'x', 'ft', 'auto', '\0', 'a\nb', 'a/b', '~', '\udcff']
  texts += ['/dev/null', '/dev/null/x', 'a' * 300, 'a' * 5000, '-1', '1e5']
  texts += ['fp32:nan', 'int8:', 'flexible:1e400', ':1', 'resnet20', 'digits']
  texts += [b'x', b'\xff', bytearray(b'a'), memoryview(b'a')]
  groups = [(), [], {}, set(), [1], (1, 2), ['int8_io'], [None], [['a']]]
  groups += [{'a': 1}, {1, 2}, range(3), iter([1]), (x for x in 'ab')]
  groups += [np.array([3]), np.array([[1.0, 2.0]]), [0.1, 'a'], (0.5,)]
  others = [lambda: 0, int, object(), sys, ValueError('x')]
  others += [pathlib.Path('p'), pathlib.Path('/dev/null')]
  others += [tf.constant(3), tf.constant([1.0, 2.0]), tf.Variable(1.0)]
  others += [keras.Input((3,)), keras.layers.Dense(3), keras.Sequential()]
  others += [_dense((8, 8, 1)), _dense((8, 8, 3)), _dense((6, 8, 1))]
  others += [images, labels, (images, labels), (images[:1], labels[:1])]
  others += [(images, labels + 1), (images[:, :4], labels), (images / 50, 0)]
  others += [tf.data.Dataset.range(5)]
  others += [tf.data.Dataset.from_tensor_slices((images, labels))]
  return [*numbers, *texts, *groups, *others]


def _cases(names, values):
  """Returns a strategy of no more than two arguments with odd values."""
  return st.dictionaries(
    st.sampled_from(names), st.sampled_from(values), max_size=2
  )


@pytest.mark.slow
class ArgumentsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.values = _odd_values()
    self.enterContext(
      mock.patch.object(api.compression, 'compress', side_effect=_BeganError)
    )
    # A relative path as workdir is one in here, and so is one of `~`.
    self.addCleanup(os.chdir, os.getcwd())
    self.folder = self.create_tempdir().full_path
    os.chdir(self.folder)
    self.enterContext(mock.patch.dict(os.environ, {'HOME': self.folder}))

  def test_distill_refuses_in_a_line_what_it_cannot_take(self):
    blobs = fixtures.Blobs()
    train, test = (
      (part.images, part.labels) for part in map(blobs.read, ('train', 'test'))
    )
    teacher, student = _dense((8, 8, 1)), _dense((8, 8, 1))
    of_call = [
      name
      for name, parameter in inspect.signature(api.distill).parameters.items()
      if parameter.kind != parameter.VAR_KEYWORD
    ]
    flags = [leaf.flag for leaf in recipe_flags.leaves()]
    good = {'teacher': teacher, 'student': student, 'train': train}
    good |= {'test': test, 'recipe': 'digits', 'validation_examples': 8}
    # The arguments of the call as often as all numbers together.
    names = [*of_call * (len(flags) // len(of_call)), *flags]
    self._try_all(names, lambda changes: api.distill(**{**good, **changes}))

  def test_distiller_refuses_in_a_line_what_it_cannot_take(self):
    teacher, student = _dense((8, 8, 1)), _dense((8, 8, 1))
    good = {'teacher': teacher, 'student': student}
    names = [
      name
      for name in inspect.signature(distiller.Distiller.__init__).parameters
      if name not in ('self', 'name')  # which Keras checks
    ]

    def call(changes):
      distiller.Distiller(**{**good, **changes})
      raise _BeganError

    self._try_all(names, call)

  def _try_all(self, names, call):
    def try_one(changes):
      try:
        call(changes)
      except _BeganError:
        end = 'began'
      except errors.UsageError as error:
        self.assertNotIn('\n', str(error), changes)
        self.assertEmpty(os.listdir(self.folder), changes)
        end = 'refused'
      for name in os.listdir(self.folder):
        shutil.rmtree(name)
      return end

    ends = fuzzing.count_ends(_cases(names, self.values), _CASES, try_one)
    self.assertGreater(ends['refused'], _CASES // 2)
    # The call without any odd value is among them.
    self.assertGreater(ends['began'], 0)


if __name__ == '__main__':
  absltest.main()
