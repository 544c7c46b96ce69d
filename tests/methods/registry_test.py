"""Names to terms: what each asks for, with the recipe's numbers."""

import keras
import numpy as np
from absl.testing import absltest, parameterized

from ft_tf import catalogue, errors, factors, recipe_flags
from ft_tf.data import example_sets
from ft_tf.methods import factor_transfer, registry
from ft_tf.models import layers, zoo

_SPEC = layers.Spec((16, 16, 1), 10, (0.5,), (0.25,))


class RegistryTest(parameterized.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    keras.utils.set_random_seed(0)
    teacher = zoo.build('resnet14', _SPEC)
    cls.paraphraser = factors.Paraphraser(0.5)
    cls.paraphraser.build((None, 4, 4, 64))
    cls.parts = {
      'teacher': teacher,
      'student': zoo.build('resnet8x0.5', _SPEC),
      'examples': example_sets.Examples(
        np.zeros((2, 16, 16, 1), np.uint8), np.zeros(2, np.int64)
      ),
    }

  def _make(self, method, paraphraser=None, **values):
    recipe = recipe_flags.override(
      catalogue.digits(),
      {
        'method': method,
        'precision': 'float32',
        'teacher_layer': 'auto',
        'student_layer': 'auto',
        **values,
      },
    )
    return registry.make(
      recipe,
      registry.Parts(
        **self.parts, paraphrasers=[paraphraser] if paraphraser else []
      ),
    )

  def test_scratch_has_no_terms(self):
    self.assertEmpty(self._make('scratch'))

  def test_sum_has_the_terms_in_order_with_the_recipes_weights(self):
    transfer, targets = self._make(
      'ft+kd', self.paraphraser, beta=3.0, kd_alpha=0.25
    )
    self.assertEqual((transfer.name, targets.name), ('factor_transfer', 'kd'))
    self.assertEqual((transfer.weight, targets.weight), (3.0, 0.25))

  @parameterized.parameters(
    ('at', 'at_beta'),
    ('fitnet', 'fitnet_weight'),
    ('sp', 'sp_gamma'),
    ('ofd', 'ofd_weight'),
  )
  def test_weight_is_a_number_of_the_recipe(self, method, flag):
    (term,) = self._make(method, **{flag: 0.125})
    self.assertEqual((term.name, term.weight), (method, 0.125))

  def test_teacher_is_frozen(self):
    self._make('kd')
    self.assertEmpty(self.parts['teacher'].trainable_variables)

  def test_missing_paraphraser_is_asked_for(self):
    with self.assertRaisesRegex(errors.UsageError, 'give --paraphraser'):
      self._make('ft')

  @parameterized.parameters(
    ('auto,-2', 'auto', 'as many layers of one as of the other'),
    ('auto,auto', 'auto,auto', 'each pair once'),
    ('auto,group3', 'auto,-1', 'mean one pair of layers twice'),
  )
  def test_layers_that_are_no_pairs_are_refused(self, theirs, ours, message):
    with self.assertRaisesRegex(errors.UsageError, message):
      self._make('ft_no_paraphraser', teacher_layer=theirs, student_layer=ours)

  def test_layers_that_ask_for_different_rates_are_refused(self):
    recipe = recipe_flags.override(
      catalogue.digits(),
      {
        'method': 'ft_no_translator',
        'teacher_layer': 'group3,group2',
        'student_layer': 'group2,group2',
      },
    )
    with self.assertRaisesRegex(errors.UsageError, 'ask for 0.25, 0.5: give'):
      factor_transfer.paraphrase_rate(
        recipe, self.parts['teacher'], self.parts['student']
      )

  def test_without_translator_the_paraphraser_makes_the_students_channels(self):
    recipe = recipe_flags.override(
      catalogue.digits(), {'method': 'ft_no_translator'}
    )
    rate = factor_transfer.paraphrase_rate(
      recipe, self.parts['teacher'], self.parts['student']
    )
    self.assertEqual(rate, 0.5)
    rate = factor_transfer.paraphrase_rate(
      recipe, self.parts['student'], self.parts['teacher']
    )
    self.assertEqual(rate, 2.0)
    recipe = recipe_flags.override(recipe, {'method': 'ft', 'rate': 0.75})
    rate = factor_transfer.paraphrase_rate(
      recipe, self.parts['student'], self.parts['teacher']
    )
    self.assertEqual(rate, 0.75)


if __name__ == '__main__':
  absltest.main()
