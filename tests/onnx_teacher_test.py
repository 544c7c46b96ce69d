"""A teacher in an ONNX file, through the stages behind it."""

import os
from unittest import mock

import numpy as np
import pytest
from absl.testing import absltest, parameterized

from ft_tf import (
  errors,
  exporting,
  recipe_fit,
  run_dir,
  teacher_check,
  teachers,
)
from ft_tf.data import datasets, example_sets, views
from ft_tf.models import model_files, onnx_session
from ft_tf.signals import cache
from ft_tf.training import incumbent, loop, paraphraser, student, teacher
from tests import fixtures, onnx_graphs
from tests.cli import commands

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's


def _write_judge_of_brightness(folder):
  """Writes a teacher that tells dark, bright and other images; returns it.

  It takes images normalised as ImageNet's.
  """
  nodes = [
    onnx_graphs.node('GlobalAveragePool', 'image', 'mean'),
    onnx_graphs.node('Flatten', 'mean', 'flat'),
    onnx_graphs.node('Gemm', 'flat brightness offset', 'logits'),
  ]
  weights = {
    'brightness': np.array([[1, -1, 0]] * 3, np.float32),
    'offset': np.array([0, 0, 1.5], np.float32),
  }
  proto = onnx_graphs.model(nodes, image=('n', 3, 16, 24), weights=weights)
  return onnx_graphs.write(os.path.join(folder, 'judge.onnx'), proto)


class _Judged(fixtures.Blobs):
  """Plain images of any brightness, labelled as the judge finds them."""

  def read(self, split):
    rng = np.random.default_rng({'train': 0, 'test': 1}[split])
    grey = rng.integers(256, size=(300, 1, 1, 1), dtype=np.uint8)
    images = np.broadcast_to(grey, (300, *self.image_shape)).copy()
    normalised = ((grey / 255 - _MEAN) / _STD).sum(axis=(1, 2, 3))
    labels = np.where(normalised > 1.5, 0, np.where(normalised < -1.5, 1, 2))
    return example_sets.Examples(images, labels)


def _recipe(**changes):
  return fixtures.short_recipe(
    **{
      'teacher': onnx_graphs.CNN,
      'preprocessing': 'imagenet',
      'mean': (0.5,) * 3,
      'std': (0.3,) * 3,
      'paraphraser_epochs': 1,
      'student_epochs': 1,
      'method': 'ft+kd',
      **changes,
    }
  )


