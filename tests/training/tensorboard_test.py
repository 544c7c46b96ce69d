"""What TensorBoard shows of a run: tags in order, rows of their own."""

import json

from absl.testing import absltest, parameterized
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from ft_tf import catalogue, recipe_flags, run_dir
from ft_tf.training import stage, tensorboard


def _identity(name='student', base='digits', **values):
  """Returns the content of a run's `recipe.json`."""
  recipe = recipe_flags.override(catalogue.get(base), values)
  identity = stage.identity(name, recipe, teacher='0' * 64)
  return json.loads(json.dumps(identity))


class LogTest(absltest.TestCase):
  def _events(self, identity, method='ft'):
    self.run_dir = run_dir.RunDir(self.create_tempdir().full_path)
    self.run_dir.claim(identity)
    self.addCleanup(self.run_dir.release)
    log = tensorboard.Log(self.run_dir)
    log.describe(method)
    row = {
      'step': 10,
      'epoch': 1.0,
      'wall_seconds': 3.0,
      'loss': 1.5,
      'cross_entropy': 1.0,
      'train_accuracy': 0.5,
      'validation_accuracy': 0.25,
      'validation_cross_entropy': 2.0,
      'learning_rate': 0.1,
      'images_per_second': 7.0,
    }
    log.row(row)
    log.close(10, {'accuracy': 0.75, 'loss': 2.5, 'method': 'ft'})
    return event_accumulator.EventAccumulator(
      self.run_dir.tensorboard, size_guidance={'tensors': 0}
    ).Reload()

  def test_accuracies_come_first_and_losses_next(self):
    tags = sorted(self._events(_identity()).Tags()['tensors'])
    self.assertEqual(
      [tag for tag in tags if '/' in tag and '_hparams_' not in tag],
      [
        'accuracy/test',
        'accuracy/train',
        'accuracy/validation',
        'loss/test',
        'loss/train',
        'loss/validation',
        'run/epoch',
        'run/images_per_second',
        'run/learning_rate',
        'train/cross_entropy',
      ],
    )
    self.assertIn('recipe', tags)

  def test_session_has_the_numbers_and_no_list_of_columns_hides_others(self):
    events = self._events(_identity(beta=20.0), 'ft')
    metadata = events.summary_metadata
    # TensorBoard would take the columns of all runs from one run's list.
    self.assertNotIn('_hparams_/experiment', metadata)
    content = metadata['_hparams_/session_start_info'].plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content)
    session = start.session_start_info
    self.assertEqual(session.hparams['beta'].number_value, 20)
    self.assertEqual(
      session.group_name, tensorboard.trial_name(self.run_dir.path)
    )


class DifferingNumbersTest(parameterized.TestCase):
  def test_run_of_a_recipe_shows_only_what_it_is(self):
    self.assertEqual(
      tensorboard.differing_numbers(_identity(seed=3), 'ft'),
      {'recipe': 'digits', 'stage': 'student', 'method': 'ft', 'seed': 3},
    )

  def test_numbers_that_differ_from_the_nearest_recipe_are_shown(self):
    numbers = tensorboard.differing_numbers(
      _identity(beta=20.0, student_drop_epochs=(3,), student='resnet20'), 'ft'
    )
    self.assertEqual(numbers['recipe'], 'digits')
    self.assertEqual(numbers['beta'], 20.0)
    self.assertEqual(numbers['student_drop_epochs'], '[3]')
    self.assertEqual(numbers['student'], 'resnet20')
    self.assertLen(numbers, 7)

  def test_precision_that_the_machine_chose_is_not_shown(self):
    numbers = tensorboard.differing_numbers(
      _identity(base='cifar10_wrn16x2_wrn16x1', precision='mixed_bfloat16'),
      'ft',
    )
    self.assertEqual(numbers['recipe'], 'cifar10_wrn16x2_wrn16x1')
    self.assertNotIn('precision', numbers)

  def test_point_of_a_sweep_is_shown_where_it_is_the_recipes_own(self):
    beta = catalogue.digits().student.beta
    numbers = tensorboard.differing_numbers(_identity(), f'ft,beta={beta:g}')
    self.assertEqual(numbers['beta'], beta)

  @parameterized.parameters('teacher', 'paraphraser')
  def test_other_stages_have_no_numbers_of_the_student(self, name):
    numbers = tensorboard.differing_numbers(
      _identity(name, beta=20.0, teacher_epochs=7), name
    )
    self.assertNotIn('beta', numbers)
    self.assertEqual(numbers.get('teacher_epochs'), {'teacher': 7}.get(name))


class TrialNameTest(absltest.TestCase):
  def test_runs_of_two_workdirs_have_two_rows(self):
    one = tensorboard.trial_name('/a/runs/digits/student')
    other = tensorboard.trial_name('/b/runs/digits/student')
    self.assertStartsWith(one, 'student digits ')
    self.assertStartsWith(other, 'student digits ')
    self.assertNotEqual(one, other)


if __name__ == '__main__':
  absltest.main()
