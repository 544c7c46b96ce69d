"""The model card: facts of the folder alone, whatever its names are."""

import os
import re

import markdown
import markdown_it
from absl.testing import absltest

from ft_tf import run_dir
from ft_tf.report import model_card
from tests.report import compression_folder, markup

_EVIL = (
  '<script>alert(1)</script>',
  '<img src=x onerror=alert(2)>',
  'a|b|c',
  '[click](javascript:alert(3))',
  '![x](http://evil.example/x.png)',
  '`code`\n\n# Heading\n',
  'http://evil.example www.evil.example <http://evil.example>',
  '**bold** _it_ \\| \\',
  'Käuzchen 鳥',
  '\u202egnp.exe',
  '',
  'x' * 500,
)


def _pages(text):
  """Returns the elements that a card becomes, by two readers of Markdown."""
  commonmark = markdown_it.MarkdownIt('commonmark', {'html': True})
  return [
    markup.Elements(markdown.markdown(text, extensions=['tables'])),
    markup.Elements(commonmark.enable('table').render(text)),
  ]


class CardTest(compression_folder.TestCase):
  def setUp(self):
    super().setUp()
    self.write_json(
      'recipe.json',
      {
        **compression_folder.RECIPE,
        'data': {
          'dataset': 'digits',
          'train_split': 'train',
          'test_split': 'test',
          'validation_examples': 200,
        },
        'student': {
          'model': 'resnet8x0.25',
          'method': 'ft',
          'epochs': 8,
          'learning_rate': 0.1,
          'weight_decay': 5e-4,
        },
        'seeds': 1,
      },
    )
    self.write_json('export/export.json', compression_folder.full_export(4000))
    self.folder.create_file('student/model.keras', 'weights')
    self._own('student/model.keras')
    self.write_predictions(['cat', 'dog', 'owl'])

  def _own(self, model):
    """Makes the export that of a file."""
    digest = run_dir.digest(os.path.join(self.root.path, model))
    self.write_json('export/.made_of.json', {'model_sha256': digest})

  def _card(self):
    path = model_card.write(self.root)
    self.assertEqual(path, f'{self.root.path}/export/model_card.md')
    with open(path, encoding='utf-8') as file:
      return file.read()

  def _section(self, title):
    return re.search(rf'## {title}\n\n(.*?)(?=\n## |\Z)', self._card(), re.S)[1]

  def test_card_has_the_run_and_its_figures(self):
    text = self._card()
    self.assertStartsWith(text, '# Model card: resnet8x0.25 on digits\n')
    for line in (
      '8x8 pixels, 3 channels (red, green, blue)',
      'the whole image, resized to 8x8 by bilinear interpolation with anti',
      '**Classes** (3): cat, dog, owl\n',
      'split train, without 200 images for validation',
      '1,000 images, split test',
      '**Network**: big.keras, trained in this run',
      '**Parameters**: 100,000\n',
      '**Test accuracy**: 95.00 %',
      'epochs 8, learning rate 0.1, weight decay 0.0005, seed 0',
      'student, factor transfer**: 90.00 % (1 seed; 5,000 parameters',
      'uint8 \\[1, 3\\], scale 0.25, zero point 128',
      'on x86\\_64, 2 cores',
    ):
      self.assertIn(line, text)

  def test_tables_by_class_are_complete(self):
    # 8 images of each class; the Keras student has 2 mistakes, int8 has 3.
    self.assertRegex(
      self._section('Accuracy by class'), r'\| cat +\| +8 \| +75.0 \| +62.5 \|'
    )
    self.assertRegex(self._section('Mistakes'), r'\| cat +\| +6 \| +2 \| +0 \|')

  def test_many_classes_show_the_lowest_and_the_most_confused(self):
    classes = [f'c{i}' for i in range(30)]
    self.write_predictions(classes)
    self.assertIn(
      'The 20 least accurate of 30 classes', self._section('Accuracy by class')
    )
    mistakes = self._section('Mistakes')
    self.assertRegex(mistakes, r'\| c0 +\| +c1 \| +2 \| +25.0 \|')
    self.assertEqual(mistakes.count('\n| c'), 20)
    self.assertIn('c19 and 10 more, see `labels.txt`', self._section('Use'))

  def test_layers_and_common_latency_are_shown_if_they_are_there(self):
    self.assertNotIn('Layers', self._card())
    self.write_json('export/layers.json', compression_folder.studied(['a|b']))
    self.write_json('export/latency.json', compression_folder.measured(1))
    text = self._card()
    self.assertRegex(text, r'\| a&#124;b +\| +99.50 \| +0.012 \|')
    self.assertIn('Fast One, 2 cores (avx2, amx)', text)
    self.assertNotIn('x86', text)

  def test_class_without_test_images_has_no_accuracy(self):
    values = compression_folder.predictions(['cat', 'dog'])
    values['classes'].append('owl')
    self.write_json('export/predictions.json', {'student.keras': values})
    self.assertRegex(
      self._section('Accuracy by class'), r'\| owl +\| +0 \| +- \|'
    )
    self.assertIn('fewest test images, owl, has 0.', self._section('Limits'))

  def test_limits_are_what_the_folder_supports(self):
    limits = self._section('Limits')
    self.assertIn('1,000 test images', limits)
    self.assertIn('One student was trained', limits)
    self.assertIn('not by groups of people', limits)
    recipe = self.root.read('recipe.json')
    self.write_json('recipe.json', {**recipe, 'seeds': 5})
    self.assertNotIn('One student was trained', self._section('Limits'))

  def test_given_teacher_has_its_digest(self):
    recipe = self.root.read('recipe.json')
    self.write_json('recipe.json', {**recipe, 'teacher_sha256': 'f' * 64})
    teacher = self._section('Teacher')
    self.assertIn('big.keras, given', teacher)
    self.assertIn('f' * 64, teacher)

  def test_files_that_training_started_from_are_told_with_their_digests(self):
    recipe = self.root.read('recipe.json')
    weights = {'student_weights': '/models/small.h5'}
    self.write_json(
      'recipe.json',
      {
        **recipe,
        'student': {**recipe['student'], **weights},
        'student_sha256': 'e' * 64,
        'teacher_sha256': 'f' * 64,
      },
    )
    result = self.root.read('teacher/result.json')
    self.write_json('teacher/result.json', {**result, 'steps': 7})
    self.assertIn('big.keras, fine-tuned in this run', self._section('Teacher'))
    training = self._section('Training')
    self.assertIn(f'**Trained from**: small.h5, SHA-256 `{"e" * 64}`', training)

  def test_numbers_of_fine_tuning_are_told_where_they_were_chosen(self):
    recipe = self.root.read('recipe.json')
    self.assertNotIn('AdamW', self._section('Training'))
    chosen = {'optimizer': 'adamw', 'ema': 0.999, 'label_smoothing': 0.1}
    self.write_json(
      'recipe.json', {**recipe, 'student': {**recipe['student'], **chosen}}
    )
    self.assertRegex(
      self._section('Training'),
      r'\*\*Numbers\*\*: AdamW, epochs .*, label smoothing 0.1, moving average '
      'of the weights by 0.999, seed',
    )

  def test_export_of_another_model_says_nothing_of_the_run(self):
    self.folder.create_file('other.keras', 'other weights')
    self._own('other.keras')
    text = self._card()
    self.assertStartsWith(text, '# Model card of an exported classifier\n')
    for word in ('Teacher', '## Training', 'digits', 'resnet', 'x86'):
      self.assertNotIn(word, text)
    self.assertIn('1,000 images\n', text)

  def test_student_trained_for_int8_says_so(self):
    self.folder.create_file('qat/model.keras', 'further weights')
    self.write_json(
      'qat/recipe.json', {'qat': {'epochs': 2, 'learning_rate': 0.01}}
    )
    self.write_json(
      'qat/result.json',
      {
        **self.root.child('student').read('result.json'),
        'accuracy': 0.88,
        'float_accuracy': 0.89,
      },
    )
    self.assertNotIn('Quantisation-aware', self._card())
    self._own('qat/model.keras')
    self.assertIn(
      'Quantisation-aware training of the student**: 2 epochs, learning rate '
      '0.01; test accuracy after it 89.00 % in float, 88.00 % in simulated '
      'int8',
      self._section('Training'),
    )

  def test_export_beside_the_run_of_its_student(self):
    recipe = {**self.root.read('recipe.json'), 'stage': 'student'}
    del recipe['teacher'], recipe['seeds']
    root = run_dir.RunDir(self.create_tempdir().full_path)
    os.rename(
      os.path.join(self.root.path, 'export'), os.path.join(root.path, 'export')
    )
    os.rename(self.root.child('student').model, root.model)
    root.write('recipe.json', recipe)
    self.root = root
    text = self._card()
    self.assertStartsWith(text, '# Model card: resnet8x0.25 on digits\n')
    self.assertIn('epochs 8', text)
    self.assertNotIn('## Teacher', text)

  def test_export_without_a_run_or_predictions(self):
    root = run_dir.RunDir(self.create_tempdir().full_path)
    os.rename(
      os.path.join(self.root.path, 'export'), os.path.join(root.path, 'export')
    )
    os.remove(os.path.join(root.path, 'export/predictions.json'))
    self.root = root
    text = self._card()
    self.assertNotIn('by class\n', text)
    self.assertIn('student\\_int8.tflite', text)

  def test_crop_is_described(self):
    export = self.root.read('export/export.json')
    export['student.keras']['preprocessing'] |= {
      'resizing': 'crop',
      'central_fraction': 0.875,
      'sizes': [[16, 16], [8, 8]],
    }
    self.write_json('export/export.json', export)
    self.assertIn(
      'the middle square, 0.875 of the shorter side, resized to 16x16, then to '
      '8x8',
      self._section('Use'),
    )
    export['student.keras']['preprocessing']['sizes'] = [[24, 40]]
    self.write_json('export/export.json', export)
    self.assertIn(
      'the middle part, 0.875 of the largest of 24 to 40, resized to 24x40 by',
      self._section('Use'),
    )

  def test_names_cannot_change_the_card(self):
    def write(names):
      self.write_predictions(names)
      export = self.root.read('export/export.json')
      for entry in export.values():
        entry['worst_class']['label'] = names[0]
      self.write_json('export/export.json', export)
      recipe = self.root.read('recipe.json')
      recipe['data']['dataset'] = names[1]
      recipe['teacher']['model'] = names[3]
      recipe['student']['model'] = names[5]
      self.write_json('recipe.json', recipe)
      return self._card()

    plain = write([f'name{i}' for i in range(len(_EVIL))])
    text = write(_EVIL)
    for changed, unchanged in zip(_pages(text), _pages(plain), strict=True):
      self.assertEqual(changed.tags, unchanged.tags)
      self.assertEmpty([*changed.loads, *changed.links, *changed.handlers])
    self.assertLen(text.splitlines(), len(plain.splitlines()))
    for address in ('http:', 'www.', 'javascript:', '\u202e'):
      self.assertNotIn(address, text)
    self.assertIn('Käuzchen 鳥', text)
    self.assertNotIn('x' * 100, text)

  def test_card_replaces_the_one_before(self):
    self._card()
    self.write_run('student', 'ft', 0, 0.1234, 5_000, 60.6)
    self.assertIn('12.34 %', self._card())
    hidden = os.listdir(f'{self.root.path}/export')
    self.assertEmpty([n for n in hidden if n.startswith('.writing')])


if __name__ == '__main__':
  absltest.main()
