"""`ft-tf demo` is compress with other defaults."""

from unittest import mock

from absl import flags
from absl.testing import absltest

from ft_tf.cli import compress, demo, settings


class DemoTest(absltest.TestCase):
  def _run(self, *arguments):
    """Returns the flags that compress is run with."""
    values = flags.FlagValues()
    demo.define_flags(values)
    values(['', *arguments])
    with mock.patch.object(compress, 'run') as run:
      demo.run(values)
    run.assert_called_once_with(values)
    return values

  def test_it_is_the_digits_over_five_seeds_with_a_baseline(self):
    values = self._run()
    recipe = settings.read_recipe(values)
    self.assertEqual(recipe.data.dataset, 'digits')
    self.assertEqual(recipe.precision, 'float32')
    self.assertEqual((values.seeds, values.baseline), (5, True))
    self.assertEqual(values.workdir, 'runs/demo')
    self.assertEqual(values.data_dir, 'runs/demo/data')

  def test_flags_of_compress_change_it(self):
    values = self._run(
      '--workdir=x', '--seeds=2', '--nobaseline', '--beta=3', '--data_dir=d'
    )
    self.assertEqual(settings.read_recipe(values).student.beta, 3.0)
    self.assertEqual((values.seeds, values.baseline), (2, False))
    self.assertEqual((values.workdir, values.data_dir), ('x', 'd'))


if __name__ == '__main__':
  absltest.main()
