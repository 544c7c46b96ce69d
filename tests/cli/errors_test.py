"""Wrong input to compress: one line with the fix, nothing written."""

import os

import keras
from absl.testing import absltest

from ft_tf.models import layers, zoo
from tests.cli import commands


class ErrorsTest(absltest.TestCase):
  def test_bad_input_is_one_line_with_the_fix_and_writes_nothing(self):
    folder = self.create_tempdir().full_path
    workdir = os.path.join(folder, 'new')
    file = self.create_tempfile('file').full_path
    home = os.path.expanduser('~')
    other_classes = os.path.join(folder, 'three.keras')
    keras.utils.set_random_seed(0)
    zoo.build('resnet8x0.25', layers.Spec((16, 16, 1), 3, (0.5,), (0.5,))).save(
      other_classes
    )
    digits = ('--recipe=digits', f'--data_dir={folder}/data')
    cifar = ('--recipe=cifar10_resnet56_resnet20',)
    cases = {
      'no data': ([], 'give --dataset'),
      'recipe': (['--recipe=nope'], "unknown recipe 'nope'.*--list_recipes"),
      'dataset': (['--recipe=digits', '--dataset=nope'], "no data set 'nope'"),
      'network': (
        [*digits, '--student=resnet21'],
        "unknown network 'resnet21'",
      ),
      'data folder': ([*cifar, '--data_dir=/no/such'], 'there is no folder'),
      'not prepared': ([*cifar, f'--data_dir={folder}'], 'ft-tf prepare-data'),
      'teacher file': (
        [*digits, '--teacher=no.keras'],
        'no.keras: give the path',
      ),
      'classes': (
        [*digits, f'--teacher={other_classes}'],
        'has 3 classes, the data set 10',
      ),
      'negative rate': (
        [*digits, '--student_learning_rate=-1'],
        '--student_learning_rate=-1.*above 0',
      ),
      'paraphrase rate': ([*digits, '--rate=0'], '--rate=0.*above 0'),
      'flag': ([*digits, '--bta=3'], 'bta'),
      'number': ([*digits, '--beta=much'], '--beta=much'),
      'split': ([*digits, '--train_split=nope'], "no split 'nope'"),
      'format': ([*digits, '--formats=float16'], 'float16: there is no such'),
      'budget': ([*digits, '--signal_cache_gib=nan'], '--signal_cache_gib=nan'),
      'workdir': ([*digits, f'--workdir={file}/x'], 'another --workdir'),
      'folder': ([*digits, '--dataset=folder'], '--dataset=folder:PATH'),
      'home': ([*digits, '--teacher=~/no.keras'], f' {home}/no.keras: '),
      'home of images': (
        [*digits, '--dataset=folder:~/no'],
        f'no folder {home}/no: ',
      ),
      'nobody': (
        [*digits, '--signal_cache=~nobody_here/x'],
        '~nobody_here has no home folder; give the whole path',
      ),
    }
    found = commands.each(
      'compress',
      *(
        [f'--workdir={workdir}', *arguments] for arguments, _ in cases.values()
      ),
    )
    for (name, (_, pattern)), (code, out, err) in zip(
      cases.items(), found, strict=True
    ):
      with self.subTest(name):
        self.assertEqual((code, out), (2, ''), err)
        self.assertLen(err.splitlines(), 1, err)
        self.assertRegex(err, f'^ft-tf compress: .*{pattern}')
    self.assertFalse(os.path.exists(workdir))
    self.assertFalse(os.path.exists(f'{folder}/data'))


if __name__ == '__main__':
  absltest.main()
