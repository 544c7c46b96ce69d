"""The help of every command, and what a command without flags asks for."""

import glob
import os
import re
import subprocess
import sys

from absl import flags
from absl.testing import absltest, parameterized

from ft_tf import catalogue, recipe_flags
from ft_tf.cli import compress, dispatch, flag_sets, help_text
from tests.cli import commands

# Stands for TensorFlow: a command that imports it ends Python at once.
_STUB = "import os; os.write(2, b'imported'); os._exit(99)\n"
_WIDTHS = (60, 80, 100)


def _flags_of(command):
  """Returns the names of a command's flags."""
  ((code, out, _),) = commands.each(command, ['--help'])
  assert code == 0
  return {
    name.removeprefix('[no]')
    for name in re.findall(r'(?m)^  --((?:\[no\])?\w+)', out)
  }


class HelpTest(parameterized.TestCase):
  @parameterized.parameters(*dispatch.COMMANDS)
  def test_help_is_the_manual_then_flags_in_groups(self, command):
    ((code, out, err),) = commands.each(command, ['--help'])
    self.assertEqual((code, err), (0, ''))
    self.assertIn(f'\n  ft-tf {command}', out)
    groups = re.findall(r'(?m)^(\w[\w ]+):$', out)
    known = [group.capitalize() for group in flag_sets.GROUPS]
    self.assertEqual(groups, [group for group in known if group in groups])
    self.assertNotEmpty(groups)
    # Every flag tells its default, or that it is required.
    for flag in re.split(r'(?m)^  --', out)[1:]:
      text = ' '.join(flag.split('\n\n')[0].split())
      self.assertRegex(text, r'(\[.*\]|\(required.*\)|\(default: .*\))$')

  @parameterized.parameters(*_WIDTHS)
  def test_lines_fit_the_width(self, width):
    values = flags.FlagValues()
    compress.define_flags(values)
    for full in (False, True):
      text = help_text.render(values, compress.__doc__, full=full, width=width)
      # The commands of the manual stay as they are.
      for line in text.splitlines()[6:]:
        self.assertLessEqual(len(line), width, line)

  def test_defaults_are_those_of_the_chosen_recipe(self):
    for name in ('digits', 'cifar10_resnet56_resnet20'):
      ((_, out, _),) = commands.each('compress', [f'--recipe={name}', '--help'])
      epochs = catalogue.get(name).student.epochs
      self.assertRegex(
        ' '.join(out.split()), rf'--student_epochs=N [^\[]*\[{epochs}\]'
      )

  def test_full_help_has_the_defaults_of_all_recipes(self):
    ((_, out, _),) = commands.each('compress', ['--helpfull'])
    ((_, short, _),) = commands.each('compress', ['--help'])
    text = ' '.join(out.split())
    self.assertRegex(text, r'--student_epochs=N [^\[]*\[30; .*digits 8;.*\]')
    self.assertLess(len(short), len(out) / 2)

  def test_every_number_of_a_recipe_is_a_flag_of_compress_and_doctor(self):
    numbers = {leaf.flag for leaf in recipe_flags.leaves()}
    self.assertContainsSubset(numbers, _flags_of('compress'))
    self.assertEqual(_flags_of('compress'), _flags_of('doctor'))
    # With --export the demo is a page in the browser.
    page = {'export', 'litert', 'port'}
    self.assertEqual(_flags_of('compress') | page, _flags_of('demo'))

  def test_each_program_of_a_checkout_is_a_command(self):
    names = {
      os.path.basename(path).removesuffix('.py')
      for path in glob.glob(os.path.join(commands.ROOT, 'bin', '*.py'))
    }
    self.assertEqual(names, {*dispatch.COMMANDS.values()})