class OnnxTeacherTest(parameterized.TestCase):
  def setUp(self):
    super().setUp()
    if onnx_graphs.MISSING:
      self.skipTest(f'not installed: {onnx_graphs.MISSING}')
    self.folder = self.create_tempdir().full_path

  def _run(self, name):
    return run_dir.RunDir(os.path.join(self.folder, name))

  def _train(self, stores):
    """Trains a student for each store of signals; returns what was given."""
    dataset = fixtures.blobs((16, 24, 3))
    recipe = _recipe()
    given = teachers.resolve(recipe, dataset)
    recipe = recipe_fit.check_parts(recipe, dataset, given.model).recipe
    work = {
      'strategy': fixtures.strategy(),
      'options': loop.Options(log_steps=1),
    }
    placed = teacher.obtain_teacher(
      recipe, dataset, run=self._run('teacher'), given=given, **work
    )
    work |= {
      'teacher': placed,
      'paraphrasers': paraphraser.train_paraphrasers(
        recipe, dataset, teacher=placed, run=self._run('paraphraser'), **work
      ),
    }
    for name, signals in stores.items():
      student.train_student(
        recipe, dataset, run=self._run(name), signals=signals, **work
      )
    return given

  def test_goes_the_whole_way_to_a_student(self):
    given = self._train({'student': None})
    terms = self._run('student').metrics()[-1]
    self.assertGreater(terms['factor_transfer'], 0)
    self.assertGreater(terms['kd'], 0)
    # What the run keeps serves without the file.
    dataset, run = fixtures.blobs((16, 24, 3)), self._run('teacher')
    placed = teachers.load(run.model, dataset)
    np.testing.assert_array_equal(
      placed.logits(dataset.test), given.logits(dataset.test)
    )
    # Nothing of it becomes a TFLite file.
    with mock.patch.object(exporting.student, 'export') as export:
      exporting.export_compared(run, dataset, loaded=placed.model)
    export.assert_not_called()

  @pytest.mark.slow
  def test_students_are_equal_and_those_of_the_cache_nearly(self):
    stores = {'ahead': None, 'again': None, 'kept': cache.Store('memory')}
    self._train(stores)
    ahead, again, kept = (
      model_files.load(self._run(name).model).get_weights() for name in stores
    )
    for one, same, other in zip(ahead, again, kept, strict=True):
      np.testing.assert_array_equal(one, same)
      np.testing.assert_allclose(one, other, atol=1e-3)  # float16 in the cache

  def test_pipeline_computes_the_signals_of_its_batches(self):
    dataset, recipe = fixtures.blobs((16, 24, 3)), _recipe()
    given = teachers.resolve(recipe, dataset)
    feature = paraphraser.compile_feature(
      given.model, '.relu.Relu_output_0', 'float32'
    )
    stream = views.stream(
      dataset.train,
      recipe.data,
      seed=0,
      first_step=1,
      last_step=4,
      signals=feature,
    )
    seen = 0
    for batch in stream:
      self.assertEqual(batch['signal'].shape, (16, feature.width))
      np.testing.assert_array_equal(
        feature.from_rows(batch['signal']), feature(batch['image'])
      )
      seen += 1
    self.assertEqual(seen, 3)

  def test_only_the_wanted_tensors_leave_onnx_runtime(self):
    dataset = fixtures.blobs((16, 24, 3))
    given = teachers.resolve(_recipe(), dataset)
    made = []
    original = onnx_session.Session.__init__

    def note(session, model, image, tensors, *args):
      made.append(list(tensors))
      original(session, model, image, tensors, *args)

    with mock.patch.object(onnx_session.Session, '__init__', note):
      feature = paraphraser.compile_feature(
        given.model, '.relu.Relu_output_0', 'mixed_bfloat16'
      )
    self.assertEqual(made, [['/relu/Relu_output_0']])
    self.assertTrue(feature.calls_python)
    # Its precision is the file's, whatever that of the student.
    images = onnx_graphs.expected()
    np.testing.assert_allclose(
      feature(images['images']), images['relu'], atol=1e-4
    )

  def test_wrong_preprocessing_is_found_by_its_accuracy(self):
    dataset = datasets.Dataset(_Judged((16, 24, 3)), validation_examples=8)
    path = _write_judge_of_brightness(self.folder)
    for preprocessing in ('0..1', 'imagenet'):
      recipe = _recipe(teacher=path, preprocessing=preprocessing)
      given = teachers.resolve(recipe, dataset)
      found = {
        each.what: each.says
        for each in teacher_check.check(recipe, dataset, given, None)
      }
      accuracy = found['teacher accuracy']
      if preprocessing == 'imagenet':
        self.assertEqual(accuracy, '100.00 % of 300 test images')
        self.assertRegex(
          found['values in the teacher'], '^the first layer sees -2.12 to 2.64'
        )
      else:
        self.assertIn(
          '100.00 % with --preprocessing=imagenet, so --preprocessing=0..1 '
          'looks wrong',
          accuracy,
        )

  def test_what_needs_a_teacher_of_keras_is_refused(self):
    blobs = fixtures.blobs((16, 24, 3))
    four = mock.Mock(image_shape=(16, 24, 3), label_names=['a', 'b', 'c', 'd'])
    given = teachers.resolve(_recipe(), blobs)
    refused = {
      '^--teacher=.*cnn.onnx has 3 classes, the data set 4, and an ONNX file '
      'cannot be trained': lambda: teachers.resolve(
        _recipe(new_head=True), four
      ),
      'has 3 classes, the data set 4: give the data set': (
        lambda: teachers.resolve(_recipe(), four)
      ),
      'give the model.keras that ft-tf train-teacher --teacher=.* writes': (
        lambda: teachers.load(onnx_graphs.CNN, blobs)
      ),
      '--method=keras_distiller needs a teacher of Keras': (
        lambda: incumbent.compile_steps(
          fixtures.strategy(),
          teacher=given.model,
          student=None,
          optimizer=None,
          method='keras_distiller',
        )
      ),
      'is an ONNX file, which can be a --teacher and not be trained': (
        lambda: model_files.check_name(onnx_graphs.CNN, 'x')
      ),
    }
    for message, call in refused.items():
      with self.assertRaisesRegex(errors.UsageError, message):
        call()

  def test_commands_list_its_tensors_and_refuse_other_files_in_a_line(self):
    broken = os.path.join(self.folder, 'broken.onnx')
    with open(broken, 'w', encoding='utf-8') as file:
      file.write('no model')
    (code, out, err), *wrong = commands.each(
      'inspect', [f'--model={onnx_graphs.CNN}'], [f'--model={broken}']
    )
    self.assertEqual(code, 0, err)
    self.assertEqual(
      [each['layer'] for each in commands.result(out)['layers']],
      [
        '/stem/relu/Relu_output_0',
        '/pool/MaxPool_output_0',
        '/relu/Relu_output_0',
      ],
    )
    wrong += commands.each(
      'compress',
      [
        '--recipe=digits',
        f'--teacher={broken}',
        f'--workdir={commands.NOWHERE}',
      ],
      [
        '--recipe=digits',
        f'--student={onnx_graphs.CNN}',
        f'--workdir={commands.NOWHERE}',
      ],
    )
    for code, out, err in wrong:
      self.assertEqual((code, out), (2, ''))
      self.assertRegex(err, r'^ft-tf [a-z]+: .*\n$')
    self.assertFalse(os.path.exists(commands.NOWHERE))


if __name__ == '__main__':
  absltest.main()
