"""`ft-tf demo` is compress with other defaults, or serves a page."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from unittest import mock

from absl import flags
from absl.testing import absltest

from ft_tf import errors
from ft_tf.cli import compress, demo, settings
from tests.browser import small_exports, small_litert

# `ft-tf` with stand-ins for the packages.
_COMMAND = (
  'import atexit, sys;'
  'from ft_tf import lazy_imports; from ft_tf.cli import main;'
  'atexit.register('
  '  lambda: print(lazy_imports.loaded_slow_packages(), file=sys.stderr));'
  'from tests.browser import small_litert;'
  'expected = small_litert.expected();'
  'expected.__enter__();'
  'main.main()'
)


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

  def test_page_trains_nothing(self):
    for arguments, reason in {
      ('--export=x', '--seeds=2'): 'leave out --seeds',
      ('--export=x', '--workdir=w'): 'leave out --workdir',
      ('--export=x',): 'x has no export.json',
      ('--export=',): 'no export.json',
      ('--port=0',): '--port is for the page.*--export=DIR',
      ('--litert=x',): '--litert is for the page',
    }.items():
      values = flags.FlagValues()
      demo.define_flags(values)
      values(['', *arguments])
      with self.assertRaisesRegex(errors.UsageError, reason):
        demo.run(values)

  def test_page_is_served_until_it_is_stopped(self):
    folder = os.path.join(self.create_tempdir().full_path, 'export')
    small_exports.write(folder, {'student_int8.tflite': b'model'})
    given = self.create_tempdir()
    for path, content in small_litert.files().items():
      given.create_file(f'@litertjs/{path}', content, mode='wb')
    command = [
      *(sys.executable, '-c', _COMMAND, 'demo', f'--export={folder}'),
      *(f'--litert={given.full_path}', '--port=0'),
    ]
    with subprocess.Popen(
      command,
      cwd=os.path.dirname(os.path.dirname(os.path.dirname(__file__))),
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
      # A shell starts what runs in the background with the signal ignored.
      preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
      self.addCleanup(process.kill)
      lines = iter(process.stderr.readline, '')
      found = (re.search(r'http://127.0.0.1:\d+/', line) for line in lines)
      url = next(filter(None, found))[0]
      with urllib.request.urlopen(f'{url}files/student_int8.tflite') as answer:
        self.assertEqual(answer.read(), b'model')
      process.send_signal(signal.SIGINT)
      self.assertEqual(json.loads(process.stdout.read()), {'url': url})
      self.assertEndsWith(process.stderr.read(), '[]\n')
    self.assertEqual(process.returncode, 0)


if __name__ == '__main__':
  absltest.main()
