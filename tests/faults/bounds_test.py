"""Numbers that are too large, not finite or not numbers, in every flag."""

import os
import random
import typing

from absl import flags
from absl.testing import absltest

from ft_tf import catalogue, errors, recipe_flags, sizes
from ft_tf.cli import dispatch
from ft_tf.export import student
from ft_tf.signals import cache
from ft_tf.training import loop

_SEED = int(os.environ.get('FT_TF_FAULTS_SEED', '0'))


class BoundsTest(absltest.TestCase):
  def setUp(self):
    super().setUp()
    self.draw = random.Random(_SEED)

  def _refused(self, flag, value):
    with self.assertRaisesRegex(errors.UsageError, rf'^--{flag}=') as caught:
      recipe_flags.override(catalogue.digits(), {flag: value})
    self.assertNotIn('\n', str(caught.exception))

  def test_every_number_of_a_recipe_has_an_upper_bound(self):
    count = 0
    for leaf in recipe_flags.leaves():
      kind = leaf.field.type
      is_tuple = typing.get_origin(kind) is tuple
      element = typing.get_args(kind)[0] if is_tuple else kind
      if element in (str, bool):
        continue
      count += 1
      large = 2 ** self.draw.randint(40, 300)
      values = [large] if element in (int, sizes.Size) else []
      if element in (float, float | str):
        values = [10.0 ** self.draw.randint(31, 300)]
        values += [float('nan'), float('inf'), -float('inf')]
      for value in values:
        self._refused(leaf.flag, (value,) if is_tuple else value)
    self.assertGreater(count, 40)

  def test_sizes_have_an_upper_bound_in_each_direction(self):
    for flag in ('image_size', 'student_image_size'):
      for value in ('8193', '8x9999999', '99999999x8', (8, 10**30)):
        self._refused(flag, value)

  def test_every_number_flag_of_a_command_has_an_upper_bound(self):
    of_recipes = {leaf.flag for leaf in recipe_flags.leaves()}
    for command in dispatch.COMMANDS:
      values = flags.FlagValues()
      dispatch._module(command).define_flags(values)
      for name in values:
        if name in of_recipes or values[name].flag_type() not in (
          'int',
          'float',
        ):
          continue
        for text in (str(10 ** self.draw.randint(20, 300)), 'inf', 'nan'):
          with self.subTest(command=command, flag=name, text=text):
            self._refused_by_command(command, name, text)

  def test_flag_file_that_is_none_is_a_line(self):
    folder = self.create_tempdir().full_path
    os.mkfifo(f'{folder}/pipe')
    with open(f'{folder}/bytes', 'wb') as file:
      file.write(b'--seed=\xd7')
    for name, reason in (
      ('pipe', 'is a pipe'),
      ('bytes', 'is not text'),
      ('missing', 'give the path of a text file'),
      ('', 'give the path of a text file'),
    ):
      values = flags.FlagValues()
      dispatch._module('train-teacher').define_flags(values)
      with self.assertRaisesRegex(errors.UsageError, reason):
        dispatch._parse(values, [f'--flagfile={folder}/{name}'], '')

  def test_empty_data_dir_is_refused(self):
    values = flags.FlagValues()
    dispatch._module('evaluate').define_flags(values)
    with self.assertRaisesRegex(errors.UsageError, '^--data_dir is empty'):
      dispatch._parse(values, ['--data_dir='], '')

  def _refused_by_command(self, command, name, text):
    values = flags.FlagValues()
    dispatch._module(command).define_flags(values)
    with self.assertRaises(errors.UsageError) as caught:
      dispatch._parse(values, [f'--{name}={text}'], '')
      # Those whose bounds are where they are used.
      if name in ('log_steps', 'checkpoint_steps', 'checkpoint_minutes'):
        loop.Options(**{name: values[name].value})
      elif name == 'signal_cache_gib':
        cache.Store('memory', budget_gib=values[name].value)
      elif name == 'max_drop':
        student.Options(max_drop=values[name].value)
    self.assertIn(f'--{name}', str(caught.exception))
    self.assertNotIn('\n', str(caught.exception))


if __name__ == '__main__':
  absltest.main()