class WithoutTensorFlowTest(parameterized.TestCase):
  """What answers in well under a second: TensorFlow takes several."""

  def _run(self, *arguments):
    stubs = self.create_tempdir().full_path
    for name in ('keras', 'numpy', 'tensorflow', 'tensorflow_datasets'):
      with open(os.path.join(stubs, f'{name}.py'), 'w') as file:
        file.write(_STUB)
    return subprocess.run(
      [sys.executable, *arguments],
      env={
        **os.environ,
        'PYTHONPATH': os.pathsep.join([stubs, commands.ROOT]),
      },
      capture_output=True,
      text=True,
      check=False,
    )

  @parameterized.parameters(*dispatch.COMMANDS)
  def test_help(self, command):
    done = self._run('-m', 'ft_tf', command, '--help')
    self.assertEqual((done.returncode, done.stderr), (0, ''))

  def test_overview_has_a_line_for_each_command(self):
    done = self._run('-m', 'ft_tf', '--help')
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    for command in dispatch.COMMANDS:
      self.assertRegex(done.stdout, rf'(?m)^  {command} +\w.*\.$')
    self.assertLessEqual(max(map(len, done.stdout.splitlines())), 80)

  @parameterized.parameters(
    (['--help'], 'compress'),
    (['compress', '--help'], '--student'),
    (['compress', '--list_recipes'], 'cifar10_resnet56_resnet20'),
  )
  def test_python_without_docstrings_leaves_them_out(self, arguments, word):
    done = self._run('-OO', '-m', 'ft_tf', *arguments)
    self.assertEqual(done.returncode, 0, done.stderr)
    self.assertIn(word, done.stdout)

  @parameterized.parameters(
    (['compress', '--epochs=3'], r'--student_epochs'),
    (['compress', '--recipe=cifar10', '--help'], 'cifar10_resnet56_resnet20'),
    (['compress', '--batch_size=many'], '--batch_size=many'),
    (['compress', 'digits'], "'digits' is not a flag: write --name=value"),
    (['compres'], 'did you mean compress or compare?'),
    (['runs', '/no/such/folder'], 'there is no folder /no/such/folder'),
  )
  def test_wrong_command_line_is_one_line(self, arguments, words):
    done = self._run('-m', 'ft_tf', *arguments)
    self.assertEqual((done.returncode, done.stdout), (2, ''), done.stderr)
    self.assertLen(done.stderr.splitlines(), 1)
    self.assertStartsWith(done.stderr, 'ft-tf')
    self.assertIn(words, done.stderr)

  def test_no_command_prints_the_overview_and_fails(self):
    done = self._run('-m', 'ft_tf')
    self.assertEqual(done.returncode, 2)
    self.assertIn('ft-tf demo', done.stdout)

  def test_recipes_are_listed(self):
    done = self._run('-m', 'ft_tf', 'compress', '--list_recipes')
    self.assertEqual(done.returncode, 0, done.stderr)
    listed = commands.result(done.stdout)['recipes']
    self.assertEqual(
      [row['recipe'] for row in listed], sorted(catalogue.RECIPES)
    )
    self.assertIn('| digits ', done.stderr)
    for row in listed:
      self.assertNotEmpty(row['description'])

  def test_a_program_of_a_checkout_calls_itself_by_its_name(self):
    done = self._run(os.path.join(commands.ROOT, 'bin', 'compare.py'), '--x=1')
    self.assertEqual(done.returncode, 2)
    self.assertStartsWith(done.stderr, 'compare.py: there is no flag --x')


class MissingTest(parameterized.TestCase):
  @parameterized.parameters(
    *(name for name in dispatch.COMMANDS if name != 'demo')
  )
  def test_what_is_missing_is_asked_for(self, command):
    lines = [[]]
    if command in ('train-student', 'train-paraphraser'):
      lines.append(
        [
          '--recipe=digits',
          f'--data_dir={self.create_tempdir().full_path}',
          f'--workdir={commands.NOWHERE}',
        ]
      )
    for code, out, err in commands.each(command, *lines):
      self.assertEqual((code, out), (2, ''))
      self.assertRegex(err, rf'^ft-tf {command}: .*give --\w+.*\n$')
    self.assertFalse(os.path.exists(commands.NOWHERE))


if __name__ == '__main__':
  absltest.main()
