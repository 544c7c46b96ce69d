"""Commands that a shell takes as they were given."""

import shlex

from absl.testing import absltest, parameterized

from ft_tf.report import commands


class ToShellTest(parameterized.TestCase):
  @parameterized.parameters(
    (
      ['python3', 'bin/compress.py', '--recipe=digits'],
      'python3 bin/compress.py --recipe=digits',
    ),
    (
      ['python3', '/venv/bin/ft-tf', 'compress', '--workdir=a b'],
      "ft-tf compress '--workdir=a b'",
    ),
    (
      ['python3', '/lib/ft_tf/__main__.py', 'compare', '--sweep=rate=1,2'],
      'python3 -m ft_tf compare --sweep=rate=1,2',
    ),
    (['python3'], 'python3'),
  )
  def test_known_commands(self, command, text):
    self.assertEqual(commands.to_shell(command), text)

  def test_words_survive_the_shell(self):
    words = ['python3', 'a.py', '--data=it\'s "$HOME" `x` ;rm *\n', '']
    self.assertEqual(shlex.split(commands.to_shell(words)), words)


if __name__ == '__main__':
  absltest.main()
