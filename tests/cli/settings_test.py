"""Flags and recipe.json files to recipes."""

import dataclasses
import json

from absl import flags
from absl.testing import absltest, parameterized

from ft_tf import catalogue, errors, json_files, recipe_flags
from ft_tf.cli import flag_sets, settings
from ft_tf.training import stage


def _read(*arguments):
  values = flags.FlagValues()
  flag_sets.define_recipe(values, flag_sets.ALL_STAGES)
  values(['', *arguments])
  return settings.read_recipe(values)


class RecipeTest(parameterized.TestCase):
  def test_flags_replace_numbers_of_the_recipe(self):
    recipe = _read('--recipe=digits', '--mean=0.5', '--beta=auto', '--noflip')
    self.assertEqual(
      recipe,
      recipe_flags.override(
        catalogue.digits(), {'mean': (0.5,), 'beta': 'auto', 'flip': False}
      ),
    )

  def _config(self, written):
    path = self.create_tempfile('recipe.json').full_path
    with open(path, 'w') as file:
      file.write(json_files.to_json(written))
    return f'--config={path}'

  def test_config_of_a_compression_gives_its_recipe(self):
    recipe = recipe_flags.override(
      catalogue.get('cifar10_resnet56_resnet20'),
      {'beta': 'auto', 'rate': 0.75, 'teacher_layer': '-1,-2'},
    )
    config = self._config(
      {**dataclasses.asdict(recipe), 'seeds': 3, 'images_sha256': 'x'}
    )
    self.assertEqual(_read(config), recipe)
    again = _read(config, '--seed=5')
    self.assertEqual(again, recipe_flags.override(recipe, {'seed': 5}))

  def test_sizes_are_read_from_flags_and_from_a_config(self):
    recipe = _read('--recipe=digits', '--image_size=24x40')
    self.assertEqual(recipe.data.image_size, '24x40')
    again = _read(
      self._config(dataclasses.asdict(recipe)), '--student_image_size=12'
    )
    self.assertEqual(again.data.image_size, '24x40')
    self.assertEqual(again.student.student_image_size, 12)

  def test_size_of_a_command_without_a_recipe(self):
    values = flags.FlagValues()
    flag_sets.define_image_size(values)
    values(['', '--image_size=24x40'])
    self.assertEqual(settings.read_image_size(values), '24x40')
    values.image_size = '24x'
    with self.assertRaisesRegex(
      errors.UsageError, '^--image_size=24x: size .* such as 96x160$'
    ):
      settings.read_image_size(values)

  def test_sizes_can_be_swept(self):
    values = flags.FlagValues()
    flags.DEFINE_multi_string('sweep', [], '', flag_values=values)
    values(['', '--sweep=student_image_size=8,8x12'])
    self.assertEqual(
      settings.read_sweep(values), {'student_image_size': [8, '8x12']}
    )
    values.sweep = ['student_image_size=8x']
    with self.assertRaisesRegex(errors.UsageError, 'values as of its flag'):
      settings.read_sweep(values)

  def test_config_of_a_stage_gives_the_numbers_of_that_stage(self):
    recipe = recipe_flags.override(catalogue.digits(), {'student_epochs': 11})
    config = self._config(stage.identity('student', recipe))
    read = _read(config)
    self.assertEqual((read.student, read.data), (recipe.student, recipe.data))

  @parameterized.parameters('', '[]', '{"data": 3}', 'no JSON', '{"seeds": 1}')
  def test_other_files_are_refused(self, content):
    path = self.create_tempfile('other.json', content).full_path
    with self.assertRaisesRegex(
      errors.UsageError, rf'^--config={path}: give the recipe.json of a run'
    ):
      _read(f'--config={path}')

  def test_config_and_recipe_are_one_too_many(self):
    config = self._config(dataclasses.asdict(catalogue.digits()))
    with self.assertRaisesRegex(errors.UsageError, 'leave out --recipe'):
      _read(config, '--recipe=digits')

  def test_config_with_a_value_out_of_bounds_is_refused(self):
    written = json.loads(
      json_files.to_json(dataclasses.asdict(catalogue.digits()))
    )
    written['student']['epochs'] = 0
    with self.assertRaisesRegex(errors.UsageError, '--student_epochs=0'):
      _read(self._config(written))


if __name__ == '__main__':
  absltest.main()
